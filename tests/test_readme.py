"""The README's own commands, run in a fresh folder on photos that the test makes."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

README = Path(__file__).parents[1] / "README.md"
# The network and the training are made tiny; everything else is as the README says.
TINY = "--budget 1m --set model.backbone=test_efficientnet --set model.pretrained=none --set stages.joint.epochs=2"


@pytest.mark.slow
def test_the_five_commands_lead_from_photos_to_a_table(
    mnsa: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("Hutcheson", "Williams"):
        for number in range(8):
            _photo(rng, tmp_path / "photos" / name / f"p{number:02}.jpg", tmp_path / "photos" / "masks" / name)
    _photo(rng, tmp_path / "new_photos" / "p99.jpg", None)

    for command in _commands():
        result = mnsa(*command, *(TINY.split() if command[0] == "train" else ()))
        assert result.code == 0, (command, result.err)

    header, row = (tmp_path / "predictions" / "predictions.csv").read_text(encoding="utf-8").splitlines()
    shown = re.findall(r"^\| (image \| predicted .*) \|$", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [name for name in shown[0].split(" | ") if name not in header.split(",")] == []
    assert row.startswith("new_photos/p99.jpg,masks/p99.png,")


def _commands() -> list[list[str]]:
    """The arguments of each `mnsa` command in the README's first block."""
    block = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)[0]
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    commands = [words[1:] for words in lines if words and words[0] == "mnsa"]
    assert [command[0] for command in commands] == ["import", "train", "evaluate", "predict"]
    return commands


def _photo(rng: np.random.Generator, path: Path, masks: Path | None) -> None:
    """A green leaf with two bright veins, and its mask."""
    veins = np.zeros((96, 96), bool)
    veins[rng.integers(20, 76)] = veins[:, rng.integers(20, 76)] = True
    pixels = rng.integers(60, 90, (96, 96, 3)).astype(np.uint8)
    pixels[veins] = 200
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    if masks is not None:
        masks.mkdir(parents=True, exist_ok=True)
        Image.fromarray(veins.astype(np.uint8) * 255).save(masks / f"{path.stem}.png")
