"""What a data set holds, in numbers: images per class and split, sizes, foreground, scale."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from mnsa.data.manifest import Manifest
from mnsa.data.rows import SPLITS, Row
from mnsa.data.validation.inspect import Inspection

Summary = dict[str, Any]


def summarize(manifest: Manifest, seen: Sequence[Inspection]) -> Summary:
    """Count rows, and measure the files that can be read; what nothing is known of is None."""
    return {
        "images": len(manifest.rows),
        "splits": _count_by_split(manifest.rows),
        "classes": _count_by_class(manifest),
        "groups": len({row.group for row in manifest.rows if row.group}),
        "masks": sum(bool(row.mask) for row in manifest.rows),
        "size": _summarize_sizes(seen),
        "foreground": _mask_class_fractions(manifest.mask_classes, seen),
        "px_per_mm": _summarize_scales(manifest.rows),
    }


def _count_by_split(rows: Sequence[Row]) -> dict[str, int]:
    counts = Counter(row.split if row.split in SPLITS else "unused" for row in rows)
    return {split: counts[split] for split in (*SPLITS, "unused")}


def _count_by_class(manifest: Manifest) -> dict[str, dict[str, int]]:
    rows: dict[str, list[Row]] = {name: [] for name in manifest.classes}
    for row in manifest.rows:
        if row.label in rows:
            rows[row.label].append(row)
    return {name: _count_by_split(some) for name, some in rows.items()}


def _summarize_sizes(seen: Sequence[Inspection]) -> Summary | None:
    sizes = Counter(one.image.size for one in seen if one.image)
    if not sizes:
        return None
    by_area = sorted(sizes.elements(), key=lambda size: size[0] * size[1])
    return {
        "different": len(sizes),
        "smallest": by_area[0],
        "median": by_area[len(by_area) // 2],
        "largest": by_area[-1],
    }


def _mask_class_fractions(mask_classes: Sequence[str], seen: Sequence[Inspection]) -> Summary | None:
    """Mean share of each class in a mask's pixels; with one class the background goes without saying."""
    shares = [np.array(one.mask.pixels) / sum(one.mask.pixels) for one in seen if one.mask]
    if not shares:
        return None
    mean = np.mean(shares, axis=0)
    return dict(zip(mask_classes, (mean[1:] if len(mask_classes) == 1 else mean).tolist(), strict=True))


def _summarize_scales(rows: Sequence[Row]) -> Summary | None:
    scales = [row.px_per_mm for row in rows if row.px_per_mm]
    if not scales:
        return None
    return {"rows": len(scales), "smallest": min(scales), "median": float(np.median(scales)), "largest": max(scales)}
