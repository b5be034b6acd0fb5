"""File names in a data set: which files are images, which are ignored, and which names are equal on some systems.

Every function that lists the images of a folder uses `list_image_files`, so all of them ignore the same files.
"""

import os
import unicodedata
from pathlib import Path, PurePosixPath

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
