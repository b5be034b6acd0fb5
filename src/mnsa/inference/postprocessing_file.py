"""RUN/postprocessing.json: how the masks of a run are made, and the SHA-256 of the weights that it belongs to."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from mnsa.errors import ConfigError
from mnsa.inference.postprocessing import ClassPostprocessing, Postprocessing
from mnsa.inference.repair import Repair
from mnsa.io import atomic_write_text
from mnsa.run_folder import read_fitted
from mnsa.traits.measurer import find_roles_or_none

POSTPROCESSING_FILE = "postprocessing.json"


@dataclass(frozen=True, slots=True)
class FittedPostprocessing:
    """Postprocessing that was chosen on validation images.

    rule: how it was chosen, in words. images: of `split` that have a mask. scores: `before` and `after` by mask class
    and name of the score. dataset_digest: of the manifest. summary: what was chosen, in words.
    """

    postprocessing: Postprocessing
    rule: str
    split: str
    images: int
    scores: dict[str, dict[str, dict[str, float]]]
    dataset: str
    dataset_digest: str
    weights_sha256: str
    summary: str = ""

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

    def parse(values: Any) -> FittedPostprocessing:
        found = FittedPostprocessing.from_dict(values)
        found.postprocessing.require_classes(mask_classes)
        return found

    fix = f"Run mnsa calibrate {run} again. Or delete it: the threshold is 0.5."
    return read_fitted(run / POSTPROCESSING_FILE, parse, fix)


def choose_postprocessing(
    run: Path, mask_classes: Sequence[str], *, threshold: float | None = None, repair: bool | None = None
) -> Postprocessing:
    """Read the postprocessing of a run folder, or change it.

    threshold: replaces it by a plain threshold. repair: True closes gaps, with the run's parameters or the default
    ones, in the classes in which the run does so, or else in the only one, or in those that have a usual name of
    veins. False does not.
    Raises: RunError as `load_postprocessing`; ConfigError for a threshold outside of 0..1, or of several mask classes,
    and where no class can be repaired.
    """
    fitted = load_postprocessing(run, mask_classes) if threshold is None or repair else None
    stored = Postprocessing() if fitted is None else fitted.postprocessing
    chosen = stored if threshold is None else _plain_threshold(threshold, mask_classes)
    if repair is None:
        return chosen
    repaired: dict[str, Repair | None] = dict.fromkeys(chosen.classes)
    if repair:
        repaired |= {name: one.repair for name, one in stored.classes.items() if one.repair}
        if not any(repaired.values()):
            repaired |= dict.fromkeys(_thin_classes(mask_classes), Repair())
    classes = {
        name: replace(chosen.classes.get(name, ClassPostprocessing()), repair=one) for name, one in repaired.items()
    }
    return replace(chosen, classes=classes)


def _plain_threshold(threshold: float, mask_classes: Sequence[str]) -> Postprocessing:
    if len(mask_classes) != 1:
        raise ConfigError(
            f"A mask threshold is for networks with one mask class; this one has {len(mask_classes)}. Leave it out."
        )
    try:
        return Postprocessing(threshold=threshold)
    except ValueError as error:
        raise ConfigError(f"The mask threshold can't be used: {error}.") from None


def _thin_classes(mask_classes: Sequence[str]) -> list[str]:
    roles = find_roles_or_none(mask_classes)
    names = (
        list(mask_classes) if len(mask_classes) == 1 else [mask_classes[value] for value in roles.vein] if roles else []
    )
    if not names:
        raise ConfigError(
            "No mask class has a usual name of veins, so it is not known where gaps are. Leave out --repair."
        )
    return names
