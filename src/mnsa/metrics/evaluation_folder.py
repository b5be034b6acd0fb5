"""RUN/predictions/SPLIT: what `mnsa evaluate` leaves behind for each image, and pictures of the worst and the best.

images.csv          a row per image of the split, in the manifest's order: `evaluation.per_image`, and with --traits
                    those of the true mask (`true_...`) and of the predicted one (`said_...`)
pictures/           NUMBER_PANEL.jpg: panels of the image whose row has that number, counted from 0
"""

import csv
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

from mnsa.data.table import read_table
from mnsa.errors import RunError
from mnsa.evaluation.per_image import Row
from mnsa.run_folder import RunFolder


class EvaluatedFolder(NamedTuple):
    """The paths of one."""

    path: Path

    @property
    def table(self) -> Path:
        return self.path / "images.csv"

    def picture(self, number: int, panel: str) -> Path:
        """Where a panel of image `number` is."""
        return self.path / "pictures" / f"{number:06}_{panel}.jpg"


def evaluated_folder(run: RunFolder, key: str) -> EvaluatedFolder:
    """Where the answers behind evaluation.json's scores under `key` are: `test/trees` is predictions/test-trees."""
    return EvaluatedFolder(run.predictions_folder / key.replace("/", "-"))


@contextmanager
def fresh_evaluation(folder: EvaluatedFolder) -> Iterator[EvaluatedFolder]:
    """A folder to fill, which then stands in the place of an earlier one. Raises: RunError when it can't be written."""
    unfinished = EvaluatedFolder(folder.path.with_name(f".{folder.path.name}.{token_hex(4)}"))
    try:
        (unfinished.path / "pictures").mkdir(parents=True)
        yield unfinished
        shutil.rmtree(folder.path, ignore_errors=True)
        unfinished.path.rename(folder.path)
    except OSError as error:
        raise RunError(f"{folder.path} can't be written: {error.strerror}. Mend that and evaluate again.") from None
    finally:
        shutil.rmtree(unfinished.path, ignore_errors=True)


def write_image_rows(folder: EvaluatedFolder, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Write images.csv; text is quoted, so that a name may hold anything."""
    with folder.table.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        table.writerow(columns)
        table.writerows([_rounded(row.get(name, "")) for name in columns] for row in rows)


def read_image_rows(folder: EvaluatedFolder) -> list[Mapping[str, str]]:
    """Read images.csv back, as text. Raises: DataError naming the file."""
    return [line.cells for line in read_table(folder.table)[1]]


def _rounded(value: str | float) -> str | float:
    return value if isinstance(value, str) else float(f"{value:.6g}")
