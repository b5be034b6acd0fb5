"""Search of enhancer widths with Optuna."""
