"""Image files: which files are images, which are passed over, and the patterns and unique names that commands use.

One rule for every walk over a folder, in `scan_images`. Passed over are hidden names (also `._*` of macOS and
`.ipynb_checkpoints`), desktop files (`__MACOSX`, `Thumbs.db`, `desktop.ini`, ...), and folders that mnsa has written:
data sets, predictions, runs and studies below the folder. Links to folders are not followed. Some systems treat names
as equal that differ only in case; `casefold_name` compares them.
"""

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path, PurePosixPath

from mnsa.data.image_source import ImageSource, Url, expand_url, is_url
from mnsa.errors import DataError, install_command

logger = logging.getLogger(__name__)

_HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})  # photos of phones; an optional package reads them

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp"}) | (
    _HEIF_SUFFIXES if find_spec("pillow_heif") else frozenset()
)

MASK_SUFFIXES = IMAGE_SUFFIXES | {".gif"}

# Of photos in formats that mnsa doesn't read.
UNREAD_SUFFIXES = (
    _HEIF_SUFFIXES | {".avif", ".gif", ".jp2", ".jxl", ".psd", ".dng", ".nef", ".cr2", ".cr3", ".arw"}
) - IMAGE_SUFFIXES

# A file that each folder of mnsa has: a data set, predictions, a run, a study.
OUTPUT_MARKERS = frozenset({"manifest.csv", "predictions.json", "provenance.json", "study.toml"})

