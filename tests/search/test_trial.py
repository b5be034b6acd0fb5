"""Memory and latency are measured, not guessed; damaged shared weights are trained again."""

import mmap
from collections.abc import Callable

import pytest
import torch

from mnsa.config import ModelConfig
from mnsa.search.study import SearchStudy
from mnsa.search.trial import PeakMemory, measure_latency_ms, train_shared_stages
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


@pytest.mark.slow
def test_damaged_shared_weights_are_trained_again(
    new_study: Callable[..., SearchStudy], caplog: pytest.LogCaptureFixture
) -> None:
    first = {"name": "first", "tasks": ("classification",), "trainable": ("backbone", "class_head"), "epochs": 1}
    second = {"name": "second", "tasks": ("segmentation",), "trainable": ("enhancer", "decoder"), "epochs": 1}
    study = new_study(first, second, trials=1)
    train_shared_stages(study.folder, study.config, study.manifest)
    weights = study.folder.shared_folder / "model" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    train_shared_stages(study.folder, study.config, study.manifest)
    assert weights.read_bytes() == whole
    assert "It is trained again." in caplog.text
