"""What OpenVINO is told to compute in."""

import pytest

from mnsa.engines.openvino_engine import _precision_hint


@pytest.mark.parametrize(("precision", "hint"), [("float32", "f32"), ("bfloat16", "bf16"), ("int8", "bf16")])
def test_bfloat16_is_used_where_the_processor_has_it_and_exactness_is_not_promised(precision, hint):
    assert _precision_hint(precision, ["FP32", "BF16", "INT8"]) == hint
    assert _precision_hint(precision, ["FP32", "INT8"]) == "f32"
