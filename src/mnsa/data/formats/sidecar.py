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
    """The sidecar of a data set. images: by the name of an image in the format. location: for error messages."""

    location: str
    name: str
    classes: tuple[str, ...]
    mask_classes: tuple[str, ...]
    images: Mapping[str, Mapping[str, Any]]

    def complete_row(self, name: str, row: Row) -> Row:
        """Complete a row by what is known of the image of this name. Raises: DataError for a wrong type."""
        location = f"{self.location}, {name}"
        known = self.images.get(name, {})
        extra = require_mapping(known.get("extra", {}), location)
        texts = {key: known.get(key, "") for key in ("label", "group", "px_per_mm")}
        if not all(isinstance(text, str) for text in (*texts.values(), *extra.values())):
            raise DataError(f"{location}: label, group, px_per_mm and extra must be text.")
        scale = parse_px_per_mm(texts["px_per_mm"], location)
        return Row(row.image, row.mask, texts["label"], row.split, texts["group"], scale, extra)

    def lacks_mask(self, name: str) -> bool:
        """Tell whether nobody knows the image's mask, although the layout would call it empty."""
        return self.images.get(name, {}).get("mask") is False


def build_sidecar(manifest: Manifest, name_of: Mapping[str, str]) -> dict[str, Any]:
    """Collect the sidecar of those rows that `name_of` names: from the manifest's image to the layout's name for it."""
    known = {name_of[row.image]: _row_entry(row) for row in manifest.rows if row.image in name_of}
    lists = {"classes": list(manifest.classes), "mask_classes": list(manifest.mask_classes)}
    return {"name": manifest.name, **lists, "images": known}


def parse_sidecar(tree: object, location: str) -> Sidecar | None:
    """Read what `facts_tree` made; None, when there is nothing to read. Raises: DataError beginning with `location`."""
    if tree is None:
        return None
    known = require_mapping(tree, location)
    name = known.get("name")
    if not isinstance(name, str) or not name:
        raise DataError(f"{location}: name must be text.")
    images = require_mapping(known.get("images", {}), location)
    return Sidecar(
        location,
        name,
        require_names(known.get("classes", []), f"{location}, classes"),
        require_names(known.get("mask_classes", []), f"{location}, mask_classes"),
        {image: require_mapping(sidecar, f"{location}, {image}") for image, sidecar in images.items()},
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


def resolve_mask_classes(found: Sequence[str], sidecar: Sidecar | None, location: str) -> tuple[str, ...]:
    """Name all pixel values, given the names of 1, 2, ...: as the sidecar have them; else one name stands alone.

    Raises: DataError for names that differ from the sidecar', that are alike, too many or none.
    """
    if sidecar:
        if foreground_names(sidecar.mask_classes) != tuple(found):
            raise DataError(
                f"{location}: the classes are {', '.join(found)}, "
                f"but {sidecar.location} has {', '.join(sidecar.mask_classes)}. "
                "Remove the latter, or make both agree."
            )
        return sidecar.mask_classes
    if not found:
        raise DataError(f"{location} names no classes of masks.")
    if len({*found, BACKGROUND}) <= len(found) or len(found) > MAX_MASK_CLASSES:
        raise DataError(f"{location}: {len(found)} classes; expected at most {MAX_MASK_CLASSES}, of different names.")
    return tuple(found) if len(found) == 1 else (BACKGROUND, *found)
