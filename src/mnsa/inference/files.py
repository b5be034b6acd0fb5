"""Answers for many files: a table, a mask and an overlay each, and a sheet of a dozen."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mnsa.data.images import SUFFIXES, read_image, write_mask
from mnsa.data.sheet import write_sheet
from mnsa.errors import DataError, MnsaError, RunError
from mnsa.inference.overlay import overlay
from mnsa.inference.predictor import Predictor
from mnsa.records import Prediction
from mnsa.traits import Ruler

_SHEET_TILES, _SHEET_COLUMNS, _TILE_PX = 12, 3, (192, 392)  # each tile: the image, and its overlay beside it


@dataclass(frozen=True, slots=True)
class Answers:
    """What `predict_files` left behind."""

    table: Path
    sheet: Path | None
    done: int
    broken: int


def find_images(patterns: Iterable[str]) -> list[Path]:
    """Image files named by paths, folders (searched through) and globs; each once, in order.

    Raises: DataError when a pattern names nothing.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        files = list(_expand(pattern))
        if not files:
            raise DataError(
                f"{pattern} names no image file. Give files, folders or globs of {', '.join(sorted(SUFFIXES))}."
            )
        found.update(dict.fromkeys(files))
    return list(found)


def predict_files(predictor: Predictor, images: list[Path], out: Path, *, ruler: Ruler | None = None) -> Answers:
    """Answer for each file into a new folder: predictions.csv, masks/, overlays/, sheet.png.

    ruler: measures the masks, a column per trait. A broken file gets its reason in the table and the others are done.
    Raises: RunError when `out` exists or can't be written.
    """
    try:
        out.mkdir(parents=True)
    except FileExistsError:
        raise RunError(f"{out} exists and is left as it is. Choose another --out.") from None
    except OSError as error:
        raise RunError(f"{out} can't be written: {error.strerror}. Choose another --out.") from None
    tiles: list[tuple[str, np.ndarray]] = []
    on_sheet = set(images[:: -(-len(images) // _SHEET_TILES)])
    names, broken = _unique_names(images), 0
    with (out / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, _columns(predictor, ruler), restval="", lineterminator="\n")
        table.writeheader()
        for path in images:
            try:
                pixels = read_image(path)
                answer = predictor.predict_image(pixels, str(path))
            except MnsaError as error:
                table.writerow({"image": str(path), "error": str(error)})
                broken += 1
                continue
            table.writerow(_row(predictor, answer, ruler))
            picture = _write_pictures(answer, pixels.permute(1, 2, 0).numpy(), out, names[path])
            if path in on_sheet:
                tiles.append((_caption(predictor, answer), picture))
    sheet = out / "sheet.png" if tiles else None
    if sheet:
        write_sheet(tiles, sheet, columns=_SHEET_COLUMNS, tile_px=_TILE_PX)
    return Answers(out / "predictions.csv", sheet, len(images) - broken, broken)


def _expand(pattern: str) -> Iterator[Path]:
    path = Path(pattern)
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    elif path.exists():
        yield path
    elif any(mark in pattern for mark in "*?["):
        base = Path(path.anchor)
        yield from sorted(file for file in base.glob(str(path.relative_to(base))) if file.is_file())


def _unique_names(images: list[Path]) -> dict[Path, str]:
    """A name per output: the image's stem, with a number where two images share it."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in images:
        name, number = path.stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name.lower())
        names[path] = name
    return names


def _columns(predictor: Predictor, ruler: Ruler | None) -> list[str]:
    classes = ["class", "probability", "top5"] if predictor.classes else []
    traits = ruler.columns if ruler else []
    return ["image", *classes, *(f"share_{name}" for name in predictor.mask_classes), *traits, "error"]


def _row(predictor: Predictor, answer: Prediction, ruler: Ruler | None) -> dict[str, str]:
    row = {"image": answer.path}
    if answer.class_probs is not None:
        best = answer.class_probs.argsort()[::-1][:5]
        row["class"], row["probability"] = predictor.classes[best[0]], f"{answer.class_probs[best[0]]:.4f}"
        row["top5"] = "; ".join(f"{predictor.classes[k]} {answer.class_probs[k]:.4f}" for k in best)
    if answer.mask is not None:
        first = 1 if len(predictor.mask_classes) == 1 else 0
        for index, name in enumerate(predictor.mask_classes, start=first):
            row[f"share_{name}"] = f"{float((answer.mask == index).mean()):.6f}"
        if ruler:
            row |= ruler.row(answer.mask)
    return row


def _write_pictures(answer: Prediction, pixels: np.ndarray, out: Path, name: str) -> np.ndarray:
    """Write mask and overlay; return the image and its overlay side by side."""
    if answer.mask is None:
        return pixels
    for folder in ("masks", "overlays"):
        (out / folder).mkdir(exist_ok=True)
    write_mask(answer.mask, out / "masks" / f"{name}.png")
    picture = overlay(pixels, answer.mask)
    Image.fromarray(picture).save(out / "overlays" / f"{name}.png")
    return np.concatenate([pixels, np.full_like(pixels[:, : pixels.shape[1] // 32], 255), picture], axis=1)


def _caption(predictor: Predictor, answer: Prediction) -> str:
    if answer.class_probs is None:
        return Path(answer.path).stem
    best = int(answer.class_probs.argmax())
    return f"{predictor.classes[best]} {answer.class_probs[best]:.0%}"
