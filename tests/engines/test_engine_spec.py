"""The card in an exported file says how to feed it and how to read it."""

import json

import pytest

from mnsa.engines.spec import ENGINE_PRECISIONS, ExportSpec, require_engine, require_precision
from mnsa.errors import ConfigError, ModelError

CARD = ExportSpec(
    engine="onnx", precision="float32", outputs=("class_logits", "mask_logits"), classes=("a", "b"),
    mask_classes=("vein",), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1), size=(64, 96), resize_mode="resize",
    weights_sha256="0" * 64, provenance={"seed": 1}, versions={"mnsa": "0"},
)  # fmt: skip


def test_a_card_comes_back_equal():
    assert ExportSpec.from_json(CARD.to_json()) == CARD


def test_a_card_spells_out_the_shapes():
    told = json.loads(CARD.to_json())
    assert told["shapes"] == {
        "images": ["B", "3", "H", "W"],
        "class_logits": ["B", "K"],
        "mask_logits": ["B", "M", "H", "W"],
    }
    assert told["min_side_px"] == 33


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"engine": "onnx"}'])
def test_other_text_is_no_card(text):
    with pytest.raises((ValueError, KeyError, TypeError)):
        ExportSpec.from_json(text)


def test_a_precision_that_an_engine_lacks_is_refused():
    for engine, precisions in ENGINE_PRECISIONS.items():
        for precision in precisions:
            require_precision(engine, precision)
    with pytest.raises(ConfigError, match=r"onnx has no bfloat16 here\. Expected float32 or int8"):
        require_precision("onnx", "bfloat16")


def test_a_missing_library_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("mnsa.engines.spec.find_spec", lambda name: None)
    require_engine("torch", to="write")
    with pytest.raises(ModelError, match=r"openvino needs openvino, .*pip install 'mnsa\[export\]'"):
        require_engine("openvino")
    with pytest.raises(ModelError, match="onnx needs onnxruntime, onnx, onnxscript"):
        require_engine("onnx", to="write")
