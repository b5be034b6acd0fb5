"""Numbers about a data set: images per class and split, image sizes, mask classes, scale."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from mnsa.data.manifest import Manifest
from mnsa.data.rows import SPLITS, Row
from mnsa.data.validation.inspect import Inspection

Summary = dict[str, Any]


def summarize(manifest: Manifest, inspections: Sequence[Inspection]) -> Summary:
    """Count rows, and measure the readable files. A value is None when no file or row has it."""
    return {
        "images": len(manifest.rows),
        "splits": _count_by_split(manifest.rows),
        "classes": _count_by_class(manifest),
        "groups": len({row.group for row in manifest.rows if row.group}),
        "masks": sum(bool(row.mask) for row in manifest.rows),
        "size": _summarize_sizes(inspections),
        "foreground": _mean_class_fractions(manifest.mask_classes, inspections),
        "px_per_mm": _summarize_scales(manifest.rows),
    }


def _count_by_split(rows: Sequence[Row]) -> dict[str, int]:
    counts = Counter(row.split if row.split in SPLITS else "unused" for row in rows)
    return {split: counts[split] for split in (*SPLITS, "unused")}


def _count_by_class(manifest: Manifest) -> dict[str, dict[str, int]]:
    rows_of_class: dict[str, list[Row]] = {name: [] for name in manifest.classes}
    for row in manifest.rows:
        if row.label in rows_of_class:
            rows_of_class[row.label].append(row)
    return {name: _count_by_split(rows) for name, rows in rows_of_class.items()}


def _summarize_sizes(inspections: Sequence[Inspection]) -> Summary | None:
    """Image sizes (W, H) in pixels."""
    sizes = Counter(inspection.image.size for inspection in inspections if inspection.image)
    if not sizes:
        return None
    by_area = sorted(sizes.elements(), key=lambda size: size[0] * size[1])
    return {
        "different": len(sizes),
        "smallest": by_area[0],
        "median": by_area[len(by_area) // 2],
        "largest": by_area[-1],
    }


def _mean_class_fractions(mask_classes: Sequence[str], inspections: Sequence[Inspection]) -> dict[str, float] | None:
    """Mean fraction of each class in the pixels of a mask. With a single mask class, the background is left out."""
    fractions = [
        np.array(inspection.mask.pixels) / sum(inspection.mask.pixels) for inspection in inspections if inspection.mask
    ]
    if not fractions:
        return None
    mean = np.mean(fractions, axis=0)
    return dict(zip(mask_classes, (mean[1:] if len(mask_classes) == 1 else mean).tolist(), strict=True))


def _summarize_scales(rows: Sequence[Row]) -> Summary | None:
    scales = [row.px_per_mm for row in rows if row.px_per_mm]
    if not scales:
        return None
    return {"rows": len(scales), "smallest": min(scales), "median": float(np.median(scales)), "largest": max(scales)}
