"""Scores as records, and the evaluation of one split that holds them.

Tables, report and model card iterate over them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from mnsa.metrics.calibration import ReliabilityBin

ScoreGroup = Literal["classification", "segmentation", "topology"]

# Of a value: a number in 0..1; a number of images; a mean number of things per image; a relative difference, which is
# negative where there is too little; Pearson's correlation, in -1..1.
Unit = Literal["fraction", "images", "count", "relative", "correlation"]

IntervalMethod = Literal["bootstrap", "Wilson"]

ResamplingUnit = Literal["images", "groups"]

_GROUPS = get_args(ScoreGroup)

_OMITTED = (("mask_class", ""), ("method", "bootstrap"))


@dataclass(frozen=True, slots=True)
class Score:
    """One number of an evaluation.

    name: identifier, such as `iou`. value: None where there is nothing to score. interval: lower and upper bound of the
    95 % interval, or None. unit: of the value. group: the task it belongs to; `topology` is of thin mask classes.
    label: name for people, such as `IoU`. mask_class: the mask class it is of; empty for scores of the whole task.
    headline: whether short lists show it, too. method: of the interval; `Wilson` where all draws of a bootstrap agree.
    """

    name: str
    value: float | None
    interval: tuple[float, float] | None
    unit: Unit
    group: ScoreGroup
    label: str
    mask_class: str = ""
    headline: bool = False
    method: IntervalMethod = "bootstrap"

    @property
    def interval_text(self) -> str:
        """The interval as text, with its method if that is not the bootstrap: `0.722 to 1.000, Wilson`; or empty."""
        text = format_interval(self.interval, self.unit)
        return text if self.method == "bootstrap" else f"{text}, {self.method}"

    @property
    def title(self) -> str:
        """The label with its mask class: `IoU of vein`."""
        return f"{self.label} of {self.mask_class}" if self.mask_class else self.label

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values; an empty mask class and the method `bootstrap` are left out."""
        return {name: v for name, v in asdict(self).items() if (name, v) not in _OMITTED}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Score":
        """Read a record back. Raises: ValueError or TypeError when `values` is not one."""
        score = cls(**values)
        for text in (score.name, score.label, score.mask_class):
            if not isinstance(text, str):
                raise TypeError(f"{text!r} is not a text")
        if score.group not in _GROUPS:
            raise ValueError(f"a score has the group {score.group!r}; it can be {' or '.join(_GROUPS)}")
        if score.method not in get_args(IntervalMethod):
            raise ValueError(f"an interval has the method {score.method!r}")
        bounds = None if score.interval is None else tuple(score.interval)
        for number in (score.value, *(bounds or ())):
            if number is not None and not isinstance(number, int | float):
                raise TypeError(f"{number!r} is not a number")
        if bounds is not None and len(bounds) != 2:
            raise ValueError(f"an interval has {len(bounds)} bounds, not 2")
        return cls(**{**values, "interval": bounds})


