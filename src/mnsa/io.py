"""Read files that nobody has checked: plain files only, of limited size and limited depth.

A file name may lead to a pipe or a device that never ends. A few thousand brackets exhaust the stack of a parser.
"""

import errno
import json
import os
import re
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

MAX_BYTES = 1 << 20  # a config has 2,000 bytes, the names of 2,000 classes have 100,000

MAX_DEPTH = 20

_MAX_DOTS = 1000  # in a line, outside of quotes: the parser's time grows with the square of the parts of a key

_QUOTED = re.compile(r"""\"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")


def open_regular_file(path: Path, *, max_bytes: int) -> BinaryIO:
    """Open a plain file to read it. Raises: OSError, also for a pipe, a device, or a file of more bytes."""
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # a NUL in its name
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    about = os.fstat(number)  # what is looked at is what was opened: nothing can be put in its place
    if stat.S_ISREG(about.st_mode) and about.st_size <= max_bytes:
        return os.fdopen(number, "rb")
    os.close(number)
    if not stat.S_ISREG(about.st_mode):
        raise OSError(errno.EINVAL, "it is no file, but a folder, a pipe or a device")
    raise OSError(errno.EFBIG, f"it has {about.st_size:,} bytes; at most {max_bytes:,} are read")


def read_text(path: Path, *, max_bytes: int) -> str:
    """Read UTF-8 text; line ends become newlines. Raises: OSError, UnicodeDecodeError."""
    with open_regular_file(path, max_bytes=max_bytes) as file:
        text = file.read(max_bytes).decode("utf-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises: OSError, or ValueError that says what is wrong with the text."""
    tree: dict[str, Any] = _parse_bounded(path, _parse_toml, MAX_BYTES)
    return tree


def read_json(path: Path, *, max_bytes: int = 16 * MAX_BYTES) -> Any:
    """Read a JSON file. Raises: OSError, or ValueError that says what is wrong with the text."""
    return _parse_bounded(path, json.loads, max_bytes)


def _parse_toml(text: str) -> dict[str, Any]:
    if any(line.count(".") > _MAX_DOTS for line in _QUOTED.sub("", text).split("\n")):
        raise ValueError(f"it has a line of more than {_MAX_DOTS} dots, which a key does not have")
    return tomllib.loads(text)


def _parse_bounded(path: Path, parse: Callable[[str], Any], max_bytes: int) -> Any:
    text = read_text(path, max_bytes=max_bytes)
    try:
        tree = parse(text)
        too_deep = _is_deeper_than(tree, MAX_DEPTH)
    except RecursionError:
        too_deep = True
    if too_deep:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
    return tree


def _is_deeper_than(tree: Any, levels: int) -> bool:
    """Tell whether there are values below so many levels of tables and lists; no recursion, for it may be deep."""
    level = [tree]
    for _ in range(levels):
        level = [child for node in level for child in _children(node)]
    return any(isinstance(node, dict | list) for node in level)


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []
