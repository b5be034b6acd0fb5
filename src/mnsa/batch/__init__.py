"""Prediction for many files: batching, prefetching, resuming, sharing between processes."""
