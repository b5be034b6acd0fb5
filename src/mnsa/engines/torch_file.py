"""A network as torch's own exported program (.pt2): runs wherever torch does, without mnsa."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.export import ExportedProgram

from mnsa.engines.card import CARD_KEY
from mnsa.engines.session import Run

_EXTRA = f"{CARD_KEY}.json"


def write_torch(program: ExportedProgram, path: Path, card: str) -> None:
    """Write a program with its card as an extra file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path, extra_files={_EXTRA: card})


def open_torch(path: Path) -> tuple[Run, str]:
    """What runs the program, and its card."""
    extra = {_EXTRA: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.load(path, extra_files=extra)
        # The guards say what held for the example, memory layout included; the comparison has shown what holds.
        module = program.module(check_guards=False)

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        with torch.inference_mode():
            return [output.numpy() for output in module(torch.from_numpy(images))]

    return run, extra[_EXTRA]
