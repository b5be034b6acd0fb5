"""Prediction of many files: batches, prefetching, resuming, several processes."""
