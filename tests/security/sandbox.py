"""A stranger's files, the command that is to read them, and a watch over what that command does meanwhile."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

DATASET_TOML = 'classes = ["rust"]\nmask_classes = ["vein"]\n'
EXECUTED = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle.find_class", "socket.connect")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_seen: list[tuple[str, tuple[Any, ...]]] = []
_watching = False


class Place:
    """home: what the stranger sent. elsewhere: what no file of theirs may reach. out: where a result would appear."""

    def __init__(self, folder: Path, fixture: Callable[[str], Any]) -> None:
        self.folder, self.fixture = folder, fixture
        self.home, self.elsewhere, self.out = (folder / name for name in ("home", "elsewhere", "out"))
        self.home.mkdir()
        self.elsewhere.mkdir()
        Image.new("L", (8, 8), 1).save(self.elsewhere / "secret.png")

    def file(self, name: str, content: bytes | str) -> Path:
        """Write a file of the stranger's."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def leads_to(self, name: str, target: str) -> Path:
        """Make a link; to "pipe", a pipe in its place."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.mkfifo(path) if target == "pipe" else path.symlink_to(target.format(elsewhere=self.elsewhere))
        return path

    def picture(self, name: str) -> Path:
        """Write an honest picture."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 1).save(path)
        return path

    def rows(self, *rows: str, names: str = DATASET_TOML) -> Path:
        """Write the two files of a data set; `image,mask` is its header."""
        self.file("dataset.toml", names)
        self.file("manifest.csv", "\n".join(("image,mask", *rows, "")))
        return self.home


class Payload(NamedTuple):
    """What comes from a stranger. lay: write it, and say the command that reads it. says: part of the refusal."""

    name: str
    lay: Callable[[Place], list[object]]
    says: str


@contextmanager
def watched(place: Place) -> Iterator[list[str]]:
    """List what must not happen inside `with`: code that is run, files read elsewhere, files written elsewhere."""
    global _watching  # noqa: PLW0603 - an audit hook can't be taken off, only be told to look away
    harm: list[str] = []
    _seen.clear()
    _watching = True
    try:
        yield harm
    finally:
        _watching = False
        harm.extend(text for event, arguments in _seen if (text := _harm(event, arguments, place)))


def _harm(event: str, arguments: tuple[Any, ...], place: Place) -> str:
    if event in EXECUTED:
        return f"{event} {arguments}"
    if event != "open" or not isinstance(arguments[0], str | bytes):
        return ""
    path, flags = Path(os.path.abspath(os.fsdecode(arguments[0]))), int(arguments[2] or 0)  # noqa: PTH100 - follows no link
    real = path.resolve()
    if real.is_relative_to(place.elsewhere):
        return f"read {real}"
    if flags & WRITING and not real.is_relative_to(place.folder) and "__pycache__" not in real.parts:
        return f"wrote {real}"
    return ""


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and (event == "open" or event in EXECUTED):
        _seen.append((event, arguments))


sys.addaudithook(_hook)
