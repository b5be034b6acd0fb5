"""HTML reports of runs and studies."""
