"""A contact sheet: a data set's images with the outlines of their masks, to look at for what no rule finds.

H, W image size; h, w tile size, in pixels.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from mnsa.data.decode import open_image, read_mask_indices, resolve_inside, to_upright_rgb
from mnsa.data.manifest import Manifest
from mnsa.data.rows import SPLITS, Row
from mnsa.errors import DataError
from mnsa.visualize.image_grid import write_image_grid
from mnsa.visualize.overlay import draw_mask_outlines

_TILES, _COLUMNS, _TILE_PX = 48, 6, (220, 260)


def write_contact_sheet(manifest: Manifest, path: Path) -> int:
    """Draw up to 48 images, spread over classes and splits; those that can't be read are left out.

    Returns how many were drawn: none, no file. Raises: DataError when `path` can't be written.
    """
    tiles = []
    for row in _choose_rows(manifest.rows, _TILES):
        try:
            tiles.append((_caption(row), _draw_tile(manifest, row)))
        except DataError:
            continue
    if tiles:
        try:
            tallest = max(pixels.shape[0] for _, pixels in tiles)
            write_image_grid(tiles, path, columns=_COLUMNS, tile_px=(tallest, _TILE_PX[1]))
        except OSError as error:
            raise DataError(f"{path} can't be written: {error.strerror}. Choose another --contact-sheet.") from None
    return len(tiles)


def _draw_tile(manifest: Manifest, row: Row) -> np.ndarray:
    height, width = _TILE_PX
    path = resolve_inside(manifest.root, row.image)
    with open_image(path) as image:
        upright = to_upright_rgb(image, path)
    mask = _read_row_mask(manifest, row)
    if mask is None or mask.shape != (upright.height, upright.width):
        mask = np.zeros((upright.height, upright.width), np.uint8)
    return draw_mask_outlines(upright, mask, (width, height))


def _read_row_mask(manifest: Manifest, row: Row) -> np.ndarray | None:
    if not row.mask or not manifest.mask_classes:
        return None
    path = resolve_inside(manifest.root, row.mask)
    return read_mask_indices(path, len(manifest.mask_classes))


def _choose_rows(rows: Sequence[Row], count: int) -> list[Row]:
    """Choose rows in turn from the splits and classes, evenly within each; in order of split, class and row."""
    kinds: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        kinds[row.split, row.label].append(row)
    place = {split: number for number, split in enumerate(SPLITS)}
    asked = sorted(kinds, key=lambda kind: (place.get(kind[0], len(place)), kind))[:: -(-len(kinds) // count) or 1]
    quota = dict.fromkeys(asked, 0)
    for _ in range(count):
        if left := [kind for kind in asked if quota[kind] < len(kinds[kind])]:
            quota[min(left, key=quota.__getitem__)] += 1
    return [kinds[kind][len(kinds[kind]) * n // quota[kind]] for kind in asked for n in range(quota[kind])]


def _caption(row: Row) -> str:
    words = (PurePosixPath(row.image).stem, row.label, row.split)
    caption = " · ".join(word for word in words if word)
    return caption if len(caption) <= 40 else f"…{caption[-39:]}"
