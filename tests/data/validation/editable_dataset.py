"""A small synthetic data set on disk, with methods to change its files and its table."""

import csv
import io
import tomllib
from pathlib import Path

import numpy as np
import tomli_w
from PIL import Image

Cells = dict[str, str]  # column -> text, of one row

_EXIF_ORIENTATION = 0x0112


class EditableDataset:
    """Three cultivars of six leaves, 64 px: of each cultivar four in train, one in val and one in test.

    rows: the cells of the table; changes are written by `save_table`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with (folder / "manifest.csv").open(newline="") as file:
            self.rows: list[Cells] = list(csv.DictReader(file))

    def save_table(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        (self.folder / "manifest.csv").write_text(text.getvalue(), encoding="utf-8")

    def update_toml(self, **values: object) -> None:
        """Replace values of dataset.toml."""
        path = self.folder / "dataset.toml"
        path.write_text(tomli_w.dumps({**tomllib.loads(path.read_text()), **values}))

    @property
    def first(self) -> Cells:
        return self.rows[0]

    def first_row_of(self, split: str, cultivar: int = 0) -> Cells:
        labels = sorted({row["label"] for row in self.rows})
        return next(row for row in self.rows if row["split"] == split and row["label"] == labels[cultivar])

    def image_path(self, row: Cells) -> Path:
        return self.folder / row["image"]

    def mask_path(self, row: Cells) -> Path:
        return self.folder / row["mask"]

    def rename(self, row: Cells, column: str, name: str) -> Path:
        """Rename the file of a cell, on disk and in the table."""
        old = self.folder / row[column]
        row[column] = f"{Path(row[column]).parent.as_posix()}/{name}"
        return old.rename(self.folder / row[column])

    def add_row(self, like: Cells, name: str, **cells: str) -> Path:
        """Add a row without a mask. Returns: the path of its image, which the caller writes."""
        self.rows.append({**like, "image": f"images/{name}", "mask": "", "leaf_mask": "", **cells})
        return self.folder / "images" / name

    def remove_mask(self, row: Cells) -> None:
        self.mask_path(row).unlink()
        row["mask"] = ""

    def crop_width(self, row: Cells) -> None:
        """Crop image and mask to 48 x 64 px, so that a rotation by 90 degrees changes their size."""
        for path in (self.image_path(row), self.mask_path(row)):
            Image.fromarray(read_array(path)[:, :48]).save(path, quality=95)

    def set_orientation(self, row: Cells, column: str, orientation: int) -> None:
        """Write an EXIF orientation; the stored pixels stay."""
        exif = Image.Exif()
        exif[_EXIF_ORIENTATION] = orientation
        path = self.folder / row[column]
        Image.fromarray(read_array(path)).save(path, exif=exif, quality=95)


def read_array(path: Path) -> np.ndarray:
    """Read the stored values of an image or a mask."""
    with Image.open(path) as image:
        return np.array(image)
