"""What the data is: manifests, safe reading, splits, imports, checks, transforms and loaders."""
