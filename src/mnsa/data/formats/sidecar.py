"""What a layout has no place for: the data set's names, and each image's label, group, scale and other columns.

mnsa writes it as one more entry of the layout's own JSON, or as mnsa.json beside it; other tools pass over it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mnsa.data.layouts.careful import mapping, names
from mnsa.data.manifest import Manifest, Row, parse_px_per_mm
from mnsa.errors import DataError

KEY = "mnsa"
FILE = "mnsa.json"


@dataclass(frozen=True)
class Facts:
    """The facts of a data set. images: by the name that the layout has for an image. where: for error messages."""

    where: str
    name: str
    classes: tuple[str, ...]
    mask_classes: tuple[str, ...]
    images: Mapping[str, Mapping[str, Any]]

    def row(self, name: str, row: Row) -> Row:
        """Complete a row by what is known of the image of this name. Raises: DataError for facts of the wrong type."""
        where = f"{self.where}, {name}"
        known = self.images.get(name, {})
        extra = mapping(known.get("extra", {}), where)
        texts = {key: known.get(key, "") for key in ("label", "group", "px_per_mm")}
        if not all(isinstance(text, str) for text in (*texts.values(), *extra.values())):
            raise DataError(f"{where}: label, group, px_per_mm and extra must be text.")
        scale = parse_px_per_mm(texts["px_per_mm"], where)
        return Row(row.image, row.mask, texts["label"], row.split, texts["group"], scale, extra)

    def lacks_mask(self, name: str) -> bool:
        """Tell whether nobody knows the image's mask, although the layout would call it empty."""
        return self.images.get(name, {}).get("mask") is False


def facts_tree(manifest: Manifest, name_of: Mapping[str, str]) -> dict[str, Any]:
    """Collect the facts of those rows that `name_of` names: from the manifest's image to the layout's name for it."""
    known = {name_of[row.image]: _facts_of(row) for row in manifest.rows if row.image in name_of}
    lists = {"classes": list(manifest.classes), "mask_classes": list(manifest.mask_classes)}
    return {"name": manifest.name, **lists, "images": known}


def parse_facts(tree: object, where: str) -> Facts | None:
    """Read what `facts_tree` made; None, when there is nothing to read. Raises: DataError beginning with `where`."""
    if tree is None:
        return None
    known = mapping(tree, where)
    name = known.get("name")
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}: name must be text.")
    images = mapping(known.get("images", {}), where)
    return Facts(
        where,
        name,
        names(known.get("classes", []), f"{where}, classes"),
        names(known.get("mask_classes", []), f"{where}, mask_classes"),
        {image: mapping(facts, f"{where}, {image}") for image, facts in images.items()},
    )


def _facts_of(row: Row) -> dict[str, Any]:
    scale = "" if row.px_per_mm is None else repr(row.px_per_mm)
    texts = {"label": row.label, "group": row.group, "px_per_mm": scale}
    facts: dict[str, Any] = {key: text for key, text in texts.items() if text}
    if row.extra:
        facts["extra"] = dict(row.extra)
    return facts if row.mask else {**facts, "mask": False}
