"""RUN/calibration.json: how sure a run's network really is, and which weights that was found for."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mnsa.engines.folder import weights_digest
from mnsa.errors import RunError
from mnsa.evaluation.calibration import Bin
from mnsa.run_folder import write_text
from mnsa.text_files import read_json

CALIBRATION_FILE = "calibration.json"


@dataclass(frozen=True, slots=True)
class Calibration:
    """What validation has said of a network's probabilities.

    temperature: logits are divided by it; fitted: False where every answer was right, and it is 1. threshold: the
    confidence below which an answer is `unknown`, or None. target: share of right answers that it was to reach; rule:
    the same in words. images: labelled images of `split`; right: of their answers. accepted: images that reach the
    threshold; accepted_right: of their answers. ece, log_loss, reliability: `before` and `after` the temperature.
    """

    temperature: float
    fitted: bool
    threshold: float | None
    target: float
    rule: str
    split: str
    images: int
    right: int
    accepted: int
    accepted_right: int
    bins: int
    ece: dict[str, float]
    log_loss: dict[str, float]
    reliability: dict[str, list[Bin]]
    dataset: str
    dataset_digest: str
    weights_sha256: str

    def to_json(self) -> str:
        """The text of calibration.json; each bin a record with its names."""
        bars = {when: [bar._asdict() for bar in bars] for when, bars in self.reliability.items()}
        return json.dumps({**asdict(self), "reliability": bars}, indent=2) + "\n"

    @classmethod
    def from_tree(cls, tree: Any) -> "Calibration":
        """Read it back. Raises: ValueError, KeyError or TypeError when `tree` is no calibration.json's."""
        bars = {when: [Bin(**bar) for bar in bars] for when, bars in tree["reliability"].items()}
        found = cls(**{**tree, "reliability": bars})
        if not (math.isfinite(found.temperature) and found.temperature > 0):
            raise ValueError(f"temperature is {found.temperature}, not a number above 0")
        if found.threshold is not None and not 0 <= found.threshold <= 1:
            raise ValueError(f"threshold is {found.threshold}, not a number in 0..1")
        return found


def save_calibration(run: Path, found: Calibration) -> Path:
    """Write it into the run folder, in one step. Returns: the file."""
    file = run / CALIBRATION_FILE
    write_text(file, found.to_json())
    return file


def load_calibration(run: Path) -> Calibration | None:
    """The calibration of a run folder; None when there is none.

    Raises: RunError when it is damaged, or belongs to other weights than the run has now.
    """
    file, again = run / CALIBRATION_FILE, f"Make it anew: mnsa calibrate {run}"
    if not file.exists():
        return None
    try:
        found = Calibration.from_tree(read_json(file))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{file} is damaged ({error!r}). {again}") from None
    if found.weights_sha256 != weights_digest(run):
        raise RunError(f"{file} was found for other weights than {run} has now. {again}")
    return found
