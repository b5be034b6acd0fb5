from pathlib import Path

import pytest
import torch

from engines import difference, measure
from mnsa.structures import NetworkOutputs
from narrowing import some


def answer(images: torch.Tensor) -> NetworkOutputs:
    return NetworkOutputs(None, images.mean(dim=1, keepdim=True), None)


def off_by_one(images: torch.Tensor) -> NetworkOutputs:
    return NetworkOutputs(None, some(answer(images).mask_logits) + 1, None)


def test_a_difference_is_in_standard_deviations_of_eager() -> None:
    images = 4 * torch.randn(2, 3, 20, 20)
    expected = answer(images)
    deviation = float(some(expected.mask_logits).std())
    assert difference(expected, off_by_one(images)) == pytest.approx(1 / deviation, rel=1e-5)


def test_every_engine_but_eager_has_a_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("engines.rivals", lambda *_: iter([("other", off_by_one)]))
    lines = measure(answer, torch.randn(1, 3, 8, 8), tmp_path, repeats=2).splitlines()  # type: ignore[arg-type]
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| other"]
