"""RUN/calibration.json: the calibration of a run, and the SHA-256 of the weights that it belongs to."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mnsa.io import atomic_write_text
from mnsa.metrics.calibration import ReliabilityBin
from mnsa.run_folder import read_fitted

CALIBRATION_FILE = "calibration.json"


@dataclass(frozen=True, slots=True)
class Calibration:
    """The calibration of a network, fitted on validation images.

    temperature: divides the logits. fitted: False when every prediction was correct; the temperature is 1 then.
    threshold: the confidence below which a prediction is `unknown`, or None. target: the accuracy that the threshold
    had to reach; rule: the same in words. images: labeled images of `split`; correct: how many were predicted
    correctly. accepted: images that reach the threshold; accepted_correct: how many of them were predicted correctly.
    ece, log_loss, reliability: `before` and `after` the temperature. dataset_digest: of the manifest.
    """

    temperature: float
    fitted: bool
    threshold: float | None
    target: float
    rule: str
    split: str
    images: int
    correct: int
    accepted: int
    accepted_correct: int
    bins: int
    ece: dict[str, float]
    log_loss: dict[str, float]
    reliability: dict[str, list[ReliabilityBin]]
    dataset: str
    dataset_digest: str
    weights_sha256: str

    def to_json(self) -> str:
        """Return the text of calibration.json."""
        bins = {when: [one._asdict() for one in bins] for when, bins in self.reliability.items()}
        return json.dumps({**asdict(self), "reliability": bins}, indent=2) + "\n"

    @classmethod
    def from_dict(cls, values: Any) -> "Calibration":
        """Make it from the content of calibration.json.

        Raises: ValueError, KeyError or TypeError when it is damaged.
        """
        bins = {when: [ReliabilityBin(**one) for one in bins] for when, bins in values["reliability"].items()}
        found = cls(**{**values, "reliability": bins})
        if not (math.isfinite(found.temperature) and found.temperature > 0):
            raise ValueError(f"temperature is {found.temperature}, not a number above 0")
        if found.threshold is not None and not 0 <= found.threshold <= 1:
            raise ValueError(f"threshold is {found.threshold}, not a number in 0..1")
        return found


def save_calibration(run: Path, calibration: Calibration) -> Path:
    """Write RUN/calibration.json in one step. Returns: its path."""
    file = run / CALIBRATION_FILE
    atomic_write_text(file, calibration.to_json())
    return file


def load_calibration(run: Path) -> Calibration | None:
    """Read the calibration of a run folder. Returns: None when there is none.

    Raises: RunError when it is damaged, or was fitted for other weights than the run has now.
    """
    return read_fitted(run / CALIBRATION_FILE, Calibration.from_dict, f"Run mnsa calibrate {run} again.")
