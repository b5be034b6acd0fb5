"""Figures become SVG elements; templates escape every value."""

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from jinja2 import ChoiceLoader, DictLoader, UndefinedError
from markupsafe import Markup

from mnsa.report import rendering
from mnsa.report.rendering import add_legend_above, data_uri, inline_svg, new_axes, render
from narrowing import some


def draw() -> Any:
    figure, axes = new_axes("<x> & $y$", "height")
    axes.plot([1, 2], [3, 4], "o", label="dots", clip_on=True)
    add_legend_above(axes)
    return figure


@pytest.fixture
def svg() -> str:
    return inline_svg("first", draw)


def test_letters_stay_text_in_the_text_color_of_the_page(svg: str) -> None:
    root = ET.fromstring(svg.replace("xlink:", ""))
    words = ["".join(text.itertext()) for text in root.iter("text")]
    assert {"<x> & $y$", "height", "dots"} <= set(words)
    assert "currentColor" in svg
    assert "#010203" not in svg


def test_a_figure_is_the_same_each_time_and_its_ids_are_unique(svg: str) -> None:
    assert svg == inline_svg("first", draw)
    ids = {name for element in ET.fromstring(svg.replace("xlink:", "")).iter() if (name := element.get("id"))}
    assert ids
    assert all(name.startswith("first-") for name in ids)
    for reference in svg.split("url(#")[1:]:
        assert reference.partition(")")[0] in ids


def test_the_rules_of_a_figure_are_for_figures_alone(svg: str) -> None:
    assert ">*{" not in svg


BASE = '{% extends "base.html" %}{% from "macros.html" import table, drawing, image, missing %}{% block body %}'


@pytest.fixture
def render_text(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Render the body of a page, given as the text of a template."""

    def from_text(body: Any, **context: Any) -> Any:
        environment = rendering._environment()
        template = DictLoader({"test.html": f"{BASE}{body}{{% endblock %}}"})
        environment.loader = ChoiceLoader([template, some(environment.loader)])
        monkeypatch.setattr(rendering, "_environment", lambda: environment)
        return render("test.html", title="A & <b>", **context)

    return from_text


def test_a_page_has_its_title_and_styles_for_phones_dark_mode_and_print(
    read_page: Callable[..., Any], render_text: Callable[..., str]
) -> None:
    text = render_text("<p>body</p>")
    assert read_page(text).sections[""].count("A & <b>") == 2  # title and heading
    for words in ('name="viewport"', "prefers-color-scheme: dark", "@media print", "<p>body</p>"):
        assert words in text


@pytest.mark.parametrize(
    "body",
    [
        "{{ name }}",
        "{{ image('data:,', name) }}",
        "{{ drawing(svg, name) }}",
        "{{ table((name,), [(name,)]) }}",
        "{{ missing(name, name) }}",
    ],
)
def test_every_value_is_escaped(read_page: Callable[..., Any], render_text: Callable[..., str], body: str) -> None:
    name = '"><script>&'
    text = render_text(body, name=name, svg=Markup("<svg></svg>"))
    assert "<script>" not in text
    assert name in "".join(read_page(text).sections.values())


def test_a_value_that_is_missing_is_an_error(render_text: Callable[..., str]) -> None:
    with pytest.raises(UndefinedError):
        render_text("{{ name }}")


def test_an_image_has_its_caption_or_another_text_for_screen_readers(
    read_page: Callable[..., Any], render_text: Callable[..., str]
) -> None:
    assert read_page(render_text("{{ image('data:,', 'a leaf') }}")).alts == ["a leaf"]
    assert read_page(render_text("{{ image('data:,', 'a leaf', 'leaf 3') }}")).alts == ["leaf 3"]


def test_columns_of_text_are_marked(render_text: Callable[..., str]) -> None:
    assert render_text("{{ table(('a', 'b'), [('x', '1')]) }}").count('class="text"') == 2


@pytest.mark.parametrize(("data", "expected"), [(b"", ""), (b"leaf", "bGVhZg==")])
def test_the_bytes_of_a_file_become_a_data_uri(data: Any, expected: Any) -> None:
    assert data_uri(data, "image/png") == f"data:image/png;base64,{expected}"
