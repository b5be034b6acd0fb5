import argparse

import pytest

pytest.importorskip("segmentation_models_pytorch", reason="the peer is not installed: pip install -e '.[bench]'")

from peer_speed import TASKS, candidates, size_of


def test_sizes_are_height_by_width() -> None:
    assert size_of("256x512") == (256, 512)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_both_sides_do_every_task(task: str) -> None:
    options = argparse.Namespace(batch=2, precision="float32", device="cpu")
    for run in candidates(task, (64, 64), options).values():
        run()
