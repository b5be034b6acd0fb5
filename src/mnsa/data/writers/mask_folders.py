"""Images and masks in two folders, by split, and mnsa.json for what these can't say."""

from pathlib import Path

import numpy as np
from PIL import Image

from mnsa.data.layouts.facts import FILE, facts_tree
from mnsa.data.layouts.pictures import copy_upright
from mnsa.data.manifest import Manifest
from mnsa.data.writers.entries import Entry, mask_of, write_json


def write_mask_folders(manifest: Manifest, entries: list[Entry], folder: Path) -> None:
    """Fill a folder. Masks are grey PNGs: 0 and 255 where there is one class, else the class indices."""
    scale = np.uint8(255 if len(manifest.mask_classes) == 1 else 1)
    name_of = {}
    for row, stem in entries:
        place = row.split or "unused"
        for kind in ("images", "masks"):
            (folder / kind / place).mkdir(parents=True, exist_ok=True)
        name_of[row.image] = f"{place}/{copy_upright(manifest.image_path(row), folder / 'images' / place, stem)}"
        mask = mask_of(manifest, row)
        if mask is not None:
            Image.fromarray(mask * scale).save(folder / "masks" / place / f"{stem}.png")
    write_json(facts_tree(manifest, name_of), folder / FILE)