@dataclass(frozen=True, slots=True)
class SampleSize:
    """What the scores of one task rest on: `images` images, and what their intervals draw: `count` images or groups."""

    images: int
    unit: ResamplingUnit
    count: int

    @property
    def drawn_text(self) -> str:
        """What the intervals draw: `12 groups (plants)`, or `24 images`."""
        return f"{self.count} {'groups (plants)' if self.unit == 'groups' else 'images'}"

    @property
    def interval_text(self) -> str:
        """The same for captions: `95 % interval over 12 groups (plants) of 24 images`; one image has none."""
        if self.count <= 1:
            return "no intervals over one " + ("group (plant)" if self.unit == "groups" else "image")
        return f"95 % interval over {self.drawn_text}" + (f" of {self.images} images" if self.unit == "groups" else "")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The results of one split: an entry of evaluation.json.

    images: all images of the split. calibrated: whether the probabilities were calibrated. sizes: by task. classes:
    names in the order of `confusion`. confusion: images per true class (row) and predicted class (column). reliability:
    bins of the reliability diagram. The last three are empty without labeled images.
    """

    dataset: str
    images: int
    calibrated: bool
    sizes: Mapping[str, SampleSize]
    scores: tuple[Score, ...]
    classes: tuple[str, ...] = ()
    confusion: Sequence[Sequence[int]] = field(default_factory=tuple)
    reliability: tuple[ReliabilityBin, ...] = ()

    @property
    def mask_classes(self) -> tuple[str, ...]:
        """The mask classes that were scored, in the order of the data set."""
        return tuple(dict.fromkeys(score.mask_class for score in self.scores if score.mask_class))

    @property
    def absent_mask_classes(self) -> tuple[str, ...]:
        """The mask classes without a true pixel, which have no scores; the background is none of them."""
        names = self.mask_classes if len(self.mask_classes) == 1 else self.mask_classes[1:]
        return tuple(name for name in names if self.value("iou", name) is None)

    @property
    def absent_text(self) -> str:
        """Say which mask classes are not scored, in one sentence; or an empty text."""
        names = ", ".join(self.absent_mask_classes)
        return f"Not scored, as no mask has a pixel of it: {names}." if names else ""

    @property
    def at_chance(self) -> bool:
        """Whether the accuracy may be no better than that of naming the most frequent class for every image."""
        accuracy = next((score for score in self.scores if score.name == "accuracy"), None)
        if accuracy is None or accuracy.value is None or not self.confusion:
            return False
        sizes = [sum(row) for row in self.confusion]
        lowest = accuracy.interval[0] if accuracy.interval else accuracy.value
        return lowest <= max(sizes) / sum(sizes) < 1

    def of_group(self, group: str) -> list[Score]:
        """The scores of one task."""
        return [score for score in self.scores if score.group == group]

    def score(self, name: str, mask_class: str = "") -> Score:
        """Look up one score. Raises: KeyError when there is none."""
        for score in self.scores:
            if (score.name, score.mask_class) == (name, mask_class):
                return score
        raise KeyError(f"no score {name!r}" + (f" of {mask_class!r}" if mask_class else ""))

    def value(self, name: str, mask_class: str = "") -> float | None:
        """Look up the value of one score. Raises: KeyError when there is none."""
        return self.score(name, mask_class).value

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as JSON values; see `mnsa.metrics.evaluation_files`."""
        return {
            "dataset": self.dataset,
            "images": self.images,
            "calibrated": self.calibrated,
            "sizes": {group: asdict(size) for group, size in self.sizes.items()},
            "scores": [score.to_dict() for score in self.scores],
            "classes": list(self.classes),
            "confusion": [list(row) for row in self.confusion],
            "reliability": [one._asdict() for one in self.reliability],
        }

    @classmethod
    def from_dict(cls, values: Any) -> "Evaluation":
        """Read an evaluation back. Raises: ValueError, TypeError or KeyError when `values` is not one."""
        if not isinstance(values["images"], int) or not isinstance(values["dataset"], str):
            raise TypeError("`images` is not a whole number, or `dataset` is not a text")
        classes, confusion = tuple(values["classes"]), [list(row) for row in values["confusion"]]
        if [len(row) for row in confusion] != [len(classes)] * len(classes):
            raise ValueError(f"the confusion matrix does not fit {len(classes)} classes")
        sizes = {group: SampleSize(**size) for group, size in values["sizes"].items()}
        scores = tuple(Score.from_dict(score) for score in values["scores"])
        if not {score.group for score in scores} <= set(sizes):
            raise ValueError("a score belongs to a task that has no size")
        return cls(
            dataset=values["dataset"],
            images=values["images"],
            calibrated=bool(values["calibrated"]),
            sizes=sizes,
            scores=scores,
            classes=classes,
            confusion=confusion,
            reliability=tuple(ReliabilityBin(**one) for one in values["reliability"]),
        )


def evaluation_key(
    split: str, head: str, tta: Sequence[str] = (), *, mask_threshold: float | None = None, repair: bool | None = None
) -> str:
    """The key of evaluation.json: `test` for the network's own scores, `test/trees` with trees, `test/flips+rot90`."""
    masks = "" if mask_threshold is None else f"mask threshold {mask_threshold:g}"
    gaps = "" if repair is None else "repair" if repair else "no repair"
    parts = (split, "" if head == "network" else head, "+".join(sorted(set(tta))), masks, gaps)
    return "/".join(part for part in parts if part)


def format_score(value: float | None, unit: Unit = "fraction") -> str:
    """A value as text; `none` where there was nothing to score.

    Three digits, with a sign where it is a relative difference; a count has two; a number of images none.
    """
    if value is None:
        return "none"
    return format(value, {"images": ".0f", "count": ".2f", "relative": "+.3f"}.get(unit, ".3f"))


def format_interval(bounds: Sequence[float] | None, unit: Unit = "fraction") -> str:
    """An interval as text: `0.512 to 0.552`; empty for None."""
    return "" if bounds is None else f"{format_score(bounds[0], unit)} to {format_score(bounds[1], unit)}"
