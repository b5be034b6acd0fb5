"""`measure_training`: seconds and bytes of training, measured by a few steps."""

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from mnsa.config import Config
from mnsa.data.manifest import Manifest, read_manifest
from mnsa.errors import ConfigError
from mnsa.structures import Batch
from mnsa.training.module import StageModule
from mnsa.workflows import training_cost
from mnsa.workflows.training_cost import measure_training


@pytest.fixture
def manifest(dataset: Path) -> Manifest:
    whole = read_manifest(dataset)
    return replace(whole, rows=whole.split("train").rows[:3])


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Let only so many images at once fit in memory; the list gets the number of images of every step."""

    def set_limit(images: int) -> list[int]:
        compute, sizes = StageModule.compute_loss, list[int]()

        def limited(self: StageModule, batch: Batch) -> Any:
            sizes.append(len(batch.images))
            if len(batch.images) > images:
                raise MemoryError
            return compute(self, batch)

        monkeypatch.setattr(StageModule, "compute_loss", limited)
        return sizes

    return set_limit


def test_the_time_of_reading_and_of_a_step_is_measured(manifest: Manifest, make_config: Callable[..., Config]) -> None:
    cost = measure_training(make_config({"batch_size": 4}), manifest)

    assert cost.read_s > 0
    assert cost.pixel_s > 0


@pytest.mark.slow
def test_a_machine_with_little_memory_is_measured_with_fewer_images(
    manifest: Manifest, make_config: Callable[..., Config], fits: Callable[[int], list[int]]
) -> None:
    sizes = fits(3)
    measure_training(make_config({"batch_size": 8}), manifest)
    assert sizes[:3] == [8, 4, 2]
    assert set(sizes[3:]) == {2}


def test_no_memory_for_two_images_is_refused(
    manifest: Manifest, make_config: Callable[..., Config], fits: Callable[[int], list[int]]
) -> None:
    fits(1)
    with pytest.raises(ConfigError, match="Not enough memory for 2 images of 64 x 64 px"):
        measure_training(make_config({"batch_size": 8}), manifest)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't tell")
def test_the_memory_of_a_larger_step_is_foretold(manifest: Manifest, make_config: Callable[..., Config]) -> None:
    """The line through the steps of 2 and 8 images at 128 px leads to the step of 16 images at 160 px."""
    smaller = make_config({"batch_size": 8}, data={"size": (128, 128)})
    larger = make_config({"batch_size": 16}, data={"size": (160, 160)})
    # In a process of its own: the memory that earlier tests have freed would serve these steps.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        foretold, measured = pool.submit(_needed_bytes, smaller, larger, manifest).result()
    assert foretold == pytest.approx(measured, rel=0.25)


def _needed_bytes(smaller: Config, larger: Config, manifest: Manifest) -> tuple[float, float]:
    """Bytes of a batch of the larger config: foretold by the steps of the smaller one, and measured."""
    images, size = larger.stages[0].batch_size, larger.data.size
    memory = measure_training(smaller, manifest).memory
    training_cost.FEWEST_AT_ONCE = images
    there = measure_training(larger, manifest).memory
    assert memory is not None
    assert there is not None
    return memory.needed_bytes(images, size), there.needed_bytes(images, size)


def test_a_system_that_does_not_tell_gives_no_memory(
    manifest: Manifest, make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_cost, "available_bytes", lambda _: None)
    assert measure_training(make_config(), manifest).memory is None
