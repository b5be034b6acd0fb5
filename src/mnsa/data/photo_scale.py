"""The scale of each photo, in pixels per millimeter: a number for all, or by its file, its marker, or a table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from mnsa.data.decode import open_image
from mnsa.data.image_source import ImageSource
from mnsa.data.marker import DEFAULT_MM, find_marker_scale
from mnsa.data.paths import MASK_SUFFIXES, casefold_name
from mnsa.data.rows import parse_px_per_mm, read_csv
from mnsa.errors import ConfigError, DataError

_MM_PER_INCH = 25.4


@dataclass(frozen=True, slots=True)
class PhotoScale:
    """How the scale of a photo is found.

    kind: `dpi`, the resolution in the file; `marker`, the printed marker; `table`, a column px_per_mm. marker_mm: side
    of the marker's black square. by_image: scales of a table, by `_keys` of its images.
    """

    kind: Literal["dpi", "marker", "table"]
    marker_mm: float = DEFAULT_MM
    by_image: Mapping[str, float] = field(default_factory=dict)

    def find(self, image: ImageSource, pixels: np.ndarray | None = None) -> float:
        """Return the scale of an image. pixels: uint8 (H, W, 3), for a marker. Raises: DataError if there is none."""
        if self.kind == "marker":
            if pixels is None:
                raise DataError(f"{image} is a mask, which shows no marker. Give the scale as a number or as a table.")
            return find_marker_scale(pixels, self.marker_mm, str(image))
        if self.kind == "dpi":
            scale = read_dpi_scale(image)
            if scale is None:
                raise DataError(f"{image} does not say its resolution (dpi). Give the scale as a number or as a table.")
            return scale
        keys = *_keys(str(image)), image.stem
        found = next((self.by_image[key] for key in keys if key in self.by_image), None)
        if found is None:
            raise DataError(f"{image} has no px_per_mm in the table of scales. Add a row with its name.")
        return found


def parse_scale_option(text: str, *, marker_mm: float = DEFAULT_MM) -> float | PhotoScale:
    """Read `--px-per-mm`: a number (`2.5` or `2,5`), `dpi`, `marker`, or the path of a CSV file.

    The file has the columns image and px_per_mm. Raises: ConfigError, DataError.
    """
    if text == "dpi":
        return PhotoScale("dpi")
    if text == "marker":
        return PhotoScale("marker", marker_mm)
    if text.lower().endswith(".csv") or Path(text).is_file():
        return PhotoScale("table", by_image=_read_table(Path(text)))
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise ConfigError(
            f"--px-per-mm is {text!r}; expected a number, dpi, marker, or a CSV file with the columns image and "
            "px_per_mm."
        ) from None


def read_dpi_scale(image: ImageSource) -> float | None:
    """Return the scale that an image file says, or None where it says none, or another along each side.

    Scanners write the true resolution; cameras write a number that means nothing. Raises: BadFileError.
    """
    with open_image(image) as opened:
        across, down = (float(value) for value in opened.info.get("dpi", (0, 0)))
    if not (across > 1 and down > 1 and abs(across - down) <= 0.01 * across):
        return None
    return across / _MM_PER_INCH


def _read_table(path: Path) -> dict[str, float]:
    columns, rows = read_csv(path)
    if not {"image", "px_per_mm"} <= set(columns):
        raise DataError(f"{path} has the columns {', '.join(columns)}; expected image and px_per_mm.")
    scales: dict[str, float] = {}
    for row in rows:
        scale = parse_px_per_mm(row.cells["px_per_mm"], row.location)
        image = row.cells["image"]
        if scale is None:
            continue
        if scales.setdefault(image, scale) != scale:
            raise DataError(f"{row.location}: {image} has two different scales. Keep one.")
    short: dict[str, set[float]] = {}
    for image, scale in scales.items():
        for key in _keys(image):
            short.setdefault(key, set()).add(scale)
    return {key: next(iter(found)) for key, found in short.items() if len(found) == 1} | scales


def _keys(image: str) -> list[str]:
    r"""The names by which a photo may be listed, the best first: its path, the last levels of it, the name alone.

    They are followed by the same without the suffix, and by all of these in lower case. `\` is read as `/`.
    """
    levels = [level for level in image.replace("\\", "/").split("/") if level not in ("", ".")]
    paths = ["/".join(levels[start:]) for start in range(len(levels))]
    suffix = PurePosixPath(image).suffix
    names = [*paths, *(path.removesuffix(suffix) for path in paths if suffix.lower() in MASK_SUFFIXES)]
    return [*names, *map(casefold_name, names)]
