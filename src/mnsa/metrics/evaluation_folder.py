"""RUN/predictions/SPLIT: what `mnsa evaluate` writes for each image, and panels of the worst and the best images.

images.csv          a row per image of the split, in the manifest's order: `metrics.per_image`, and with --traits
                    those of the true mask (`true_...`) and of the predicted mask (`predicted_...`)
pictures/           NUMBER_PANEL.jpg: panels of the image in row NUMBER, counted from 0
"""

import csv
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

from mnsa.data.rows import read_csv
from mnsa.errors import RunError
from mnsa.metrics.per_image import ImageRow
from mnsa.run_folder import RunFolder


class EvaluationFolder(NamedTuple):
    """The paths of one."""

    path: Path

    @property
    def table(self) -> Path:
        return self.path / "images.csv"

    def image_path(self, number: int, panel: str) -> Path:
        """Where a panel of image `number` is."""
        return self.path / "pictures" / f"{number:06}_{panel}.jpg"


def evaluation_folder(run: RunFolder, key: str) -> EvaluationFolder:
    """Where the answers behind evaluation.json's scores under `key` are: `test/trees` is predictions/test-trees."""
    return EvaluationFolder(run.predictions_folder / key.replace("/", "-"))


@contextmanager
def replace_evaluation_folder(folder: EvaluationFolder) -> Iterator[EvaluationFolder]:
    """A folder to fill, which then stands in the place of an earlier one. Raises: RunError when it can't be written."""
    unfinished = EvaluationFolder(folder.path.with_name(f".{folder.path.name}.{token_hex(4)}"))
    try:
        (unfinished.path / "pictures").mkdir(parents=True)
        yield unfinished
        shutil.rmtree(folder.path, ignore_errors=True)
        unfinished.path.rename(folder.path)
    except OSError as error:
        raise RunError(f"{folder.path} can't be written: {error.strerror}. Mend that and evaluate again.") from None
    finally:
        shutil.rmtree(unfinished.path, ignore_errors=True)


def write_image_rows(folder: EvaluationFolder, columns: Sequence[str], rows: Sequence[ImageRow]) -> None:
    """Write images.csv; text is quoted, so that a name may hold anything."""
    with folder.table.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        table.writerow(columns)
        table.writerows([_round_value(row.get(name, "")) for name in columns] for row in rows)


def read_image_rows(folder: EvaluationFolder) -> list[Mapping[str, str]]:
    """Read images.csv back, as text. Raises: DataError naming the file."""
    return [line.cells for line in read_csv(folder.table)[1]]


def _round_value(value: str | float) -> str | float:
    return value if isinstance(value, str) else float(f"{value:.6g}")
