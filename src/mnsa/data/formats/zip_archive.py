"""Import class folders from an untrusted zip file. All members are validated before a byte is written.

Only images are unpacked. These members are rejected: paths outside of the folder, links and devices, and names that
are the same file on another file system. Archives that are too large or have too many members are rejected too. The
members are counted before zipfile creates an object for each.
The central directory is searched as Python's zipfile does, so that both find the same one.
Source of sizes and offsets: PKWARE's APPNOTE.TXT, sections 4.3.12 to 4.3.16.
"""

import logging
import shutil
import stat
import struct
import sys
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from mnsa.data.formats.common import SPLIT_ALIASES
from mnsa.data.formats.folders import IMAGE_FOLDERS, MASK_FOLDERS, import_folders
from mnsa.data.manifest import Manifest, new_dataset_folder, write_manifest_files
from mnsa.data.paths import (
    OUTPUT_MARKERS,
    PassedOver,
    casefold_name,
    is_ignored,
    is_image_name,
    log_passed_over,
)
from mnsa.errors import DataError
from mnsa.io import open_regular_file

logger = logging.getLogger(__name__)

_END, _END_BYTES = b"PK\5\6", 22

_LOCATOR, _LOCATOR_BYTES = b"PK\6\7", 20

_END64, _END64_BYTES = b"PK\6\6", 56

_MEMBER, _MEMBER_BYTES = b"PK\1\2", 46

_MAX_COMMENT_BYTES = 65_535

_ENCRYPTED, _UTF8 = 0x1, 0x800  # bits of the flags of a member

_MAX_NAME_BYTES = 255  # bytes per folder or file name, as file systems allow

_MAX_DEPTH = 10

_NamedMember = tuple[zipfile.ZipInfo, str]

_RATIO_FREE_BYTES = 1 << 20  # smaller members may have any ratio, such as a mask of one value


def count_members(file: BinaryIO, *, most: int) -> int:
    """Count the members in a zip file's central directory, at most `most` + 1; 0 when there is no directory.

    It reads the last 64 KiB and 46 bytes per member, and uses constant memory.
    """
    start, end = _find_directory(file)
    count = 0
    while start < end and count <= most:
        file.seek(start)
        header = file.read(_MEMBER_BYTES)
        if len(header) < _MEMBER_BYTES or not header.startswith(_MEMBER):
            break
        start += _MEMBER_BYTES + sum(struct.unpack_from("<3H", header, 28))  # name, extra field, comment
        count += 1
    return count


@dataclass(frozen=True, slots=True)
class ZipLimits:
    """Limits of an archive. ratio: unpacked size of a member by its packed size; images hardly shrink."""

    total_bytes: int = 20 * 10**9
    files: int = 200_000
    ratio: int = 200


def import_zip(
    archive: Path,
    out: Path,
    *,
    limits: ZipLimits = ZipLimits(),
    mask_classes: Sequence[str] | None = None,
    val_fraction: float = 0.2,
    seed: int = 1,
) -> Manifest:
    """Unpack class folders into the new folder `out`, which becomes the data set. An error leaves no folder.

    The folders are imported as in `import_folders`. Raises: DataError with the member that is rejected.
    """
    with new_dataset_folder(out) as folder:
        _unpack(archive, folder, limits)
        manifest = import_folders(folder, mask_classes=mask_classes, val_fraction=val_fraction, seed=seed)
        manifest = replace(manifest, name=out.name)
        write_manifest_files(manifest, folder)
    return replace(manifest, root=out.resolve())


