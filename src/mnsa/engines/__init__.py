"""Exported networks: torch.export, ONNX Runtime, OpenVINO."""
