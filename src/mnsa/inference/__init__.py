"""From a trained network to answers for files."""
