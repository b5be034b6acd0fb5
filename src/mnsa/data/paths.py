"""Image files: which files are images, which are ignored, and the patterns and unique names that commands use.

Every function that lists the images of a folder uses `list_image_files`, so all of them ignore the same files. Some
systems treat names as equal that differ only in case; `casefold_name` compares them.
"""

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from mnsa.errors import DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"})


_IGNORED_NAMES = frozenset({"__MACOSX", "Thumbs.db"})  # macOS archives, Windows thumbnails


def is_ignored(name: str) -> bool:
    """Whether one level of a path is ignored: hidden files (also `._*` of macOS, `.ipynb_checkpoints`), `__MACOSX`."""
    return name.startswith(".") or name in _IGNORED_NAMES


def is_image_name(path: str) -> bool:
    """Whether a path with `/` names an image: the suffix of an image format, and no level that is ignored."""
    levels = PurePosixPath(path)
    return levels.suffix.lower() in IMAGE_SUFFIXES and not any(map(is_ignored, levels.parts))


def list_image_files(folder: Path, *, recursive: bool = True) -> list[PurePosixPath]:
    """List the image files of a folder, sorted, relative to it. Links to folders are not followed.

    recursive: list the folders below it as well. A folder that does not exist has no images.
    """
    found: list[PurePosixPath] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if recursive and not is_ignored(name)]
        below = PurePosixPath(Path(parent).relative_to(folder).as_posix())
        found.extend(below / name for name in files if is_image_name(name))
    return sorted(found)


def casefold_name(name: str) -> str:
    """Map names to the same text when they differ only in upper and lower case, or in Unicode normalization.

    Windows and macOS take such names for the same file.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def find_images(patterns: Iterable[str], *, exclude: Path | None = None) -> list[Path]:
    """List the image files of paths, folders (with the folders below) and globs, in order and each once.

    exclude: an output folder that may be among the images; its files are left out.
    Raises: DataError when a pattern matches no image file.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        files = [path for path in _expand_pattern(pattern) if exclude is None or not _is_inside(path, exclude)]
        if not files:
            raise DataError(
                f"{pattern} names no image file. Give files, folders or globs of {', '.join(sorted(IMAGE_SUFFIXES))}."
            )
        found.update(dict.fromkeys(files))
    return list(found)


def unique_names(images: Sequence[Path]) -> list[str]:
    """Give each image a name for its output files: its stem, with a number where two images have the same.

    Names that differ only in upper and lower case count as the same.
    """
    names: list[str] = []
    taken: set[str] = set()
    last: dict[str, int] = {}  # the last number of each stem, so a thousand images of one name take little time
    for path in images:
        name, number = path.stem, last.get(path.stem.lower(), 1)
        while name.lower() in taken:
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name.lower())
        last[path.stem.lower()] = number
        names.append(name)
    return names


def _is_inside(path: Path, folder: Path) -> bool:
    return path.absolute().is_relative_to(folder.absolute())


def _expand_pattern(pattern: str) -> Iterator[Path]:
    path = Path(pattern)
    if path.is_dir():
        yield from (path / file for file in list_image_files(path))
    elif path.exists():
        yield path
    elif any(mark in pattern for mark in "*?["):
        base = Path(path.anchor)
        yield from sorted(file for file in base.glob(str(path.relative_to(base))) if file.is_file())
