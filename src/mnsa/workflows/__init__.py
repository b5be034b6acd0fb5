"""What the commands do: evaluate, calibrate, export, fit_trees, import_checkpoint, measure_traits, probe."""
