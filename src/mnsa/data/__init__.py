"""Data sets: manifest, splits, decoding, transforms and the PyTorch data set."""
