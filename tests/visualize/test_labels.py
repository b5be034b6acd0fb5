"""Names of any script are drawn, and what can't be drawn is written as its code."""

import logging
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image, ImageDraw, features

from mnsa.visualize import labels
from mnsa.visualize.labels import FONT_PX, draw_label, fit_text, font_folders

CACHES = (labels._warn_once, labels._find_font, labels._has_glyph, labels._system_fonts)


def make_font(file: Path, characters: str) -> None:
    """Write a font whose characters are black squares as large as the font, and whose missing ones are half as high."""
    squares = {}
    for name, height in ((".notdef", 500), *((f"glyph{n}", 1000) for n in range(len(characters)))):
        pen = TTGlyphPen(None)
        pen.moveTo((0, 0))
        for corner in ((0, height), (1000, height), (1000, 0)):
            pen.lineTo(corner)
        pen.closePath()
        squares[name] = pen.glyph()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder(list(squares))
    builder.setupCharacterMap({ord(char): f"glyph{n}" for n, char in enumerate(characters)})
    builder.setupGlyf(squares)
    builder.setupHorizontalMetrics(dict.fromkeys(squares, (1000, 0)))
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupPost()
    file.parent.mkdir(parents=True, exist_ok=True)
    builder.save(file)


@pytest.fixture(autouse=True)
def fonts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The only font folder of the computer; it does not exist yet."""
    folder = tmp_path / "fonts"
    monkeypatch.setattr(labels, "font_folders", lambda: [tmp_path / "none", folder])
    for cache in CACHES:
        cache.cache_clear()
    yield folder
    for cache in CACHES:
        cache.cache_clear()


def draw(text: str, width: float = 300) -> np.ndarray:
    """The ink of a label in the middle of a picture, 0 to 255."""
    picture = Image.new("L", (320, 40), "white")
    draw_label(ImageDraw.Draw(picture), text, (160, 20), width)
    return 255 - np.array(picture)


@pytest.mark.parametrize("name", ["Blattläuse_Äpfel_größe.jpg", "кофе_01.jpg", "φύλλο.png", "лист дуба (2).JPG"])
def test_the_font_that_comes_with_mnsa_has_the_letters_of_europe(name: str, fonts: Path) -> None:
    assert not fonts.exists()
    assert fit_text(name, 300) == name


def test_an_umlaut_has_its_dots_also_when_macos_wrote_them_apart() -> None:
    plain, dotted = draw("a"), draw("ä")
    rows = np.flatnonzero(plain.any(1))
    np.testing.assert_array_equal(dotted[rows], plain[rows])
    assert dotted[: rows[0]].any()
    np.testing.assert_array_equal(draw(unicodedata.normalize("NFD", "ä")), dotted)


def test_arabic_is_drawn_where_pillow_can_join_its_letters_and_else_as_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (fit_text("ورقة", 300) == "ورقة") == features.check("raqm")
    monkeypatch.setattr(labels, "_can_shape", lambda: False)
    labels._find_font.cache_clear()
    assert fit_text("بن.jpg", 300) == r"\u0628\u0646.jpg"


def test_a_font_of_the_computer_draws_what_the_own_one_has_not(fonts: Path) -> None:
    make_font(fonts / "more" / "Squares.ttf", "叶锈")
    assert fit_text("叶锈ä", 300) == "叶锈ä"
    ink = draw("叶锈ä") > 200
    assert (ink.sum(0) == FONT_PX).sum() == 2 * FONT_PX  # two squares
    assert ink.sum() > 2 * FONT_PX**2  # and a letter


def test_a_name_is_drawn_with_one_font_if_that_has_all_of_it(fonts: Path) -> None:
    make_font(fonts / "Squares.ttf", "叶a")
    assert (draw("a叶") > 200).sum() == 2 * FONT_PX**2


def test_without_a_font_a_name_has_codes_and_each_script_one_warning_that_says_what_to_install(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert [fit_text("叶_01.jpg", 300) for _ in range(3)] == [r"\u53f6_01.jpg"] * 3
        assert fit_text("锈", 300) == r"\u9508"
        assert fit_text("त", 300) == r"\u0924"
    assert [record.getMessage() for record in caplog.records] == [
        f"No font of this computer has the letters of all names ({script}), so pictures show codes: install Noto Sans."
        for script in ("CJK", "DEVANAGARI")
    ]


def test_signs_that_have_only_a_substitute_in_a_font_are_not_taken_from_it(fonts: Path) -> None:
    make_font(fonts / "LastResort.ttf", "叶")
    assert fit_text("叶", 300) == r"\u53f6"


def test_a_damaged_font_is_passed_over(fonts: Path) -> None:
    make_font(fonts / "Squares.ttf", "叶")
    (fonts / "Broken.ttf").write_bytes(b"no font")
    assert fit_text("叶", 300) == "叶"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("two\nlines", r"two\nlines"),
        ("a\u202egpj.exe", r"a\u202egpj.exe"),  # it turns the text around: gpj.exe
        ("\udcff.jpg", r"\udcff.jpg"),  # a byte that is no UTF-8
        ("10\u202fAM\u00a0x", "10 AM x"),
    ],
)
def test_what_is_not_to_be_seen_or_breaks_the_line_is_written_as_its_code(name: str, expected: str) -> None:
    assert fit_text(name, 300) == expected
    assert draw(name).any()


@pytest.mark.parametrize("width", [40, 100, 250])
def test_a_long_name_loses_its_middle_until_it_fits(width: int) -> None:
    name = "IMG_20260411_123456789_leaf_of_a_long_name_after_rain (2).JPG"
    text = fit_text(name, width)
    first, last = text.split("…")
    assert name.startswith(first)
    assert name.endswith(last)
    assert abs(len(first) - len(last)) <= 1
    columns = np.flatnonzero(draw(name, width).any(0))
    assert width - 12 <= columns[-1] - columns[0] <= width


def test_no_accent_is_left_without_its_letter() -> None:
    name = "x\u0323\u0307" * 40  # an x with two dots, which has no code of its own
    for width in range(40, 60):
        assert not unicodedata.combining(fit_text(name, width).split("…")[1][0])


def test_fonts_are_searched_where_each_system_has_them() -> None:
    home = {"HOME": "/home/me", "LOCALAPPDATA": "C:/Users/me/Local", "WINDIR": "C:/Windows"}
    assert Path("/home/me/.local/share/fonts") in font_folders("linux", home)
    assert Path("/usr/share/fonts") in font_folders("linux", {})
    assert font_folders("linux", {"XDG_DATA_HOME": "/my", "XDG_DATA_DIRS": "/all"})[0] == Path("/my/fonts")
    assert font_folders("darwin", home)[0] == Path("/home/me/Library/Fonts")
    assert font_folders("win32", home) == [
        Path("C:/Users/me/Local/Microsoft/Windows/Fonts"),
        Path("C:/Windows/Fonts"),
    ]
