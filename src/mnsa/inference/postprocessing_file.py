"""RUN/postprocessing.json: how the masks of a run are made, and the SHA-256 of the weights that it belongs to."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from mnsa.errors import ConfigError, RunError
from mnsa.inference.postprocessing import Postprocessing
from mnsa.io import atomic_write_text, read_json
from mnsa.run_folder import weights_digest

POSTPROCESSING_FILE = "postprocessing.json"


@dataclass(frozen=True, slots=True)
class FittedPostprocessing:
    """Postprocessing that was chosen on validation images.

    rule: how, in words. images: of `split` that have a mask. scores: `before` and `after` by mask class and name of the
    score. dataset_digest: of the manifest.
    """

    postprocessing: Postprocessing
    rule: str
    split: str
    images: int
    scores: dict[str, dict[str, dict[str, float]]]
    dataset: str
    dataset_digest: str
    weights_sha256: str

    def to_json(self) -> str:
        """Return the text of postprocessing.json."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Make it from the content of postprocessing.json.

        Raises: ValueError, KeyError, TypeError or AttributeError when it is damaged.
        """
        return cls(**{**values, "postprocessing": Postprocessing.from_dict(values["postprocessing"])})


def save_postprocessing(run: Path, fitted: FittedPostprocessing) -> Path:
    """Write RUN/postprocessing.json in one step. Returns: its path."""
    file = run / POSTPROCESSING_FILE
    atomic_write_text(file, fitted.to_json())
    return file


def load_postprocessing(run: Path, mask_classes: Sequence[str]) -> FittedPostprocessing | None:
    """Read the postprocessing of a run folder. Returns: None when there is none.

    Raises: RunError when it is damaged, or was chosen for other weights than the run has now.
    """
    file, again = run / POSTPROCESSING_FILE, f"Make it anew: mnsa calibrate {run}. Or delete it: the threshold is 0.5."
    if not file.exists():
        return None
    try:
        found = FittedPostprocessing.from_dict(read_json(file))
        found.postprocessing.require_classes(mask_classes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{file} is damaged ({error!r}). {again}") from None
    if found.weights_sha256 != weights_digest(run):
        raise RunError(f"{file} was made for other weights than {run} has now. {again}")
    return found


def choose_postprocessing(
    run: Path, mask_classes: Sequence[str], *, threshold: float | None = None
) -> Postprocessing | None:
    """Read the postprocessing of a run folder, or replace it by a threshold.

    Raises: RunError as `load_postprocessing`; ConfigError for a threshold outside of 0..1, or of several mask classes.
    """
    if threshold is None:
        fitted = load_postprocessing(run, mask_classes)
        return None if fitted is None else fitted.postprocessing
    if len(mask_classes) != 1:
        raise ConfigError(
            f"A mask threshold is for networks with one mask class; this one has {len(mask_classes)}. Leave it out."
        )
    try:
        return Postprocessing(threshold=threshold)
    except ValueError as error:
        raise ConfigError(f"The mask threshold can't be used: {error}.") from None
