"""The end of a zip file: how many members its directory lists, known before the directory is made into objects.

Sizes and places are of PKWARE's APPNOTE.TXT, sections 4.3.12 to 4.3.16. Places are looked for where Python's zipfile
looks for them, so that both mean the same directory.
"""

import struct
from typing import BinaryIO

_END, _END_BYTES = b"PK\5\6", 22
_LOCATOR, _LOCATOR_BYTES = b"PK\6\7", 20
_END64, _END64_BYTES = b"PK\6\6", 56
_MEMBER, _MEMBER_BYTES = b"PK\1\2", 46
_LONGEST_COMMENT = 65_535


def count_members(file: BinaryIO, *, most: int) -> int:
    """Count the members that a zip file's directory lists, up to `most` + 1; 0 where there is no directory.

    Reads the last 64 KiB and 46 bytes a member, and keeps none of it.
    """
    start, end = _directory(file)
    count = 0
    while start < end and count <= most:
        file.seek(start)
        header = file.read(_MEMBER_BYTES)
        if len(header) < _MEMBER_BYTES or not header.startswith(_MEMBER):
            break
        start += _MEMBER_BYTES + sum(struct.unpack_from("<3H", header, 28))  # name, extra field, comment
        count += 1
    return count


def _directory(file: BinaryIO) -> tuple[int, int]:
    """Where the directory begins and ends."""
    size = file.seek(0, 2)
    first = max(size - _LONGEST_COMMENT - _END_BYTES - _LOCATOR_BYTES - _END64_BYTES, 0)
    file.seek(first)
    tail = file.read()
    at = len(tail) - _END_BYTES
    if at < 0 or not (tail[at:].startswith(_END) and tail.endswith(b"\0\0")):  # no comment is the rule
        at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        return 0, 0
    (length,) = struct.unpack_from("<I", tail, at + 12)
    at64 = at - _LOCATOR_BYTES - _END64_BYTES
    if at64 >= 0 and tail.startswith(_LOCATOR, at - _LOCATOR_BYTES) and tail.startswith(_END64, at64):
        (length,) = struct.unpack_from("<Q", tail, at64 + 40)
        at = at64
    return max(first + at - length, 0), first + at
