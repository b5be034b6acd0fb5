"""The precision that OpenVINO computes in."""

from typing import Literal

import pytest

from mnsa.engines.openvino_engine import _precision_hint


@pytest.mark.parametrize(("precision", "hint"), [("float32", "f32"), ("bfloat16", "bf16"), ("int8", "bf16")])
def test_lower_precisions_use_bfloat16_if_the_processor_has_it(
    precision: Literal["float32", "bfloat16", "int8"], hint: str
) -> None:
    assert _precision_hint(precision, ["FP32", "BF16", "INT8"]) == hint
    assert _precision_hint(precision, ["FP32", "INT8"]) == "f32"
