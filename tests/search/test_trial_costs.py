"""Memory and latency are measured, not guessed."""

import mmap

import pytest
import torch

from mnsa.config import ModelConfig
from mnsa.search.trial import PeakMemory, measure_latency_ms
from narrowing import some

MODEL = ModelConfig(backbone="test_efficientnet", pretrained="none", widths=(1 / 8,) * 5, decoder_channels=(8,) * 5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="of the process where there is no GPU")
def test_peak_memory_starts_anew_with_each_object() -> None:
    first = PeakMemory()
    with mmap.mmap(-1, 256 << 20) as block:  # MiB that go back to the system, whatever the C library keeps
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
    peak = some(first.mib())
    second = PeakMemory()
    assert peak - some(second.mib()) > 200


@pytest.mark.slow
def test_latency_is_positive_and_grows_with_the_image() -> None:
    small, large = (measure_latency_ms(MODEL, 3, 1, (side, side)) for side in (64, 512))
    assert 0 < small < large
