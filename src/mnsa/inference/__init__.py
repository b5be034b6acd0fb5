"""One image in, one prediction out: predictor, test-time augmentation, tiling, Grad-CAM, calibration."""
