"""The sidecar: what another tool's format has no place for, and the names of mask classes across formats.

It holds the data set's names, and each image's label, group, scale and other columns. mnsa writes it as one more entry
of the format's own JSON, or as mnsa.json beside it; other tools ignore it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnsa.data.formats.untrusted import require_mapping, require_names
from mnsa.data.manifest import Manifest, Row, parse_px_per_mm
from mnsa.errors import DataError

SIDECAR_KEY = "mnsa"

SIDECAR_FILE = "mnsa.json"


@dataclass(frozen=True)
class Sidecar:
    """The sidecar of a data set. images: by the name that the layout has for an image. where: for error messages."""

    where: str
    name: str
    classes: tuple[str, ...]
    mask_classes: tuple[str, ...]
    images: Mapping[str, Mapping[str, Any]]

    def complete_row(self, name: str, row: Row) -> Row:
        """Complete a row by what is known of the image of this name. Raises: DataError for a wrong type."""
        where = f"{self.where}, {name}"
        known = self.images.get(name, {})
        extra = require_mapping(known.get("extra", {}), where)
        texts = {key: known.get(key, "") for key in ("label", "group", "px_per_mm")}
        if not all(isinstance(text, str) for text in (*texts.values(), *extra.values())):
            raise DataError(f"{where}: label, group, px_per_mm and extra must be text.")
        scale = parse_px_per_mm(texts["px_per_mm"], where)
        return Row(row.image, row.mask, texts["label"], row.split, texts["group"], scale, extra)

    def lacks_mask(self, name: str) -> bool:
        """Tell whether nobody knows the image's mask, although the layout would call it empty."""
        return self.images.get(name, {}).get("mask") is False


def build_sidecar(manifest: Manifest, name_of: Mapping[str, str]) -> dict[str, Any]:
    """Collect the sidecar of those rows that `name_of` names: from the manifest's image to the layout's name for it."""
    known = {name_of[row.image]: _row_entry(row) for row in manifest.rows if row.image in name_of}
    lists = {"classes": list(manifest.classes), "mask_classes": list(manifest.mask_classes)}
    return {"name": manifest.name, **lists, "images": known}


def parse_sidecar(tree: object, where: str) -> Sidecar | None:
    """Read what `facts_tree` made; None, when there is nothing to read. Raises: DataError beginning with `where`."""
    if tree is None:
        return None
    known = require_mapping(tree, where)
    name = known.get("name")
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}: name must be text.")
    images = require_mapping(known.get("images", {}), where)
    return Sidecar(
        where,
        name,
        require_names(known.get("classes", []), f"{where}, classes"),
        require_names(known.get("mask_classes", []), f"{where}, mask_classes"),
        {image: require_mapping(sidecar, f"{where}, {image}") for image, sidecar in images.items()},
    )


def _row_entry(row: Row) -> dict[str, Any]:
    scale = "" if row.px_per_mm is None else repr(row.px_per_mm)
    texts = {"label": row.label, "group": row.group, "px_per_mm": scale}
    sidecar: dict[str, Any] = {key: text for key, text in texts.items() if text}
    if row.extra:
        sidecar["extra"] = dict(row.extra)
    return sidecar if row.mask else {**sidecar, "mask": False}


BACKGROUND = "background"

MAX_MASK_CLASSES = 254  # a mask's pixel is a byte, and 255 stands for the class where there is only one


def foreground_names(mask_classes: Sequence[str]) -> tuple[str, ...]:
    """Name the pixel values 1, 2, ... of masks."""
    return tuple(mask_classes) if len(mask_classes) == 1 else tuple(mask_classes[1:])


def resolve_mask_classes(found: Sequence[str], sidecar: Sidecar | None, where: str) -> tuple[str, ...]:
    """Name all pixel values, given the names of 1, 2, ...: as the sidecar have them; else one name stands alone.

    Raises: DataError for names that differ from the sidecar', that are alike, too many or none.
    """
    if sidecar:
        if foreground_names(sidecar.mask_classes) != tuple(found):
            raise DataError(
                f"{where}: the classes are {', '.join(found)}, "
                f"but {sidecar.where} has {', '.join(sidecar.mask_classes)}. "
                "Remove the latter, or make both agree."
            )
        return sidecar.mask_classes
    if not found:
        raise DataError(f"{where} names no classes of masks.")
    if len({*found, BACKGROUND}) <= len(found) or len(found) > MAX_MASK_CLASSES:
        raise DataError(f"{where}: {len(found)} classes; expected at most {MAX_MASK_CLASSES}, of different names.")
    return tuple(found) if len(found) == 1 else (BACKGROUND, *found)
