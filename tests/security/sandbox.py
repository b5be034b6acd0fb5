"""Untrusted files, the command that reads them, and a watch for what the command must not do."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

DATASET_TOML = 'classes = ["rust"]\nmask_classes = ["vein"]\n'
EXECUTION_EVENTS = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle.find_class", "socket.connect")
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT

Command = list[object]  # arguments of the command line

_events: list[tuple[str, tuple[Any, ...]]] = []
_recording = False


class Sandbox:
    """The folders of one test.

    inputs: the untrusted files. outside: files that the command must not read. out: where its result would be written.
    """

    def __init__(self, folder: Path, fixture: Callable[[str], Any]) -> None:
        self.folder, self.fixture = folder, fixture
        self.inputs, self.outside, self.out = (folder / name for name in ("inputs", "outside", "out"))
        self.inputs.mkdir()
        self.outside.mkdir()
        Image.new("L", (8, 8), 1).save(self.outside / "secret.png")

    def write_file(self, name: str, content: bytes | str) -> Path:
        path = self._path(name)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def write_image(self, name: str) -> Path:
        """Write a valid image."""
        path = self._path(name)
        Image.new("L", (8, 8), 1).save(path)
        return path

    def write_link(self, name: str, target: str) -> Path:
        """Write a link, or a named pipe if the target is "pipe". `{outside}` in the target is replaced."""
        path = self._path(name)
        path.unlink(missing_ok=True)
        if target == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to(target.format(outside=self.outside))
        return path

    def write_dataset(self, *rows: str, toml: str = DATASET_TOML) -> Path:
        """Write dataset.toml and manifest.csv; the columns are image and mask. Returns: the folder."""
        self.write_file("dataset.toml", toml)
        self.write_file("manifest.csv", "\n".join(("image,mask", *rows, "")))
        return self.inputs

    def _path(self, name: str) -> Path:
        path = self.inputs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


class Payload(NamedTuple):
    """Untrusted input.

    prepare: writes the files and returns the command that reads them. message: part of the error.
    """

    name: str
    prepare: Callable[[Sandbox], Command]
    message: str


@contextmanager
def watch(sandbox: Sandbox) -> Iterator[list[str]]:
    """Collect violations inside `with`: code that is executed, and files outside the sandbox that are read or written.

    The list is filled at the end.
    """
    global _recording  # noqa: PLW0603 - an audit hook can't be removed, so it is switched on and off
    violations: list[str] = []
    _events.clear()
    _recording = True
    try:
        yield violations
    finally:
        _recording = False
        found = (_describe_violation(event, arguments, sandbox) for event, arguments in _events)
        violations.extend(filter(None, found))


def _describe_violation(event: str, arguments: tuple[Any, ...], sandbox: Sandbox) -> str:
    if event in EXECUTION_EVENTS:
        return f"{event} {arguments}"
    if event != "open" or not isinstance(arguments[0], str | bytes):
        return ""
    path = Path(os.path.abspath(os.fsdecode(arguments[0])))  # noqa: PTH100 - does not follow links
    flags, target = int(arguments[2] or 0), path.resolve()
    if target.is_relative_to(sandbox.outside):
        return f"read {target}"
    if flags & WRITE_FLAGS and not target.is_relative_to(sandbox.folder) and "__pycache__" not in target.parts:
        return f"wrote {target}"
    return ""


def _audit_hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _recording and (event == "open" or event in EXECUTION_EVENTS):
        _events.append((event, arguments))


sys.addaudithook(_audit_hook)