# Of macOS archives, Windows and Synology, in lower case.
_DESKTOP_NAMES = frozenset({"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "@eadir"})

_MAX_STEM_BYTES = 251  # file systems allow 255, with a suffix


@dataclass
class PassedOver:
    """What a walk over a folder has passed over; paths are relative to the folder.

    other: files that are no images, by suffix. ignored: number of hidden and desktop files and folders. outputs:
    folders that mnsa has written. links: links to folders. empty: folders without an image, or any other file, in or
    below them. not_utf8: images that a table can't list, as their names are not UTF-8.
    """

    other: Counter[str] = field(default_factory=Counter)
    ignored: int = 0
    outputs: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    not_utf8: list[str] = field(default_factory=list)

    @property
    def is_notable(self) -> bool:
        """Whether more than hidden and desktop files was passed over."""
        return bool(self.other or self.outputs or self.links or self.empty or self.not_utf8)

    def describe(self) -> str:
        """Say what was passed over, in one sentence; an empty text for nothing."""
        suffixes = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in sorted(self.other.items()))
        hint = next(filter(None, map(missing_package_hint, self.other)), "")
        parts = {
            "files that are no images in a supported format": suffixes,
            "hidden and desktop files": str(self.ignored or ""),
            "folders that mnsa has written": preview(self.outputs),
            "links to folders, which are not followed": preview(self.links),
            "folders without images": preview(self.empty),
            "images whose names are not UTF-8 (rename them)": preview(self.not_utf8),
        }
        listed = "; ".join(f"{what}: {names}" for what, names in parts.items() if names)
        return f"Passed over: {listed}.{hint}" if listed else ""


def is_ignored(name: str) -> bool:
    """Whether one level of a path is passed over: a hidden name, or one of a desktop, such as `__MACOSX`."""
    return name.startswith(".") or name.casefold() in _DESKTOP_NAMES


def is_image_name(path: str) -> bool:
    """Whether a path with `/` names an image: the suffix of an image format, and no level that is ignored."""
    levels = PurePosixPath(path)
    return levels.suffix.lower() in IMAGE_SUFFIXES and not any(map(is_ignored, levels.parts))


def missing_package_hint(suffix: str) -> str:
    """How to have the images of a suffix (lower case) read that an optional package reads; empty for others."""
    needs_package = suffix in _HEIF_SUFFIXES - IMAGE_SUFFIXES
    return f" To read {suffix} photos: {install_command('heif')}." if needs_package else ""


def list_image_files(folder: Path, *, recursive: bool = True) -> list[PurePosixPath]:
    """List the image files of a folder, sorted, relative to it; see `scan_images`."""
    return scan_images(folder, PassedOver(), recursive=recursive)


def list_images_to_import(
    folder: Path, *, recursive: bool = True, suffixes: Set[str] = IMAGE_SUFFIXES
) -> list[PurePosixPath]:
    """List the image files whose names are UTF-8, and log what is passed over. suffixes: of the files to list."""
    passed = PassedOver()
    found = scan_images(folder, passed, recursive=recursive, text_names=True, suffixes=suffixes)
    log_passed_over(folder, passed)
    return found


def log_unlisted(folder: Path, listed: Iterable[str], *, used_suffix: str = "") -> None:
    """Log what a folder holds besides images of a list of names: images that are in no list, and other files.

    used_suffix: of files that were read, too, such as annotations.
    """
    known = set(listed)
    found = scan_images(folder, passed := PassedOver(), text_names=True)
    passed.other.pop(used_suffix, None)
    log_passed_over(folder, passed)
    if unlisted := [str(path) for path in found if str(path) not in known]:
        logger.warning(
            "%s images of %s are in no list and are left out, such as %s", len(unlisted), folder, unlisted[0]
        )


def log_passed_over(folder: Path, passed: PassedOver) -> None:
    """Log what was passed over in a folder, if there was anything."""
    if text := passed.describe():
        logger.log(logging.WARNING if passed.is_notable else logging.INFO, "%s: %s", folder, text)


def scan_images(
    folder: Path, passed: PassedOver, *, recursive: bool = True, text_names: bool = False, exclude: Path | None = None,
    suffixes: Set[str] = IMAGE_SUFFIXES,
) -> list[PurePosixPath]:  # fmt: skip
    """List the image files of a folder, sorted, relative to it, and add to `passed` what is not listed.

    recursive: list the folders below it as well. text_names: leave out names that are not UTF-8. exclude: a folder that
    is left out without a word. suffixes: of the files to list. A folder that does not exist has no images.
    """
    found: list[PurePosixPath] = []
    visited: list[PurePosixPath] = []
    used: list[PurePosixPath] = []
    for parent, folders, files in os.walk(folder):
        if exclude is not None and _is_inside(Path(parent), exclude):
            folders.clear()
            continue
        below = PurePosixPath(Path(parent).relative_to(folder).as_posix())
        if parent != os.fspath(folder) and not OUTPUT_MARKERS.isdisjoint(files):
            passed.outputs.append(str(below))
            folders.clear()
            continue
        visited.append(below)
        passed.ignored += sum(map(is_ignored, (*folders, *files)))
        folders[:] = [name for name in folders if recursive and not is_ignored(name)]
        passed.links.extend(str(below / name) for name in folders if Path(parent, name).is_symlink())
        for name in files:
            suffix = PurePosixPath(name).suffix.lower()
            if suffix in suffixes and not is_ignored(name):
                found.append(below / name)
            elif not is_ignored(name):
                passed.other[suffix] += 1
                used += [below / name] if suffix not in UNREAD_SUFFIXES else []
    full = {above for path in (*found, *used, *map(PurePosixPath, passed.outputs)) for above in path.parents}
    passed.empty.extend(str(path) for path in visited if path.parts and path not in full and path.parent in full)
    if text_names:
        passed.not_utf8.extend(ascii(str(path)) for path in found if not _is_utf8(str(path)))
        found = [path for path in found if _is_utf8(str(path))]
    return sorted(found)


def find_folder(root: Path, place: str) -> str | None:
    """Find the folder `place` below `root`, also in another case: the path as it is written there, or None."""
    if (root / place).is_dir():
        return place
    found = PurePosixPath()
    for level in PurePosixPath(place).parts:
        paths = sorted((root / found).iterdir()) if (root / found).is_dir() else []
        same = [path.name for path in paths if path.name.lower() == level.lower() and path.is_dir()]
        if not same:
            return None
        found /= same[0]
    return str(found)


def compose(name: str) -> str:
    """A name with composed letters (Unicode's NFC); macOS writes letters with accents as two characters."""
    return unicodedata.normalize("NFC", name)


def casefold_name(name: str) -> str:
    """Map names to the same text when they differ only in upper and lower case, or in Unicode normalization.

    Windows and macOS take such names for the same file.
    """
    return compose(compose(name).casefold())


def find_sources(
    patterns: Iterable[str], *, exclude: Path | None = None, passed: PassedOver | None = None
) -> list[Path | Url]:
    """List the images of paths, folders (with the folders below), globs and addresses, in order and each once.

    A folder of predictions has no images of its own; its subfolders may be given. exclude: an output folder that may be
    among the images; its files are left out. passed: gets what folders hold besides.
    Raises: DataError when a pattern matches no image file.
    """
    found: dict[Path | Url, None] = {}
    for pattern in patterns:
        if is_url(pattern):
            found.update(dict.fromkeys(expand_url(pattern, IMAGE_SUFFIXES)))
        else:
            found.update(dict.fromkeys(find_images([pattern], exclude=exclude, passed=passed)))
    return list(found)


def find_images(
    patterns: Iterable[str], *, exclude: Path | None = None, passed: PassedOver | None = None,
    suffixes: Set[str] = IMAGE_SUFFIXES,
) -> list[Path]:  # fmt: skip
    """List the image files as `find_sources`, but no addresses. suffixes: of the files of folders."""
    found: dict[Path, None] = {}
    passed = PassedOver() if passed is None else passed
    for pattern in patterns:
        paths = _expand_pattern(pattern, passed, exclude, suffixes)
        files = [path for path in paths if exclude is None or not _is_inside(path, exclude)]
        if not files:
            raise DataError(" ".join(filter(None, (_no_image_message(pattern), passed.describe()))))
        found.update(dict.fromkeys(files))
    return list(found)


def unique_names(images: Sequence[ImageSource], *, added: Sequence[int] = ()) -> list[str]:
    """Give each image a name for its output files: its stem.

    Where two images have the same stem, the names keep the folders below the one that all images have in common:
    `plant1/top` and `plant2/top`. A number tells apart what is still the same. Names that differ only in upper and
    lower case count as the same. A name is cut where a file name would be too long. added: positions at which images
    were added later; the names of those before stay as they are.
    """
    names: list[str] = []
    taken: set[str] = set()
    last: dict[str, int] = {}  # the last number of each name, so a thousand images of one name take little time
    for start, end in pairwise([0, *added, len(images)]):
        stems = Counter(path.stem.lower() for path in images[:end])
        above = _common_folder([path for path in images[:end] if stems[path.stem.lower()] > 1])
        for path in images[start:end]:
            folders = "" if above is None or stems[path.stem.lower()] == 1 else _folders_below(above, path)
            key = f"{folders}{path.stem}".lower()
            name, number = f"{folders}{_cut(path.stem, _MAX_STEM_BYTES)}", last.get(key, 1)
            while name.lower() in taken:
                number += 1
                name = f"{folders}{_cut(path.stem, _MAX_STEM_BYTES - len(f'-{number}'))}-{number}"
            taken.add(name.lower())
            last[key] = number
            names.append(name)
    return names


def _common_folder(images: Sequence[ImageSource]) -> str | None:
    """The deepest folder of all images; None without images, or on several drives."""
    try:
        return os.path.commonpath([_folder_of(path) for path in images])
    except ValueError:
        return None


def _folders_below(above: str, image: ImageSource) -> str:
    """The folders between `above` and an image, with a slash at the end; or an empty text."""
    below = _folder_of(image).relative_to(above).as_posix()
    return "" if below == "." else f"{below}/"


def _folder_of(image: ImageSource) -> Path:
    """The absolute folder of an image without `..`; links are not followed."""
    if isinstance(image, Url):
        return image.folder
    return Path(os.path.normpath(image.absolute())).parent if isinstance(image, Path) else Path.cwd()


def _cut(stem: str, max_bytes: int) -> str:
    """Cut a name to a number of bytes, between characters."""
    data = os.fsencode(stem)
    return stem if len(data) <= max_bytes else data[:max_bytes].decode(errors="ignore")


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in name)


