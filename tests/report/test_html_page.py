"""The skeleton of every page."""

import pytest

from mnsa.report.html_page import data_uri, html_table, image_figure, missing_note, render_page, svg_figure


def test_a_page_fits_phones_dark_rooms_and_paper(read_page):
    text = render_page("A & <b>", ["<p>body</p>"])
    assert read_page(text).sections[""].count("A & <b>") == 2  # title and heading
    for words in ('name="viewport"', "prefers-color-scheme: dark", "@media print", "<p>body</p>"):
        assert words in text


def test_text_is_text_wherever_it_stands(read_page):
    name = '"><script>&'
    made = [
        image_figure(b"x", "image/png", name),
        svg_figure("<svg></svg>", name),
        html_table((name,), [(name,)]),
        missing_note(name, name),
    ]
    for element in made:
        assert "<script>" not in element
        assert name in "".join(read_page(element).sections.values())


def test_a_picture_says_its_caption_or_what_it_shows_instead(read_page):
    assert read_page(image_figure(b"x", "image/png", "a leaf")).alts == ["a leaf"]
    assert read_page(image_figure(b"x", "image/png", "a leaf", alt="leaf 3")).alts == ["leaf 3"]


def test_columns_of_words_are_told_from_those_of_numbers():
    assert html_table(("a", "b"), [("x", "1")]).count('class="text"') == 2


@pytest.mark.parametrize(("data", "expected"), [(b"", ""), (b"leaf", "bGVhZg==")])
def test_a_file_becomes_its_own_address(data, expected):
    assert data_uri(data, "image/png") == f"data:image/png;base64,{expected}"
