import torch

from roofline import Roofline, measure, tf32


def test_the_least_time_is_that_of_the_slower_of_memory_and_arithmetic() -> None:
    roofline = Roofline(bandwidth=100.0, rates={"float32": 10.0, "bfloat16": 40.0})
    assert roofline.seconds(macs=30, moved_bytes=200, precision="float32") == 3
    assert roofline.seconds(macs=30, moved_bytes=200, precision="bfloat16") == 2


def test_tf32_is_on_inside_the_context_only() -> None:
    before = torch.get_float32_matmul_precision()
    with tf32(enabled=True):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before


def test_every_number_format_gets_a_rate() -> None:
    roofline = measure(torch.device("cpu"), ["float32", "bfloat16"], repeats=1, side=64)
    assert set(roofline.rates) == {"float32", "bfloat16"}
    assert min(roofline.bandwidth, *roofline.rates.values()) > 0
