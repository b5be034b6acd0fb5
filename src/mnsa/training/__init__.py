"""Learning: losses, stages, and the loop that Lightning runs."""
