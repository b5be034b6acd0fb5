"""YOLO segmentation: images/ and labels/ by split, data.yaml, and mnsa.json for what these can't say."""

from pathlib import Path

import numpy as np
import yaml

from mnsa.data.layouts.classes import foreground
from mnsa.data.layouts.facts import FILE, facts_tree
from mnsa.data.layouts.outline import outline
from mnsa.data.layouts.pictures import copy_upright
from mnsa.data.layouts.regions import regions_of
from mnsa.data.manifest import SPLITS, Manifest
from mnsa.data.writers.entries import Entry, mask_of, write_json


def write_yolo(manifest: Manifest, entries: list[Entry], folder: Path) -> None:
    """Fill a folder. A region is a line: its outline along the pixels' edges, holes tied to it; nothing is lost."""
    name_of = {}
    for row, stem in entries:
        place = row.split or "unused"
        for kind in ("images", "labels"):
            (folder / kind / place).mkdir(parents=True, exist_ok=True)
        name_of[row.image] = f"images/{place}/{copy_upright(manifest.image_path(row), folder / 'images' / place, stem)}"
        mask = mask_of(manifest, row)
        if mask is not None:
            (folder / "labels" / place / f"{stem}.txt").write_text(_lines(mask), encoding="ascii", newline="\n")
    used = {row.split for row in manifest.rows}
    places = {split: f"images/{split}" for split in SPLITS if split in used}
    tree = {**places, "names": dict(enumerate(foreground(manifest.mask_classes)))}
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8", newline="\n")
    write_json(facts_tree(manifest, name_of), folder / FILE)


def _lines(mask: np.ndarray) -> str:
    size = mask.shape[::-1]
    lines = []
    for region in regions_of(mask):
        shares = (outline(region) / size).ravel()
        lines.append(" ".join((str(region.value - 1), *(f"{share:.9g}" for share in shares))) + "\n")
    return "".join(lines)
