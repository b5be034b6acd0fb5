"""Two evaluations of one run at the same time."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest

from mnsa.run_folder import RunFolder
from mnsa.workflows import evaluate


def test_two_evaluations_at_once_keep_the_scores_of_both(own_run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    read_scores, both_have_read = evaluate.read_scores, Barrier(2)

    def read_and_wait(run: RunFolder) -> dict[str, Any]:
        scores = read_scores(run)
        with suppress(BrokenBarrierError):  # with the lock, the other evaluation can't get here
            both_have_read.wait(timeout=2)
        return scores

    monkeypatch.setattr(evaluate, "read_scores", read_and_wait)
    with ThreadPoolExecutor(2) as threads:
        test, val = threads.map(lambda split: evaluate.evaluate_run(own_run.path, split=split), ("test", "val"))
    assert json.loads(own_run.evaluation_file.read_text()) == {"test": test, "val": val}
    assert {path.name for path in own_run.predictions_folder.iterdir()} == {"test", "val"}
