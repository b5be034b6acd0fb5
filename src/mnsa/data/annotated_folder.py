"""A data set whose masks are drawn by hand: `mnsa serve --annotate` reads its images and writes its masks.

H, W image size in pixels.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mnsa.data.decode import read_mask_indices, read_pixels
from mnsa.data.manifest import Manifest, Row, read_manifest, resolve_inside, write_manifest_files
from mnsa.data.paths import list_images_to_import
from mnsa.errors import ConfigError, DataError, output_errors
from mnsa.io import atomic_write_bytes, lock

ANNOTATIONS = "annotations"  # the folder of the masks, in that of the data set

VAL_EVERY = 5  # of the images without a split that get a mask, each fifth is for validation, from the second on


class AnnotatedFolder:
    """The images of a data set, or of a folder of photos, and their masks.

    Masks are written into FOLDER/annotations, and their paths into manifest.csv; other masks stay as they are. In a
    folder of photos, the first mask also makes manifest.csv and dataset.toml, so that it is a data set. Images without
    a split get one with their mask.
    mask_classes: of the masks, where the data set has none.
    Raises: DataError when there are no images, or when they are outside the folder; ConfigError without mask classes.
    """

    def __init__(self, folder: Path, mask_classes: Sequence[str]) -> None:
        self.folder = folder.resolve()
        self._predicted_classes = tuple(mask_classes)
        self._lock = threading.Lock()
        manifest = self._read()
        self.mask_classes = manifest.mask_classes
        self.images = tuple(row.image for row in manifest.rows)
        if not self.mask_classes:
            raise ConfigError(f"Neither {folder} nor the network has mask classes, so there are no masks to draw.")
        if manifest.root != self.folder:
            raise DataError(
                f"The images of {folder} are in {manifest.root}, where no masks are written. Annotate that folder: "
                f"--data '{manifest.root}'"
            )

    def masks(self) -> dict[str, str]:
        """Return the path of the mask of each image, or an empty text, as the files say now."""
        return {row.image: row.mask for row in self._read().rows}

    def read_image(self, image: str) -> np.ndarray:
        """Read an image, upright: uint8 (H, W, 3). Raises: DataError."""
        return read_pixels(resolve_inside(self.folder, image))

    def read_mask(self, image: str) -> np.ndarray | None:
        """Read the mask of an image: class indices, uint8 (H, W); None when there is none. Raises: DataError."""
        mask = self.masks().get(image)
        return read_mask_indices(resolve_inside(self.folder, mask), len(self.mask_classes)) if mask else None

    def write_mask(self, image: str, png: bytes) -> str:
        """Write the mask of an image, and its path into the manifest. Returns: the path. Raises: DataError."""
        mask = f"{ANNOTATIONS}/{image}.png"
        with self._lock, output_errors(self.folder, DataError), lock(self.folder / ".annotations.lock"):
            manifest = self._read()
            if image not in self.images or image not in {row.image for row in manifest.rows}:
                raise DataError(f"{image} is no longer in {self.folder / 'manifest.csv'}. Start the server again.")
            path = resolve_inside(self.folder, mask)  # `annotations` may be a link to another folder
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_bytes(path, png)
            split = _choose_split(manifest.rows, image)
            rows = tuple(
                replace(row, mask=mask, split=row.split or split) if row.image == image else row
                for row in manifest.rows
            )
            write_manifest_files(replace(manifest, rows=rows, mask_classes=self.mask_classes), self.folder)
        return mask

    def _read(self) -> Manifest:
        if (self.folder / "manifest.csv").exists() or (self.folder / "dataset.toml").exists():
            manifest = read_manifest(self.folder)
            return manifest if manifest.mask_classes else replace(manifest, mask_classes=self._predicted_classes)
        if not self.folder.is_dir():
            raise DataError(f"There is no folder {self.folder}.")
        paths = (path for path in list_images_to_import(self.folder) if path.parts[0] != ANNOTATIONS)
        rows = tuple(Row(image=str(path)) for path in paths)
        if not rows:
            raise DataError(f"{self.folder} has no images to annotate, and no manifest.csv.")
        return Manifest(self.folder.name, self.folder, (), self._predicted_classes, rows)


def _choose_split(rows: Sequence[Row], image: str) -> str:
    """The split of an image that gets a mask: that of its group, or by the number of masks before."""
    row = next(row for row in rows if row.image == image)
    of_group = (other.split for other in rows if other.split and other.group and other.group == row.group)
    masks = sum(bool(other.mask and other.split in ("train", "val")) for other in rows if other.image != image)
    return next(of_group, "val" if masks % VAL_EVERY == 1 else "train")
