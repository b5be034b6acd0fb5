"""Training: losses, stages, optimizers, loggers, and `fit`, which runs all stages."""