class _SeenNames:
    """The names of the members so far: no file twice, no file that is a folder too, each name in one spelling."""

    def __init__(self) -> None:
        self._spelling: dict[str, str] = {}
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def collision(self, member: zipfile.ZipInfo) -> str:
        """Return which earlier name a member collides with, or empty text."""
        path = member.filename.removesuffix("/")
        above = ["/".join(path.split("/")[:depth]) for depth in range(1, path.count("/") + 1)]
        for part in (*above, path):
            if (other := self._spelling.setdefault(casefold_name(part), part)) != part:
                return f"collides with {other!r} where upper and lower case are the same"
        self._folders.update((*above, path) if member.is_dir() else above)
        if path in self._files or not self._files.isdisjoint(above) or (path in self._folders and not member.is_dir()):
            return "collides with another file or folder of its name"
        if not member.is_dir():
            self._files.add(path)
        return ""


def _find_directory(file: BinaryIO) -> tuple[int, int]:
    """Find the offsets where the central directory begins and ends."""
    size = file.seek(0, 2)
    first = max(size - _MAX_COMMENT_BYTES - _END_BYTES - _LOCATOR_BYTES - _END64_BYTES, 0)
    file.seek(first)
    tail = file.read()
    at = len(tail) - _END_BYTES
    if at < 0 or not (tail[at:].startswith(_END) and tail.endswith(b"\0\0")):  # most archives have no comment
        at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        return 0, 0
    (length,) = struct.unpack_from("<I", tail, at + 12)
    at64 = at - _LOCATOR_BYTES - _END64_BYTES
    if at64 >= 0 and tail.startswith(_LOCATOR, at - _LOCATOR_BYTES) and tail.startswith(_END64, at64):
        (length,) = struct.unpack_from("<Q", tail, at64 + 40)
        at = at64
    return max(first + at - length, 0), first + at


def _unpack(archive: Path, folder: Path, limits: ZipLimits) -> None:
    try:
        with open_regular_file(archive, max_bytes=sys.maxsize) as file:
            if count_members(file, most=limits.files) > limits.files:  # before zipfile creates an object for each
                raise _too_many(archive, limits)
            opened = zipfile.ZipFile(file)
            members = _validate_members(opened.infolist(), limits, archive)
            images = _strip_top_folder(_image_members(members))
            _log_passed_over(members, images, archive)
            if not images:
                raise DataError(f"{archive} holds no images; expected .jpg, .png, .tif, .webp or .bmp files.")
            for member, name in images:
                _write_member(opened, member, folder / name, archive)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"There is no file {archive}.") from None
    except Exception as error:  # malicious bytes can make zipfile raise any exception
        raise DataError(f"{archive} can't be unpacked: {error}. Create it again as a plain zip file.") from error


def _too_many(archive: Path, limits: ZipLimits) -> DataError:
    return DataError(f"{archive} holds too many members; at most {limits.files:,} are unpacked (--max-files).")


def _validate_members(members: Sequence[zipfile.ZipInfo], limits: ZipLimits, archive: Path) -> list[zipfile.ZipInfo]:
    """Return the members that are files. Raises: DataError for the first member that must not be unpacked."""
    if len(members) > limits.files:
        raise _too_many(archive, limits)
    _decode_names(members, archive)
    names = _SeenNames()
    total = 0
    for member in members:
        if reason := _reject_path(member) or _reject_member(member, limits) or names.collision(member):
            raise DataError(
                f"{archive}: member {member.filename!r} {reason}. Nothing was unpacked. Unpack it with another "
                "program, look at it, and use `mnsa import folders`."
            )
        total += member.file_size
    if total > limits.total_bytes:
        raise DataError(
            f"{archive} would become {total:,} bytes; at most {limits.total_bytes:,} are unpacked (--max-gigabytes)."
        )
    return [member for member in members if not member.is_dir()]


