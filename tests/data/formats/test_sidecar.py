"""A sidecar restores what a format can't store, and its names of mask classes take precedence."""

from dataclasses import replace
from pathlib import Path

import pytest

from mnsa.data.formats.sidecar import (
    MAX_MASK_CLASSES,
    build_sidecar,
    foreground_names,
    parse_sidecar,
    resolve_mask_classes,
)
from mnsa.data.manifest import Manifest, Row
from mnsa.errors import DataError

ROWS = (
    Row("a.png", "m/a.png", "oak", "train", "plant 1", 12.5, {"site": "north"}),
    Row("b.png", "", "", "val"),
)
MANIFEST = Manifest("leaves", Path("/leaves"), ("oak",), ("background", "vein"), ROWS)


def test_parsing_restores_what_was_built() -> None:
    sidecar = parse_sidecar(build_sidecar(MANIFEST, {"a.png": "1.png", "b.png": "2.png"}), "here")
    assert sidecar is not None
    assert (sidecar.name, sidecar.classes, sidecar.mask_classes) == ("leaves", ("oak",), ("background", "vein"))
    for name, row in (("1.png", ROWS[0]), ("2.png", ROWS[1])):
        assert sidecar.complete_row(name, Row(row.image, row.mask, split=row.split)) == row
        assert sidecar.lacks_mask(name) == (not row.mask)


def test_an_image_without_an_entry_keeps_its_row() -> None:
    sidecar = parse_sidecar(build_sidecar(MANIFEST, {}), "here")
    assert sidecar is not None
    row = Row("c.png", "m/c.png", split="test")
    assert sidecar.complete_row("c.png", row) == row
    assert not sidecar.lacks_mask("c.png")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "name must be text"),
        ({"classes": ["oak", "oak"]}, "here, classes: the names must differ"),
        ({"images": {"1.png": 3}}, r"here, 1\.png: expected a mapping"),
    ],
)
def test_a_wrong_type_is_an_error_that_names_the_place(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_sidecar({**build_sidecar(MANIFEST, {}), **changes}, "here")
    assert parse_sidecar(None, "here") is None


def test_a_label_that_is_no_text_is_an_error() -> None:
    sidecar = parse_sidecar({"name": "leaves", "images": {"1.png": {"label": 3}}}, "here")
    assert sidecar is not None
    with pytest.raises(DataError, match=r"here, 1\.png: label, group"):
        sidecar.complete_row("1.png", ROWS[0])


def test_several_classes_have_a_background_in_front() -> None:
    assert resolve_mask_classes(["vein"], None, "here") == ("vein",)
    assert resolve_mask_classes(["leaf", "vein"], None, "here") == ("background", "leaf", "vein")
    assert foreground_names(("background", "leaf", "vein")) == ("leaf", "vein")
    assert foreground_names(("vein",)) == ("vein",)


@pytest.mark.parametrize("found", [[], ["a", "a"], ["background"], [f"c{n}" for n in range(MAX_MASK_CLASSES + 1)]])
def test_no_names_equal_names_and_too_many_names_are_an_error(found: list[str]) -> None:
    with pytest.raises(DataError, match=r"^here"):
        resolve_mask_classes(found, None, "here")


def test_names_that_differ_from_the_sidecars_are_an_error() -> None:
    sidecar = parse_sidecar(build_sidecar(replace(MANIFEST, mask_classes=("other", "vein")), {}), "mnsa.json")
    assert resolve_mask_classes(["vein"], sidecar, "here") == ("other", "vein")
    with pytest.raises(DataError, match=r"here: the classes are leaf, but mnsa\.json has other, vein"):
        resolve_mask_classes(["leaf"], sidecar, "here")
