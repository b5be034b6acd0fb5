"""The spec in an exported file describes its inputs and outputs."""

import json

import pytest

from mnsa.engines.spec import ENGINE_PRECISIONS, ExportSpec, require_engine, require_precision
from mnsa.errors import ConfigError, ModelError

SPEC = ExportSpec(
    engine="onnx", precision="float32", outputs=("class_logits", "mask_logits"), classes=("a", "b"),
    mask_classes=("vein",), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1), size=(64, 96), resize_mode="resize",
    weights_sha256="0" * 64, provenance={"seed": 1}, versions={"mnsa": "0"},
)  # fmt: skip


def test_a_parsed_spec_equals_the_written_one() -> None:
    assert ExportSpec.from_json(SPEC.to_json()) == SPEC


def test_a_spec_contains_the_shapes() -> None:
    tree = json.loads(SPEC.to_json())
    assert tree["shapes"] == {
        "images": ["B", "3", "H", "W"],
        "class_logits": ["B", "K"],
        "mask_logits": ["B", "M", "H", "W"],
    }
    assert tree["min_side_px"] == 33


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"engine": "onnx"}'])
def test_other_text_is_an_error(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        ExportSpec.from_json(text)


def test_an_unsupported_precision_is_an_error() -> None:
    for engine, precisions in ENGINE_PRECISIONS.items():
        for precision in precisions:
            require_precision(engine, precision)
    with pytest.raises(ConfigError, match=r"onnx does not support bfloat16\. Expected float32 or int8"):
        require_precision("onnx", "bfloat16")


def test_the_error_for_a_missing_package_has_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnsa.engines.spec.find_spec", lambda name: None)
    require_engine("torch", to="write")
    with pytest.raises(ModelError, match=r"openvino needs openvino: pip install -e '\.\[export\]'"):
        require_engine("openvino")
    with pytest.raises(ModelError, match="onnx needs onnxruntime, onnx, onnxscript"):
        require_engine("onnx", to="write")
