"""The page that corrects masks, in a browser: vein pen, brush, eraser, undo, fingers, and saving."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnsa.data.decode import read_mask_indices
from mnsa.data.manifest import Row, read_manifest

pytestmark = pytest.mark.slow

DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 760}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def leaves(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(dataset, tmp_path_factory.mktemp("annotated") / "leaves")


@pytest.fixture(scope="module")
def address(start_server: Callable[..., Any], leaves: Path) -> str:
    return str(start_server("--data", leaves, "--annotate").address)


def open_image(open_page: Callable[..., Any], address: str, index: int, **options: Any) -> Any:
    page = open_page(address, **options)
    page.locator("#images button").nth(index).click()
    page.wait_for_selector("canvas#mask[width='64']")
    page.wait_for_selector("#status:has-text('mask')")
    return page


def point(page: Any, x: float, y: float) -> tuple[float, float]:
    """The place in the window of a pixel of the image."""
    box = page.locator("#photo").bounding_box()
    return box["x"] + x / 64 * box["width"], box["y"] + y / 64 * box["height"]


def drag(page: Any, *pixels: tuple[float, float]) -> None:
    page.mouse.move(*point(page, *pixels[0]))
    page.mouse.down()
    for pixel in pixels[1:]:
        page.mouse.move(*point(page, *pixel), steps=4)
    page.mouse.up()


def save(page: Any, leaves: Path, index: int) -> tuple[Row, np.ndarray]:
    with page.expect_response(lambda response: response.request.method == "PUT") as saved:
        page.click("#save")
    assert saved.value.ok
    page.wait_for_selector("#status:has-text('Saved as')")
    row = read_manifest(leaves).rows[index]
    return row, read_mask_indices(leaves / row.mask, 1)


def test_brush_and_eraser_change_the_saved_mask_where_they_were(
    open_page: Callable[..., Any], address: str, leaves: Path
) -> None:
    before = read_mask_indices(leaves / read_manifest(leaves).rows[0].mask, 1)
    page = open_image(open_page, address, 0, **DESKTOP)
    page.keyboard.press("b")
    drag(page, (4.5, 8.5), (24.5, 8.5))
    page.keyboard.press("e")
    page.locator("#width").fill("20")
    drag(page, (40, 40), (50, 40))
    row, mask = save(page, leaves, 0)
    assert row.mask.startswith("annotations/")
    assert mask[7:10, 4:25].all()
    assert not mask[32:48, 38:52].any()
    untouched = np.ones((64, 64), bool)
    untouched[6:11, 2:28] = untouched[29:52, 29:62] = False
    assert (mask == before)[untouched].all()
    assert page.locator("#images button").nth(0).inner_text().endswith("✓")
    assert page.messages == []


def test_a_vein_is_drawn_by_clicks_and_taken_back_by_undo(
    open_page: Callable[..., Any], address: str, leaves: Path
) -> None:
    page = open_image(open_page, address, 1, **DESKTOP)
    _, before = save(page, leaves, 1)
    for pixel in ((5, 5), (58, 10), (58, 50)):
        page.mouse.click(*point(page, *pixel))
        page.wait_for_timeout(300)
    page.wait_for_selector("#undo:not([disabled])")
    page.keyboard.press("Escape")
    assert page.inner_text("#save") == "Save*"
    _, drawn = save(page, leaves, 1)
    assert (drawn != before).sum() > 40
    assert drawn[5, 5]
    assert drawn[10, 58]
    assert drawn[50, 58]
    page.click("#undo")
    page.click("#undo")
    assert page.is_disabled("#undo")
    _, after = save(page, leaves, 1)
    assert (after == before).all()
    page.keyboard.press("Control+y")
    page.keyboard.press("Control+y")
    _, again = save(page, leaves, 1)
    assert (again == drawn).all()


def test_leaving_an_image_that_is_not_saved_asks_first(open_page: Callable[..., Any], address: str) -> None:
    page = open_image(open_page, address, 2, **DESKTOP)
    name = page.inner_text("#image-name")
    page.keyboard.press("b")
    drag(page, (4, 4), (10, 4))
    questions: list[str] = []

    def stay(dialog: Any) -> None:
        questions.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", stay)
    page.keyboard.press("n")
    assert questions
    assert page.inner_text("#image-name") == name
    page.keyboard.press("Control+z")
    page.keyboard.press("n")
    page.wait_for_selector(f"#image-name:not(:has-text('{name}'))")
    assert len(questions) == 1


def test_one_finger_paints_and_two_zoom(open_page: Callable[..., Any], address: str, leaves: Path) -> None:
    page = open_image(open_page, address, 3, **PHONE)
    _, before = save(page, leaves, 3)
    page.locator("#viewport").scroll_into_view_if_needed()
    page.locator("[name=tool][value=brush]").check(force=True)
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *pixels: tuple[float, float]) -> None:
        places = [point(page, *pixel) for pixel in pixels]
        points = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (10, 10))
    touch("touchMove", (20, 10))
    touch("touchEnd")
    page.wait_for_selector("#save:has-text('*')")
    _, painted = save(page, leaves, 3)
    assert painted[10, 10:20].all()
    width = page.locator("#photo").bounding_box()["width"]
    x, y = point(page, 32, 32)
    for kind, spreads in (("touchStart", (0, 12)), ("touchMove", (18,)), ("touchMove", (40,))):
        for spread in spreads:
            fingers = [(x - spread, y), (x + spread, y)] if spread else [(x - 12, y)]
            points = [{"x": a, "y": b, "id": n} for n, (a, b) in enumerate(fingers)]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    touch("touchEnd")
    assert page.locator("#photo").bounding_box()["width"] > 1.5 * width
    _, after = save(page, leaves, 3)
    assert (after == painted).all()
    assert (painted != before).any()
