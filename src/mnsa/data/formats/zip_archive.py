"""Images out of a zip file that nobody vouches for: judged as a whole before a byte is written, then unpacked.

Refused are members that would be written elsewhere, that are no plain files, that other systems would take for one
another, and more or larger ones than was agreed. Only image files are taken out.
"""

import posixpath
import shutil
import stat
import sys
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mnsa.data.check.names import folded
from mnsa.data.decoding import SUFFIXES
from mnsa.data.importers.common import SPLIT_NAMES
from mnsa.data.importers.folders import IMAGE_FOLDERS, MASK_FOLDERS, import_folders
from mnsa.data.importers.zip_directory import count_members
from mnsa.data.manifest import Manifest, fresh_folder, write_files
from mnsa.errors import DataError
from mnsa.text_files import open_plain

_ENCRYPTED = 0x1
_LONGEST_NAME = 200  # bytes of one level; file systems take 255
_DEEPEST = 10
_Named = tuple[zipfile.ZipInfo, str]
_SMALL_BYTES = 1 << 20  # below it a member may shrink as it likes: a plain mask does


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may become. ratio: unpacked to packed size of one member; images hardly shrink at all."""

    total_bytes: int = 20 * 10**9
    files: int = 200_000
    ratio: int = 200


def import_zip(
    archive: Path,
    out: Path,
    *,
    limits: Limits = Limits(),
    mask_classes: Sequence[str] | None = None,
    validation_share: float = 0.2,
    seed: int = 1,
) -> Manifest:
    """Unpack class folders into the new folder `out`, which becomes the data set; it appears whole or not at all.

    The rest is `import_folders`'. Raises: DataError naming the member that is refused.
    """
    with fresh_folder(out) as folder:
        _unpack(archive, folder, limits)
        manifest = import_folders(folder, mask_classes=mask_classes, validation_share=validation_share, seed=seed)
        manifest = replace(manifest, name=out.name)
        write_files(manifest, folder)
    return replace(manifest, root=out.resolve())


def _unpack(archive: Path, folder: Path, limits: Limits) -> None:
    try:
        with open_plain(archive, most_bytes=sys.maxsize) as file:
            if count_members(file, most=limits.files) > limits.files:  # before zipfile makes an object of each
                raise _too_many(archive, limits)
            opened = zipfile.ZipFile(file)
            pictures = _without_wrapper(_pictures(_judged(opened.infolist(), limits, archive)))
            if not pictures:
                raise DataError(f"{archive} holds no images; expected .jpg, .png, .tif, .webp or .bmp files.")
            for member, name in pictures:
                _write(opened, member, folder / name, archive)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"There is no file {archive}.") from None
    except Exception as error:  # zipfile meets hostile bytes: what it raises is not bounded by any list
        raise DataError(f"{archive} can't be unpacked: {error}. Pack it anew, as a plain zip file.") from error


def _too_many(archive: Path, limits: Limits) -> DataError:
    return DataError(f"{archive} holds too many members; at most {limits.files:,} are unpacked (--max-files).")


def _judged(members: Sequence[zipfile.ZipInfo], limits: Limits, archive: Path) -> list[zipfile.ZipInfo]:
    """Pass on the members that are files. Raises: DataError for the first that must not be unpacked."""
    if len(members) > limits.files:
        raise _too_many(archive, limits)
    names = _Names()
    total = 0
    for member in members:
        if reason := _no_path(member) or _no_file(member, limits) or names.collision(member):
            raise DataError(f"{archive}: member {member.orig_filename!r} {reason}. Nothing was unpacked.")
        total += member.file_size
    if total > limits.total_bytes:
        raise DataError(
            f"{archive} would become {total:,} bytes; at most {limits.total_bytes:,} are unpacked (--max-gigabytes)."
        )
    return [member for member in members if not member.is_dir()]


def _no_path(member: zipfile.ZipInfo) -> str:
    """Say why nothing must be written under a member's name; empty text: it may."""
    name = member.orig_filename  # as the archive has it: zipfile itself would cut it at a NUL
    levels = name.removesuffix("/").split("/")
    if name.startswith("/") or "\\" in name or ":" in levels[0] or ".." in levels:
        return "leads out of the folder it is unpacked into"
    if {"", "."} & set(levels) or any(unicodedata.category(char) in ("Cc", "Cs") for char in name):
        return "has a name that is no plain path"
    if len(levels) > _DEEPEST or any(len(level.encode()) > _LONGEST_NAME for level in levels):
        return f"has a name of more than {_DEEPEST} levels, or a level of more than {_LONGEST_NAME} bytes"
    return ""


def _no_file(member: zipfile.ZipInfo, limits: Limits) -> str:
    """Say why a member is no plain file or folder of a likely size; empty text: it is."""
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device; expected files and folders"
    if member.flag_bits & _ENCRYPTED:
        return "is encrypted; expected plain files"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed in a rare way; expected stored or deflated members"
    if member.file_size > max(_SMALL_BYTES, limits.ratio * member.compress_size):
        return f"grows more than {limits.ratio} times when unpacked; images don't"
    return ""


class _Names:
    """The names met so far: each file once, no file a folder, each spelt in one way."""

    def __init__(self) -> None:
        self._spelling: dict[str, str] = {}
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def collision(self, member: zipfile.ZipInfo) -> str:
        """Say which earlier name a member collides with; empty text: none."""
        path = member.filename.removesuffix("/")
        above = ["/".join(path.split("/")[:depth]) for depth in range(1, path.count("/") + 1)]
        for part in (*above, path):
            if (other := self._spelling.setdefault(folded(part), part)) != part:
                return f"collides with {other!r} where upper and lower case are the same"
        self._folders.update((*above, path) if member.is_dir() else above)
        if path in self._files or not self._files.isdisjoint(above) or (path in self._folders and not member.is_dir()):
            return "collides with another file or folder of its name"
        if not member.is_dir():
            self._files.add(path)
        return ""


def _pictures(members: Sequence[zipfile.ZipInfo]) -> Iterator[_Named]:
    for member in members:
        hidden = any(level.startswith((".", "__")) for level in member.filename.split("/"))
        if posixpath.splitext(member.filename)[1].lower() in SUFFIXES and not hidden:
            yield member, member.filename


def _without_wrapper(pictures: Iterator[_Named]) -> list[_Named]:
    """Leave out the folder that archivers put around everything: one alone at the top, with folders below only."""
    found = list(pictures)
    says_something = SPLIT_NAMES.keys() | IMAGE_FOLDERS | MASK_FOLDERS
    tops = {name.split("/")[0] for _, name in found}
    if len(tops) == 1 and not tops & says_something and all(name.count("/") >= 2 for _, name in found):
        return [(member, name.partition("/")[2]) for member, name in found]
    return found


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, archive: Path) -> None:
    """Write one member; zipfile reads no more bytes than the member claims, and `_judged` has added those up."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(member) as source, path.open("xb") as target:
        shutil.copyfileobj(source, target)
        if target.tell() != member.file_size:
            raise DataError(f"{archive}: member {member.filename!r} is shorter than it claims. Pack it anew.")