def _decode_names(members: Sequence[zipfile.ZipInfo], archive: Path) -> None:
    r"""Set the names of members: UTF-8 where they are, whatever their flag says (macOS), and `/` in place of `\`.

    Names that are neither ASCII nor UTF-8 are read as DOS wrote them (cp437), which may be wrong. Old programs of
    Windows write `\`; in an archive with `/`, it is part of a name, and refused.
    """
    unsure: list[str] = []
    for member in members:
        member.filename = member.orig_filename  # zipfile cuts it at a NUL
        if not member.flag_bits & _UTF8 and not member.filename.isascii():
            try:
                member.filename = member.filename.encode("cp437").decode()
            except UnicodeError:
                unsure.append(member.filename)
    if not any("/" in member.filename for member in members):
        for member in members:
            member.filename = member.filename.replace("\\", "/")
    if unsure:
        logger.warning(
            "%s: %s names are in an unknown encoding, such as %r. If they look wrong, unpack it with another program "
            "and use `mnsa import folders`.", archive, len(unsure), unsure[0],
        )  # fmt: skip


def _reject_path(member: zipfile.ZipInfo) -> str:
    """Return why a member's name is rejected, or empty text."""
    name = member.filename
    levels = name.removesuffix("/").split("/")
    if name.startswith("/") or "\\" in name or ":" in levels[0] or ".." in levels:
        return "leads out of the folder it is unpacked into"
    if {"", "."} & set(levels) or any(unicodedata.category(char) in ("Cc", "Cs") for char in name):
        return "has a name that is no plain path"
    if len(levels) > _MAX_DEPTH or any(len(level.encode()) > _MAX_NAME_BYTES for level in levels):
        return f"has a name of more than {_MAX_DEPTH} levels, or a level of more than {_MAX_NAME_BYTES} bytes"
    return ""


def _reject_member(member: zipfile.ZipInfo, limits: ZipLimits) -> str:
    """Say why a member is no plain file or folder of a likely size; empty text: it is."""
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device; expected files and folders"
    if member.flag_bits & _ENCRYPTED:
        return "is encrypted; expected plain files"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "has an unsupported compression; expected stored or deflated members"
    if member.file_size > max(_RATIO_FREE_BYTES, limits.ratio * member.compress_size):
        return f"grows more than {limits.ratio} times when unpacked; images don't"
    return ""


def _image_members(members: Sequence[zipfile.ZipInfo]) -> Iterator[_NamedMember]:
    """Yield the images, without those in folders that mnsa has written; such a folder as a whole is unpacked."""
    paths = [PurePosixPath(member.filename) for member in members]
    tops = {path.parts[0] for path in paths}
    outputs = {path.parent for path in paths if path.name in OUTPUT_MARKERS} - {PurePosixPath()}
    if len(tops) == 1:
        outputs -= {PurePosixPath(*tops)}
    for member, path in zip(members, paths, strict=True):
        if is_image_name(member.filename) and outputs.isdisjoint(path.parents):
            yield member, member.filename


def _log_passed_over(members: Sequence[zipfile.ZipInfo], images: Sequence[_NamedMember], archive: Path) -> None:
    unpacked = {member.filename for member, _ in images}
    passed = PassedOver()
    for path in [PurePosixPath(member.filename) for member in members if member.filename not in unpacked]:
        if any(map(is_ignored, path.parts)):
            passed.ignored += 1
        else:
            passed.other[path.suffix.lower()] += 1
    log_passed_over(archive, passed)


def _strip_top_folder(images: Iterator[_NamedMember]) -> list[_NamedMember]:
    """Remove the top folder when all images are in it and it is not a split, an image folder or a mask folder."""
    found = list(images)
    meaningful = SPLIT_ALIASES.keys() | IMAGE_FOLDERS | MASK_FOLDERS
    tops = {name.split("/")[0] for _, name in found}
    if (
        len(tops) == 1
        and meaningful.isdisjoint(map(str.lower, tops))
        and all(name.count("/") >= 2 for _, name in found)
    ):
        return [(member, name.partition("/")[2]) for member, name in found]
    return found


def _write_member(opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, archive: Path) -> None:
    """Write one member. zipfile reads no more bytes than the member's size, which `_validate_members` has added up."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(member) as source, path.open("xb") as target:
        shutil.copyfileobj(source, target)
        if target.tell() != member.file_size:
            raise DataError(
                f"{archive}: member {member.filename!r} is shorter than its size says. Create the archive again."
            )
