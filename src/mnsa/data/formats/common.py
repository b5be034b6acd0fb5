"""Data sets whose masks have to be painted: the images are copied beside them, into one folder with both."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from mnsa.data.images import write_mask
from mnsa.data.layouts.facts import Facts
from mnsa.data.manifest import Manifest, Row, write_files
from mnsa.data.splits import carve_validation
from mnsa.errors import DataError


@dataclass
class Canvas:
    """A data set in the making. folder: what becomes the data set; rows: what it lists so far."""

    folder: Path
    rows: list[Row] = field(default_factory=list)
    _taken: set[str] = field(default_factory=set)

    def add(self, source: Path, name: str, mask: np.ndarray | None, row: Row) -> None:
        """Copy an image to images/`name`, write its mask (H, W) if any, and list both; `row` has the rest."""
        shutil.copyfile(source, self._place(name))
        self._list(name, mask, row)

    def add_pixels(self, pixels: np.ndarray, name: str, mask: np.ndarray | None, row: Row) -> None:
        """Do as `add` does for an image that is no file yet: uint8 (H, W, 3)."""
        Image.fromarray(pixels).save(self._place(name))
        self._list(name, mask, row)

    def finish(
        self, out: Path, mask_classes: Sequence[str], facts: Facts | None, validation_share: float, seed: int
    ) -> Manifest:
        """Write the two files. Validation is carved where there is none; with facts, splits stay as they are."""
        manifest = described(out.name, self.folder, self.rows, mask_classes, facts, validation_share, seed)
        write_files(manifest, self.folder)
        return replace(manifest, root=out.resolve())

    def _place(self, name: str) -> Path:
        path = self.folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _list(self, name: str, mask: np.ndarray | None, row: Row) -> None:
        row = replace(row, image=f"images/{name}")
        if mask is not None:
            row = replace(row, mask=self._mask_name(name))
            path = self.folder / row.mask
            path.parent.mkdir(parents=True, exist_ok=True)
            write_mask(mask, path)
        self.rows.append(row)

    def _mask_name(self, image: str) -> str:
        """Name the mask after the image: a.png, or a.jpg.png when a.png is that of another image."""
        short = f"masks/{PurePosixPath(image).with_suffix('.png')}"
        name = f"masks/{image}.png" if short.casefold() in self._taken else short
        self._taken.add(name.casefold())
        return name


def described(
    name: str,
    root: Path,
    rows: Sequence[Row],
    mask_classes: Sequence[str],
    facts: Facts | None,
    validation_share: float,
    seed: int,
) -> Manifest:
    """Finish a manifest of rows that have masks. Raises: DataError when there are no rows, or none has a mask."""
    if not rows:
        raise DataError(f"{root if name == root.name else name}: there are no images to import.")
    if facts is None and not any(row.split == "val" for row in rows):
        rows = carve_validation(rows, share=validation_share, seed=seed)
    classes = facts.classes if facts else ()
    return Manifest(facts.name if facts else name, root.resolve(), classes, tuple(mask_classes), tuple(rows))
