"""Names as other tools write them: of classes, and of the files that a table or a file of annotations lists.

Systems differ in upper and lower case, in the Unicode form of letters with accents (macOS decomposes them), and in
slashes. Tools list the folders of another machine.
"""

import posixpath
import unicodedata
from collections import defaultdict
from pathlib import Path
from urllib.parse import unquote

from mnsa.data.formats.common import validate_image_name
from mnsa.data.formats.untrusted import shorten
from mnsa.data.paths import casefold_name, compose
from mnsa.data.rows import is_inside_root
from mnsa.errors import DataError

_INVISIBLE = "\u200b\ufeff"  # spaces of no width


def clean_class_name(value: object, location: str) -> str:
    """The name of a class: composed letters (NFC), no spaces around it. A whole number becomes text.

    Raises: DataError for another type, an empty name, and one with control characters, such as a line break.
    """
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not (name := compose(text).strip().strip(_INVISIBLE).strip()):
        raise DataError(f"{location} has the label {shorten(value)}; expected the name of a class.")
    if any(unicodedata.category(char) == "Cc" for char in name):
        raise DataError(f"{location} has the label {shorten(value)}, with a control character. Rename the class.")
    return name


class FileNames:
    """Finds files by names that may differ from theirs in case or Unicode form. Each folder is listed once."""

    def __init__(self) -> None:
        self._names: dict[Path, dict[str, list[str]]] = {}  # folder -> name that ignores the form -> names

    def find(self, root: Path, name: str) -> str | None:
        """The path of the file `name` below a folder, as it is written there; None if there is none, or several."""
        if (root / name).is_file():
            return name
        found = ""
        for level in name.split("/"):
            similar = self._list(root / found).get(casefold_name(level), [])
            if len(similar) != 1:
                return None
            found = posixpath.join(found, similar[0])
        return found if (root / found).is_file() else None

    def _list(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._names:
            names: dict[str, list[str]] = defaultdict(list)
            for path in folder.iterdir() if folder.is_dir() else ():
                names[casefold_name(path.name)].append(path.name)
            self._names[folder] = names
        return self._names[folder]


class ListedImages:
    """Finds the images that a file of annotations lists. folder: of the images."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._files = folder, FileNames()

    def find(self, text: object, location: str, *, place: str = "") -> str:
        r"""The path of an image below the folder. place: folder of the file that lists it, relative to the images'.

        `\` is read as `/`. Folders of another machine are left out, from the left: of `/home/me/set/a/1.png`, the first
        of `set/a/1.png`, `a/1.png` and `1.png` that exists; but not `1.png` if there is a folder `a` without it.
        Raises: DataError when there is no such image.
        """
        if not isinstance(text, str) or not text:
            raise DataError(f"{location} names no image, but {shorten(text)}.")
        for path in dict.fromkeys((text.replace("\\", "/"), unquote(text).replace("\\", "/"))):
            levels = [level for level in path.split("/") if level not in ("", ".", "..")]
            names = [posixpath.normpath(posixpath.join(place, path))]
            for start, level in enumerate(levels):
                names += [posixpath.join(place, *levels[start:]), posixpath.join(*levels[start:])]
                if start < len(levels) - 1 and (self._folder / place / level).is_dir():
                    break
            for name in names:
                if is_inside_root(name) and (found := self._files.find(self._folder, name)):
                    return validate_image_name(found, location)
        raise DataError(
            f"{location}: there is no image {shorten(text)} in {self._folder}. Give its folder by --images."
        )
