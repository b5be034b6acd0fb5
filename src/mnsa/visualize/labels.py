r"""Names in pictures, in any script.

A name is drawn with DejaVu Sans, which comes with mnsa: Latin, Greek, Cyrillic, Arabic, Hebrew, Armenian, Georgian.
Other scripts, such as Chinese and Devanagari, need a font of the computer: the TrueType and OpenType files in its font
folders are tried, see `font_folders`, upright sans-serif ones first. A character that no font has is written as its
code, such as `\u53f6`, and so is one that can't be seen or would break the line.
"""

import logging
import os
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from PIL import ImageDraw, ImageFont, features

logger = logging.getLogger(__name__)

Font = ImageFont.FreeTypeFont

FONT_PX = 13

_OWN_FONT = Path(__file__).parent / "fonts" / "DejaVuSans.ttf"

_SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")

_NO_LETTERS = ("lastresort", "blank", "notdef", "emoji")  # fonts with a sign for every character, or with none

_LESS_READABLE = ("bold", "black", "heavy", "light", "thin", "ital", "obli", "cond", "narrow", "mono", "serif")

_MAX_FONTS = 1500  # that are tried

_NOT_A_CHARACTER = "\U0010ffff"  # in no font, so it is drawn as the font's sign for a missing one

_JOINERS = "\u200c\u200d"  # they decide the shape of their neighbors


class _Run(NamedTuple):
    """Characters that are drawn with one font."""

    font: Font
    text: str


