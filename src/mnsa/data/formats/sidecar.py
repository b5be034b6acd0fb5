"""The sidecar: metadata that other formats can't store; and the names of mask classes across formats.

It holds the name of the data set, its classes, and the label, group, scale and other columns of each image. mnsa writes
it as an extra entry of the format's own JSON file, or as a separate file mnsa.json. Other tools ignore it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnsa.data.formats.untrusted import require_mapping, require_names
from mnsa.data.manifest import Manifest, Row, parse_px_per_mm
from mnsa.errors import DataError

SIDECAR_KEY = "mnsa"

SIDECAR_FILE = "mnsa.json"

BACKGROUND = "background"

MAX_MASK_CLASSES = 254  # pixels are bytes, and 255 is the class of masks with one class


@dataclass(frozen=True)
class Sidecar:
    """The sidecar of a data set.

    images: entries by the image's name in the format. location: used in error messages.
    """

    location: str
    name: str
    classes: tuple[str, ...]
    mask_classes: tuple[str, ...]
    images: Mapping[str, Mapping[str, Any]]

    def complete_row(self, name: str, row: Row) -> Row:
        """Add the label, group, scale and other columns of the image `name` to a row.

        Raises: DataError for a wrong type.
        """
        location = f"{self.location}, {name}"
        entry = self.images.get(name, {})
        extra = require_mapping(entry.get("extra", {}), location)
        texts = {key: entry.get(key, "") for key in ("label", "group", "px_per_mm")}
        if not all(isinstance(text, str) for text in (*texts.values(), *extra.values())):
            raise DataError(f"{location}: label, group, px_per_mm and extra must be text.")
        scale = parse_px_per_mm(texts["px_per_mm"], location)
        return Row(row.image, row.mask, texts["label"], row.split, texts["group"], scale, extra)

    def lacks_mask(self, name: str) -> bool:
        """Return whether the image has no mask, in formats that can't distinguish a missing mask from an empty one."""
        return self.images.get(name, {}).get("mask") is False


def build_sidecar(manifest: Manifest, name_of: Mapping[str, str]) -> dict[str, Any]:
    """Build the sidecar of the rows in `name_of`, which maps an image of the manifest to its name in the format."""
    entry = {name_of[row.image]: _row_entry(row) for row in manifest.rows if row.image in name_of}
    lists = {"classes": list(manifest.classes), "mask_classes": list(manifest.mask_classes)}
    return {"name": manifest.name, **lists, "images": entry}


def parse_sidecar(tree: object, location: str) -> Sidecar | None:
    """Parse the result of `build_sidecar`; None for a tree of None. Raises: DataError that starts with `location`."""
    if tree is None:
        return None
    entry = require_mapping(tree, location)
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise DataError(f"{location}: name must be text.")
    images = require_mapping(entry.get("images", {}), location)
    return Sidecar(
        location,
        name,
        require_names(entry.get("classes", []), f"{location}, classes"),
        require_names(entry.get("mask_classes", []), f"{location}, mask_classes"),
        {image: require_mapping(sidecar, f"{location}, {image}") for image, sidecar in images.items()},
    )


def foreground_names(mask_classes: Sequence[str]) -> tuple[str, ...]:
    """Get the names of the pixel values 1, 2, ..."""
    return tuple(mask_classes) if len(mask_classes) == 1 else tuple(mask_classes[1:])


def resolve_mask_classes(found: Sequence[str], sidecar: Sidecar | None, location: str) -> tuple[str, ...]:
    """Get the mask classes, given the names of the pixel values 1, 2, ... The names of a sidecar take precedence.

    Without a sidecar, `background` is added in front unless there is only one class.
    Raises: DataError for names that differ from the sidecar's, for equal names, too many names or none.
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
        raise DataError(f"{location} names no mask classes. Draw and label at least one region, then export it again.")
    name, count = Counter((BACKGROUND, *found)).most_common(1)[0]
    if count > 1:
        raise DataError(f"{location}: the class {name!r} is named twice, or is the background. Merge or rename one.")
    if len(found) > MAX_MASK_CLASSES:
        raise DataError(f"{location}: {len(found)} classes; expected at most {MAX_MASK_CLASSES}. Merge some.")
    return tuple(found) if len(found) == 1 else (BACKGROUND, *found)


def _row_entry(row: Row) -> dict[str, Any]:
    scale = "" if row.px_per_mm is None else repr(row.px_per_mm)
    texts = {"label": row.label, "group": row.group, "px_per_mm": scale}
    sidecar: dict[str, Any] = {key: text for key, text in texts.items() if text}
    if row.extra:
        sidecar["extra"] = dict(row.extra)
    return sidecar if row.mask else {**sidecar, "mask": False}
