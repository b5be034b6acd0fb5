"""Which engines there are, what each can be asked for, and what it needs. Without torch."""

from collections.abc import Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import Literal

from mnsa.errors import ConfigError, ModelError

EngineName = Literal["torch", "onnx", "openvino"]
Precision = Literal["float32", "bfloat16", "int8"]

PRECISIONS: Mapping[EngineName, tuple[Precision, ...]] = MappingProxyType(
    {"torch": ("float32",), "onnx": ("float32", "int8"), "openvino": ("float32", "bfloat16", "int8")}
)
FILES: Mapping[EngineName, str] = MappingProxyType(
    {"torch": "model.pt2", "onnx": "model.onnx", "openvino": "model.xml"}
)
_TO_RUN: Mapping[EngineName, tuple[str, ...]] = MappingProxyType(
    {"torch": (), "onnx": ("onnxruntime",), "openvino": ("openvino",)}
)
_TO_WRITE = ("onnx", "onnxscript", "onnxruntime")  # OpenVINO's files are made from ONNX ones


def require_precision(engine: EngineName, precision: Precision) -> None:
    """Do nothing when `engine` knows `precision`. Raises: ConfigError."""
    if precision not in PRECISIONS[engine]:
        raise ConfigError(f"{engine} has no {precision} here. Expected {' or '.join(PRECISIONS[engine])}.")


def require_engine(engine: EngineName, *, to: Literal["run", "write"] = "run") -> None:
    """Do nothing when what `engine` needs is installed. Raises: ModelError naming what is missing."""
    needed = _TO_RUN[engine] + (_TO_WRITE if to == "write" and engine != "torch" else ())
    if missing := [name for name in dict.fromkeys(needed) if find_spec(name) is None]:
        raise ModelError(f"{engine} needs {', '.join(missing)}, not installed here: pip install 'mnsa[export]'.")
