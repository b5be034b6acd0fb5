"""COCO: images/, and annotations/ with a JSON per split; a region of a mask is an annotation, as packed run lengths."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from mnsa.data.layouts.classes import foreground
from mnsa.data.layouts.facts import KEY, facts_tree
from mnsa.data.layouts.pictures import copy_upright, upright_size
from mnsa.data.layouts.regions import Region, regions_of
from mnsa.data.layouts.rle import pack, region_runs
from mnsa.data.manifest import Manifest, Row
from mnsa.data.writers.entries import Entry, mask_of, write_json


def write_coco(manifest: Manifest, entries: list[Entry], folder: Path) -> None:
    """Fill a folder. Category ids are pixel values; other ids begin with 1 and go on from file to file."""
    (folder / "images").mkdir()
    (folder / "annotations").mkdir()
    images: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    annotations: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    name_of: defaultdict[str, dict[str, str]] = defaultdict(dict)
    last = 0
    for number, (row, stem) in enumerate(entries, 1):
        name = copy_upright(manifest.image_path(row), folder / "images", stem)
        name_of[row.split][row.image] = name
        height, width = upright_size(folder / "images" / name)
        images[row.split].append({"id": number, "file_name": name, "height": height, "width": width})
        found = _annotations(manifest, row, number, last)
        annotations[row.split].extend(found)
        last += len(found)
    categories = [{"id": value, "name": name} for value, name in enumerate(foreground(manifest.mask_classes), 1)]
    for split, records in images.items():
        tree = {
            "info": {"description": manifest.name, KEY: facts_tree(manifest, name_of[split])},
            "images": records,
            "annotations": annotations[split],
            "categories": categories,
        }
        write_json(tree, folder / "annotations" / f"{split or 'unused'}.json")


def _annotations(manifest: Manifest, row: Row, image_id: int, last: int) -> list[dict[str, Any]]:
    mask = mask_of(manifest, row)
    if mask is None:
        return []
    height, width = mask.shape
    return [
        {"id": number, "image_id": image_id, **_annotation(region, height, width)}
        for number, region in enumerate(regions_of(mask), last + 1)
    ]


def _annotation(region: Region, height: int, width: int) -> dict[str, Any]:
    rows, columns = region.inside.shape
    return {
        "category_id": region.value,
        "segmentation": {"size": [height, width], "counts": pack(region_runs(region, height, width))},
        "bbox": [region.left, region.top, columns, rows],
        "area": int(region.inside.sum()),
        "iscrowd": 0,
    }
