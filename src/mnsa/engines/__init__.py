"""Exported networks: files that answer without mnsa, in torch, ONNX Runtime or OpenVINO."""
