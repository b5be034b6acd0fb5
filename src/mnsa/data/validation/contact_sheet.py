"""A contact sheet: images of a data set with the outlines of their masks, for problems that only a person sees.

H, W image size; h, w tile size, in pixels.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from mnsa.data.decode import open_image, read_mask_indices, to_upright_rgb
from mnsa.data.manifest import Manifest, resolve_inside
from mnsa.data.rows import SPLITS, Row
from mnsa.errors import DataError
from mnsa.visualize.drawing import draw_mask_outlines, write_image_grid

_TILES, _COLUMNS = 48, 6

_TILE_HEIGHT_PX, _TILE_WIDTH_PX = 220, 260


def write_contact_sheet(manifest: Manifest, path: Path) -> int:
    """Draw up to 48 images, from all classes and splits, with file name, class and split below each.

    Images that can't be read are left out.

    Returns: number of images drawn; if it is 0, no file is written. Raises: DataError when `path` can't be written.
    """
    tiles = []
    chosen = _choose_rows(manifest.rows, _TILES)
    names = Counter(PurePosixPath(row.image).name for row in chosen)
    for row in chosen:
        try:
            tiles.append((_caption(row, names), _draw_tile(manifest, row)))
        except DataError:
            continue
    if tiles:
        height = max(pixels.shape[0] for _, pixels in tiles)
        try:
            write_image_grid(tiles, path, columns=_COLUMNS, tile_px=(height, _TILE_WIDTH_PX))
        except OSError as error:
            raise DataError(f"{path} can't be written: {error.strerror}. Choose another path.") from None
    return len(tiles)


def _draw_tile(manifest: Manifest, row: Row) -> np.ndarray:
    path = resolve_inside(manifest.root, row.image)
    with open_image(path) as image:
        upright = to_upright_rgb(image, path)
    mask = None
    if row.mask and manifest.mask_classes:
        mask = read_mask_indices(resolve_inside(manifest.root, row.mask), len(manifest.mask_classes))
    if mask is None or mask.shape != (upright.height, upright.width):
        mask = np.zeros((upright.height, upright.width), np.uint8)
    return draw_mask_outlines(upright, mask, (_TILE_WIDTH_PX, _TILE_HEIGHT_PX))


def _choose_rows(rows: Sequence[Row], count: int) -> list[Row]:
    """Choose up to `count` rows: about as many of every split and class, evenly spaced within them.

    Sorted by split, class and position in the table.
    """
    strata: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        strata[row.split, row.label].append(row)
    position = {split: number for number, split in enumerate(SPLITS)}
    in_order = sorted(strata, key=lambda stratum: (position.get(stratum[0], len(position)), stratum))
    step = -(-len(strata) // count) or 1  # if there are more strata than tiles, use every second, third, ...
    quotas = dict.fromkeys(in_order[::step], 0)
    for _ in range(count):
        if open_strata := [stratum for stratum in quotas if quotas[stratum] < len(strata[stratum])]:
            quotas[min(open_strata, key=quotas.__getitem__)] += 1
    return [
        strata[stratum][len(strata[stratum]) * n // quota] for stratum, quota in quotas.items() for n in range(quota)
    ]


def _caption(row: Row, names: Counter[str]) -> tuple[str, str]:
    """The file name, with its folders if another tile has the same one; class and split."""
    name = PurePosixPath(row.image).name
    return name if names[name] == 1 else row.image, " · ".join(filter(None, (row.label, row.split)))
