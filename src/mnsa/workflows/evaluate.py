"""What evaluating a split leaves behind beside scores: a row per image, and pictures of the worst and the best."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mnsa.data.dataset import read_sample
from mnsa.data.manifest import Manifest
from mnsa.errors import ModelError
from mnsa.evaluation.per_image import Row, extremes, image_columns, image_row
from mnsa.inference.evaluated_folder import EvaluatedFolder, write_image_rows
from mnsa.inference.evaluation_pictures import class_panels, mask_panels, write_panel
from mnsa.inference.predictor import Predictor
from mnsa.records import Prediction, Sample
from mnsa.traits import Roles, Ruler, find_roles

RoleNames = Mapping[str, Sequence[str]]  # `vein`, `leaf`, `lesion` -> names of mask classes, as `find_roles` takes them


@dataclass
class SplitRecord:
    """Rows that grow while a split is answered. traits: measure the masks, too; its names as `find_roles` takes them.

    Raises: ModelError when there are no masks to measure; ConfigError when no mask class has a role.
    """

    predictor: Predictor
    manifest: Manifest
    traits: RoleNames | None = None
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.roles: Roles | None = None
        if self.traits is not None:
            if not self.predictor.mask_classes:
                raise ModelError("This network finds no masks, so there is nothing to measure. Leave out --traits.")
            self.roles = find_roles(self.predictor.mask_classes, **self.traits)
        # one unit for all: millimetres when each image has a scale
        self.in_mm = all(row.px_per_mm is not None for row in self.manifest.rows)

    def pairs(self) -> Iterator[tuple[Sample, Prediction]]:
        """Answer image after image, and note a row of each."""
        for index in range(len(self.manifest.rows)):
            sample, answer = self._answered(index)
            row = image_row(sample, answer, self.predictor.classes, self.predictor.mask_classes)
            self.rows.append(row | self._measured(index, sample, answer))
            yield sample, answer

    def write(self, folder: EvaluatedFolder) -> None:
        """Write the rows, and answer once more for the few images whose pictures are kept."""
        columns = image_columns(self.predictor.classes, self.predictor.mask_classes)
        if self.roles is not None:
            names = self._ruler(0).columns
            columns += [f"{whose}_{name}" for name in names for whose in ("true", "said")]
        write_image_rows(folder, columns, self.rows)
        shown = {name: _places(self.rows, name) for name in ("iou", "true_probability")}
        for index in sorted({place for places in shown.values() for place in places}):
            sample, answer = self._answered(index)
            panels = dict(mask_panels(sample, answer)) if index in shown["iou"] else {}
            if index in shown["true_probability"]:
                panels |= class_panels(self.predictor, sample, answer)
            for panel, pixels in panels.items():
                write_panel(pixels, folder.picture(index, panel))

    def _answered(self, index: int) -> tuple[Sample, Prediction]:
        sample = read_sample(self.manifest, self.manifest.rows[index])
        return sample, self.predictor.predict_image(sample.image, sample.path)

    def _measured(self, index: int, sample: Sample, answer: Prediction) -> Row:
        if self.roles is None or answer.mask is None:
            return {}
        ruler = self._ruler(index)
        row: Row = {f"said_{name}": _value(text) for name, text in ruler.row(answer.mask).items()}
        if sample.mask is not None:
            row |= {f"true_{name}": _value(text) for name, text in ruler.row(sample.mask.numpy()).items()}
        return row

    def _ruler(self, index: int) -> Ruler:
        assert self.roles is not None  # noqa: S101 - whoever measures has looked
        return Ruler(self.roles, self.manifest.rows[index].px_per_mm if self.in_mm else None)


def _places(rows: Sequence[Row], column: str) -> list[int]:
    """The images that are shown for a column: the worst, then the best."""
    values = [row.get(column) for row in rows]
    found = extremes([value if isinstance(value, float) else None for value in values])
    return [*found.worst, *found.best]


def _value(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text
