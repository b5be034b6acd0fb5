"""Two processes divide their batches alike, also when one of them alone has too little memory."""

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fault_runs import Ended, equal, start_ranks, weights
from mnsa.config import Config, dump_config
from mnsa.run_folder import RunFolder
from mnsa.structures import Batch
from mnsa.training.fit import train
from mnsa.training.module import StageModule

pytestmark = pytest.mark.slow


def fail_in_the_second_process(images: int, step: int) -> None:
    """Let more than so many images not fit in the memory of the second process, from a training step on."""
    compute = StageModule.compute_loss

    def limited(self: StageModule, batch: Batch) -> Any:
        if os.environ["RANK"] == "1" and len(batch.images) > images and self.global_step >= step:
            raise MemoryError
        return compute(self, batch)

    StageModule.compute_loss = limited  # type: ignore[method-assign]


def fit_two_images() -> None:
    fail_in_the_second_process(2, step=0)


def fit_one_image() -> None:
    fail_in_the_second_process(1, step=0)


def fit_two_images_later() -> None:
    fail_in_the_second_process(2, step=3)


@pytest.fixture
def start(dataset: Path, make_config: Callable[..., Config], tmp_path: Path) -> Callable[..., tuple[list[Ended], Path]]:
    """Train in two processes with batches of four; how they ended, and the run folder."""

    def run(parts: int | str, patch: Callable[[], None] | None = None, epochs: int = 2) -> tuple[list[Ended], Path]:
        config, out = tmp_path / f"{parts}.toml", tmp_path / f"run_{parts}"
        model = {**make_config().model.model_dump(), "dropout": 0.0}
        stage = {"batch_parts": parts, "batch_size": 4, "epochs": epochs}
        config.write_text(dump_config(make_config(stage, model=model, train={"postprocessing": False})))
        ranks = start_ranks(["train", config, "--data", dataset, "--out", out], tmp_path, patch)
        return [rank.wait() for rank in ranks], out

    return run


def losses(run: Path) -> list[float]:
    return [float(row["loss"]) for row in csv.DictReader((run / "metrics.csv").read_text().splitlines())]


def test_all_processes_divide_their_batches_when_one_has_too_little_memory(
    start: Callable[..., tuple[list[Ended], Path]], dataset: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    """And the losses of parts in two processes are those of one process with batches twice as large."""
    ended, run = start("auto", fit_two_images)
    assert [one.code for one in ended] == [0, 0], ended
    assert "Each batch of 4 is now taken in 2 parts" in ended[0].text
    assert "parts" not in ended[1].text
    ended, divided = start(2)
    assert [one.code for one in ended] == [0, 0], ended
    assert equal(weights(run), weights(divided))
    assert losses(run) == losses(divided)

    model = {**make_config().model.model_dump(), "dropout": 0.0}
    whole = make_config({"batch_parts": 2, "batch_size": 8}, model=model, train={"postprocessing": False})
    alone: RunFolder = train(whole, dataset, tmp_path / "alone")
    assert losses(run) == pytest.approx(losses(alone.path), rel=1e-3)


def test_all_processes_end_when_one_has_no_memory_for_two_images(
    start: Callable[..., tuple[list[Ended], Path]],
) -> None:
    ended, _ = start("auto", fit_one_image)
    assert [one.code for one in ended] == [2, 2]
    assert "Not enough memory for 2 images of 64 x 64 px at once, of stages.joint.batch_size = 4" in ended[0].text
    assert "Traceback" not in ended[0].text + ended[1].text


def test_no_process_waits_for_one_that_runs_out_of_memory_later(
    start: Callable[..., tuple[list[Ended], Path]],
) -> None:
    ended, run = start("auto", fit_two_images_later, epochs=6)
    assert [one.code for one in ended] == [2, 2]
    assert "Not enough memory for 4 images" in ended[1].text
    assert f"mnsa train --resume {run}" in ended[0].text