def font_folders(platform: str = sys.platform, environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Where fonts are installed, the user's own first. platform: as `sys.platform`."""
    home = Path(environment.get("HOME") or "/")
    if platform == "win32":
        local, windows = environment.get("LOCALAPPDATA"), environment.get("WINDIR") or r"C:\Windows"
        return [*([Path(local) / "Microsoft/Windows/Fonts"] if local else []), Path(windows) / "Fonts"]
    if platform == "darwin":
        return [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    data = environment.get("XDG_DATA_HOME") or home / ".local/share"
    shared = environment.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    return [Path(data) / "fonts", home / ".fonts", *(Path(one) / "fonts" for one in shared.split(":") if one)]


def draw_label(draw: ImageDraw.ImageDraw, text: str, center: tuple[float, float], width: float) -> None:
    """Write a line of black text around a point, in pixels. A line wider than `width` loses its middle."""
    runs = _split_by_font(fit_text(text, width))
    left, baseline = center[0] - _measure(runs) / 2, center[1] + FONT_PX * 0.36
    for run in runs:
        font, direction = _drawing_font(run.font)
        draw.text((left, baseline), run.text, "black", font, anchor="ls", direction=direction)
        left += _measure([run])


def fit_text(text: str, width: float) -> str:
    """Return the text as it is drawn: with codes, and with an ellipsis for its middle if it is wider than `width`."""
    text = _replace_undrawable(text)
    if _measure(_split_by_font(text)) <= width:
        return text
    fits, too_many = 0, len(text)  # numbers of characters
    while too_many - fits > 1:
        kept = (fits + too_many) // 2
        if _measure(_split_by_font(_shorten(text, kept))) <= width:
            fits = kept
        else:
            too_many = kept
    return _shorten(text, fits)


def _shorten(text: str, kept: int) -> str:
    """Keep about `kept` characters of both ends, and no accent without its letter."""
    end = len(text) - kept // 2
    while end < len(text) and _follows_a_letter(text[end]):
        end += 1
    return f"{text[: kept - kept // 2]}…{text[end:]}"


def _measure(runs: Sequence[_Run]) -> float:
    lengths = []
    for run in runs:
        font, direction = _drawing_font(run.font)
        lengths.append(font.getlength(run.text, direction=direction))
    return sum(lengths)


def _replace_undrawable(text: str) -> str:
    """Compose accents, which file names of macOS have apart, and write what can't be drawn as codes."""
    text = "".join(" " if unicodedata.category(char) == "Zs" else char for char in unicodedata.normalize("NFC", text))
    missing = {char for char in text if char not in _JOINERS and _find_font(char) is None}
    for script in sorted({_script_name(char) for char in missing if char.isprintable()}):
        _warn_once(script)
    codes = {char: char.encode("unicode_escape", "surrogatepass").decode() for char in missing}
    return "".join(codes.get(char, char) for char in text)


def _script_name(char: str) -> str:
    """Return the script of a letter as Unicode calls it, such as CJK (Chinese, Japanese, Korean) or DEVANAGARI."""
    is_letter = unicodedata.category(char)[0] in "LM"
    return unicodedata.name(char, "UNKNOWN").split()[0] if is_letter else "SYMBOLS"


@lru_cache(maxsize=256)
def _warn_once(script: str) -> None:
    logger.warning(
        "No font of this computer has the letters of all names (%s), so pictures show codes: install Noto Sans.",
        script,
    )


def _split_by_font(text: str) -> list[_Run]:
    """Split a text whose characters all have a font; a single part if one font has them all."""
    fonts: list[Font] = []
    for char in text:
        before = fonts[-1] if fonts else _own_font()
        goes_on = char in _JOINERS or ((char == " " or _follows_a_letter(char)) and _has_glyph(before, char))
        fonts.append(before if goes_on else _find_font(char) or before)
    for font in dict.fromkeys(fonts):
        if all(char in _JOINERS or _has_glyph(font, char) for char in text):
            return [_Run(font, text)]
    pairs = zip(fonts, text, strict=True)
    return [_Run(font, "".join(char for _, char in part)) for font, part in groupby(pairs, key=lambda pair: pair[0])]


def _follows_a_letter(char: str) -> bool:
    return char in _JOINERS or unicodedata.category(char) in ("Mn", "Mc", "Me")


@lru_cache(maxsize=4096)
def _find_font(char: str) -> Font | None:
    """Return the first font that can draw a character; None if there is none, or it is not to be seen."""
    if unicodedata.category(char)[0] == "C" or char in "\u2028\u2029":
        return None
    if _needs_shaping(char) and not _can_shape():
        return None
    return next((font for font in _all_fonts() if _has_glyph(font, char)), None)


def _can_shape() -> bool:
    """Whether Pillow has the library Raqm, which joins letters and writes from right to left."""
    return bool(features.check("raqm"))


def _needs_shaping(char: str) -> bool:
    """Whether a letter changes its shape or place beside others."""
    code = ord(char)
    return unicodedata.bidirectional(char) in ("R", "AL") or 0x0900 <= code <= 0x109F or 0x1780 <= code <= 0x17FF


@lru_cache(maxsize=65_536)
def _has_glyph(font: Font, char: str) -> bool:
    """Whether a font draws a character otherwise than one that it lacks."""
    if char == " ":
        return True
    drawn, missing = font.getmask(char), font.getmask(_NOT_A_CHARACTER)
    return drawn.size != missing.size or bytes(drawn) != bytes(missing)


def _all_fonts() -> Iterator[Font]:
    yield _own_font()
    yield from _system_fonts()


@lru_cache(maxsize=64)
def _drawing_font(font: Font) -> tuple[Font, str | None]:
    """The font with the shapes of letters beside others, and the direction of a line: file names go left to right."""
    if not _can_shape():
        return font, None
    return ImageFont.truetype(font.path, FONT_PX, layout_engine=ImageFont.Layout.RAQM), "ltr"


@lru_cache(maxsize=1)
def _own_font() -> Font:
    return _open_font(_OWN_FONT)


def _open_font(file: Path) -> Font:
    """Open a font for single characters. Raises: OSError."""
    return ImageFont.truetype(file, FONT_PX, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=1)
def _system_fonts() -> tuple[Font, ...]:
    """The fonts of the computer, the most readable first."""
    files = [file for folder in font_folders() for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES]
    fonts = []
    for file in sorted(files, key=lambda file: (_count_words(file, _LESS_READABLE), file.name))[:_MAX_FONTS]:
        try:
            if not _count_words(file, _NO_LETTERS):
                fonts.append(_open_font(file))
        except OSError:  # damaged, or only of bitmaps in other sizes
            continue
    return tuple(fonts)


def _count_words(file: Path, words: Sequence[str]) -> int:
    return sum(word in file.stem.lower() for word in words)
