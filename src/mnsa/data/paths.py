"""Find image files by paths, folders and glob patterns, and give each a unique name for its output files."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mnsa.data.paths import IMAGE_SUFFIXES, list_image_files
from mnsa.errors import DataError


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
