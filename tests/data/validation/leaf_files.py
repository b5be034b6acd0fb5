"""A small drawn data set on disk, with handles for those who change it."""

import csv
import io
import tomllib
from pathlib import Path

import numpy as np
import tomli_w
from PIL import Image


class LeafFiles:
    """Three cultivars, six leaves each, 64 px: of every cultivar four to learn from, one to choose by, one to test.

    rows: the table's cells, to be changed; `save` writes them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with (folder / "manifest.csv").open(newline="") as file:
            self.rows = list(csv.DictReader(file))

    def save(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        (self.folder / "manifest.csv").write_text(text.getvalue(), encoding="utf-8")

    def describe(self, **values: object) -> None:
        """Give keys of dataset.toml other values."""
        path = self.folder / "dataset.toml"
        path.write_text(tomli_w.dumps({**tomllib.loads(path.read_text()), **values}))

    def of(self, split: str, cultivar: int = 0) -> dict[str, str]:
        """The first row of a split and a cultivar."""
        labels = sorted({row["label"] for row in self.rows})
        return next(row for row in self.rows if row["split"] == split and row["label"] == labels[cultivar])

    def image(self, row: dict[str, str]) -> Path:
        return self.folder / row["image"]

    def mask(self, row: dict[str, str]) -> Path:
        return self.folder / row["mask"]

    def pixels(self, path: Path) -> np.ndarray:
        with Image.open(path) as image:
            return np.array(image)

    def rename(self, row: dict[str, str], column: str, name: str) -> Path:
        """Move a file, in the table as on disk."""
        old = self.folder / row[column]
        row[column] = f"{Path(row[column]).parent.as_posix()}/{name}"
        return old.rename(self.folder / row[column])

    def add(self, like: dict[str, str], name: str, **cells: str) -> Path:
        """Add a row without mask for an image that the caller is to write."""
        self.rows.append({**like, "image": f"images/{name}", "mask": "", "leaf_mask": "", **cells})
        return self.folder / "images" / name
