"""A figure on its way into a page."""

from xml.etree import ElementTree as ET

import pytest

from mnsa.report.plotting import add_legend_above, inline_svg, new_axes


def draw():
    figure, axes = new_axes("<x> & $y$", "height")
    axes.plot([1, 2], [3, 4], "o", label="dots", clip_on=True)
    add_legend_above(axes)
    return figure


@pytest.fixture
def svg():
    return inline_svg("first", draw)


def test_letters_stay_text_in_the_pages_own_colour(svg):
    root = ET.fromstring(svg.replace("xlink:", ""))
    words = ["".join(text.itertext()) for text in root.iter("text")]
    assert {"<x> & $y$", "height", "dots"} <= set(words)
    assert "currentColor" in svg
    assert "#010203" not in svg


def test_it_is_the_same_each_time_and_shares_no_id_with_another(svg):
    assert svg == inline_svg("first", draw)
    ids = {element.get("id") for element in ET.fromstring(svg.replace("xlink:", "")).iter() if element.get("id")}
    assert ids
    assert all(name.startswith("first-") for name in ids)
    for reference in svg.split("url(#")[1:]:
        assert reference.partition(")")[0] in ids


def test_its_rules_are_for_drawings_alone(svg):
    assert ">*{" not in svg
