"""Scores of predictions against the ground truth. Needs no network."""