def preview(names: Sequence[str]) -> str:
    """The first five names."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _is_inside(path: Path, folder: Path) -> bool:
    return path.absolute().is_relative_to(folder.absolute())


def _expand_pattern(pattern: str, passed: PassedOver, exclude: Path | None, suffixes: Set[str]) -> Iterator[Path]:
    path = Path(pattern)
    if path.is_dir():
        if not (path / "predictions.json").is_file():
            yield from (path / file for file in scan_images(path, passed, exclude=exclude, suffixes=suffixes))
    elif path.exists():
        yield path
    elif any(mark in pattern for mark in "*?["):
        base, levels = Path(path.anchor), list(path.parts[bool(path.anchor) :])
        while (base / levels[0]).exists():  # a folder whose name looks like a glob
            base /= levels.pop(0)
        for file in sorted(base.glob("/".join(levels))):
            below = file.relative_to(base)
            hidden = any(map(is_ignored, below.parts))
            passed.ignored += hidden
            if file.is_file() and not hidden and not ("**" in levels and _is_in_output(base, below)):
                yield file


def _is_in_output(base: Path, below: Path) -> bool:
    """Whether a folder of mnsa lies between the folder `base` and a file below it."""
    folders = [base / folder for folder in below.parents if folder.parts]
    return any((folder / marker).is_file() for folder in folders for marker in OUTPUT_MARKERS)


def _no_image_message(pattern: str) -> str:
    if (Path(pattern) / "predictions.json").is_file():
        return f"{pattern} is a folder of predictions, with images made by mnsa. Give the photos, or {pattern}/masks."
    if not any(mark in pattern for mark in "*?[") and not Path(pattern).exists():
        return f"There is no {pattern}, so it names no image file. Give files, folders or globs that exist."
    return f"{pattern} names no image file. Give files, folders or globs of {', '.join(sorted(IMAGE_SUFFIXES))}."
