"""Scores of predictions against the truth; knows nothing of networks."""
