"""Engine names, precisions and files, and the spec that every exported network contains. Imports no torch.

B batch; H, W image size in pixels; K classes; M mask classes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from mnsa.errors import ConfigError, ModelError, install_command
from mnsa.io import parse_json

if TYPE_CHECKING:
    import numpy as np


EngineName = Literal["torch", "onnx", "openvino"]
Precision = Literal["float32", "bfloat16", "int8"]
# float32 (B, 3, h, w) -> the outputs, in the order of the spec
RunFunction = Callable[["np.ndarray"], Sequence["np.ndarray"]]

ENGINE_PRECISIONS: Mapping[EngineName, tuple[Precision, ...]] = MappingProxyType(
    {"torch": ("float32",), "onnx": ("float32", "int8"), "openvino": ("float32", "bfloat16", "int8")}
)

ENGINE_FILES: Mapping[EngineName, str] = MappingProxyType(
    {"torch": "model.pt2", "onnx": "model.onnx", "openvino": "model.xml"}
)

_RUNTIME_PACKAGES: Mapping[EngineName, tuple[str, ...]] = MappingProxyType(
    {"torch": (), "onnx": ("onnxruntime",), "openvino": ("openvino",)}
)

_EXPORT_PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # OpenVINO's files are converted from ONNX files

METADATA_KEY = "mnsa"  # of the spec, in the metadata of a file
INPUT_NAME = "images"
MIN_SIDE_PX = 33  # torch.export handles a deepest level of one pixel, which 32 px give, as a special case
TENSOR_SHAPES = {
    INPUT_NAME: ["B", "3", "H", "W"],
    "class_logits": ["B", "K"],
    "mask_logits": ["B", "M", "H", "W"],
    "attention": ["B", "1", "H/32", "W/32"],
}


def require_precision(engine: EngineName, precision: Precision) -> None:
    """Check that `engine` supports `precision`. Raises: ConfigError."""
    if precision not in ENGINE_PRECISIONS[engine]:
        supported = " or ".join(ENGINE_PRECISIONS[engine])
        raise ConfigError(f"{engine} does not support {precision}. Expected {supported}.")


def require_engine(engine: EngineName, *, to: Literal["run", "write"] = "run") -> None:
    """Check that the packages of `engine` are installed. Raises: ModelError naming those that are not."""
    needed = _RUNTIME_PACKAGES[engine] + (_EXPORT_PACKAGES if to == "write" and engine != "torch" else ())
    if missing := [name for name in dict.fromkeys(needed) if find_spec(name) is None]:
        raise ModelError(f"{engine} needs {', '.join(missing)}: {install_command('export')}.")


@dataclass(frozen=True, slots=True)
class ExportSpec:
    """The spec of one exported network.

    outputs: names in the file's order. mean, std: per channel, for RGB values in 0..1. size: (height, width) of a
    training input. resize_mode: `resize` (to `size`, bilinear with antialiasing) or `crop` (the image at its own size).
    mask_classes: with one name, the logit's sign decides; with more, the largest logit. weights_sha256: of the run's
    model.safetensors. provenance: of the run. comparison: with the eager network; only in export.json.
    """

    engine: EngineName
    precision: Precision
    outputs: tuple[str, ...]
    classes: tuple[str, ...]
    mask_classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    resize_mode: str
    weights_sha256: str
    provenance: dict[str, Any]
    versions: dict[str, str]
    comparison: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the spec as JSON, with the shapes, for readers without mnsa."""
        shapes = {name: TENSOR_SHAPES[name] for name in (INPUT_NAME, *self.outputs)}
        return json.dumps({**asdict(self), "min_side_px": MIN_SIDE_PX, "shapes": shapes}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "ExportSpec":
        """Parse a spec. Raises: ValueError, KeyError or TypeError when `text` is no spec."""
        tree = parse_json(text)
        fields = {name: tree[name] for name in cls.__dataclass_fields__}
        lists = ("outputs", "classes", "mask_classes", "mean", "std", "size")
        return cls(**{**fields, **{name: tuple(tree[name]) for name in lists}})
