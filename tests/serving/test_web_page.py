"""The page in a browser: photos are added, results are shown, files are downloaded."""

import csv
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnsa.run_folder import RunFolder

CLASS_COLUMNS = ("predicted", "probability", "top5")
SCRIPTS = Path(__file__).parent / "page_scripts"
DROP, UNNAMED, CONTRAST = ((SCRIPTS / name).read_text() for name in ("drop.js", "unnamed.js", "contrast.js"))
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(start_server: Callable[..., Any]) -> str:
    """The address of a running server."""
    return str(start_server().address)


@pytest.fixture
def page(open_page: Callable[..., Any], address: str) -> Any:
    """The open page on a screen, with a mouse."""
    return open_page(address, viewport={"width": 1440, "height": 960})


@pytest.fixture
def phone(open_page: Callable[..., Any], address: str) -> Any:
    """The open page on a phone, with fingers."""
    options = {"has_touch": True, "is_mobile": True, "reduced_motion": "reduce"}
    return open_page(address, viewport={"width": 390, "height": 760}, **options)


def drop(page: Any, name: str, data: bytes) -> None:
    page.evaluate(DROP, [list(data), name])


def wait_for_results(page: Any, count: int = 1) -> None:
    page.locator(".photo-item.done").nth(count - 1).wait_for()


def download(page: Any, button: str) -> Any:
    with page.expect_download() as event:
        page.click(button)
    return Path(event.value.path()).read_bytes()


def test_a_dropped_photo_gets_class_mask_and_traits(
    page: Any, photos: list[tuple[str, bytes]], predictor: Any, dataset: Path
) -> None:
    name, data = photos[0]
    drop(page, name, data)
    wait_for_results(page)
    own = predictor.predict(dataset / "images" / name)
    assert page.inner_text("#classes li:first-child .class-name") == predictor.classes[own.class_probs.argmax()]
    assert page.inner_text("#photo-name") == name
    assert page.evaluate("document.getElementById('mask').naturalWidth") == 64
    assert page.is_visible("#mask")
    assert f"{(own.mask == 1).mean() * 100:.3g}"[:3] in page.inner_text("#legend")
    assert page.locator("#key-traits div").count() >= 6
    assert page.messages == []


def test_opacity_layer_and_zoom_change_the_image(page: Any, photos: list[tuple[str, bytes]]) -> None:
    drop(page, *photos[0])
    wait_for_results(page)
    page.focus("#opacity")
    page.keyboard.press("Home")
    assert page.evaluate("getComputedStyle(document.getElementById('mask')).opacity") == "0"
    page.focus("input[value=mask]")
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#attention")
    assert not page.is_visible("#mask")
    width = page.locator("#photo").bounding_box()["width"]
    assert page.inner_text("#attention-legend").split("\n")[:2] == ["little", "much attention"]
    page.click("#zoom-in")
    assert page.locator("#photo").bounding_box()["width"] == pytest.approx(1.5 * width, rel=0.01)
    page.focus("#viewport")
    page.keyboard.press("+")
    assert page.locator("#photo").bounding_box()["width"] == pytest.approx(2.25 * width, rel=0.01)
    page.keyboard.press("-")
    assert page.locator("#photo").bounding_box()["width"] == pytest.approx(1.5 * width, rel=0.01)
    page.click("#zoom-out")
    assert page.locator("#photo").bounding_box()["width"] == pytest.approx(width, rel=0.01)
    assert page.is_disabled("#zoom-out")
    page.keyboard.press("0")
    assert page.locator("#photo").bounding_box()["width"] == pytest.approx(width, rel=0.01)


def test_the_wheel_and_a_double_click_keep_the_point_under_the_pointer_and_the_mouse_drags(
    page: Any, photos: list[tuple[str, bytes]]
) -> None:
    drop(page, *photos[0])
    wait_for_results(page)
    box = page.locator("#photo").bounding_box()
    x, y = box["x"] + 0.7 * box["width"], box["y"] + 0.3 * box["height"]

    def place() -> tuple[float, float]:
        now = page.locator("#photo").bounding_box()
        return (x - now["x"]) / now["width"], (y - now["y"]) / now["height"]

    page.mouse.move(x, y)
    for turn in (-400, -100, 0):  # of the wheel; 0: a double click
        width = page.locator("#photo").bounding_box()["width"]
        if turn:
            page.mouse.wheel(0, turn)
        else:
            page.mouse.dblclick(x, y)
        page.wait_for_function("width => document.getElementById('photo').clientWidth > 1.2 * width", arg=width)
        assert place() == pytest.approx((0.7, 0.3), abs=0.02)
    before = page.locator("#photo").bounding_box()
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 40, y + 25, steps=4)
    page.mouse.up()
    after = page.locator("#photo").bounding_box()
    assert (after["x"] - before["x"], after["y"] - before["y"]) == pytest.approx((-40, 25), abs=3)


def test_a_photo_is_shown_with_a_timer_while_it_is_predicted(page: Any, photos: list[tuple[str, bytes]]) -> None:
    held: list[Any] = []
    page.route("**/v1/predict*", lambda route: held.insert(0, route))
    drop(page, *photos[0])
    page.wait_for_function("() => document.getElementById('photo').naturalWidth === 64")
    page.wait_for_function("() => /in progress: [1-9]/.test(document.getElementById('photo-size').textContent)")
    assert page.is_visible("#photo")
    assert not page.is_visible("#mask")
    assert page.inner_text("#photo-name") == photos[0][0]
    held[0].continue_()
    wait_for_results(page)
    assert page.is_visible("#mask")
    assert "64 px" in page.inner_text("#photo-size")
    assert page.messages == []


def test_a_photo_of_a_camera_is_predicted_smaller_and_says_so(page: Any, encoded: Callable[..., bytes]) -> None:
    assert "above 2048 px are shrunk" in page.inner_text("#files-hint")
    drop(page, "camera.png", encoded(np.full((1600, 2400, 3), 90, np.uint8)))
    wait_for_results(page)
    size = page.inner_text("#photo-size").replace("\u00d7", "x")
    assert size.startswith("2400 x 1600 px, predicted at 2048 x 1365 px, ")
    assert page.evaluate("document.getElementById('mask').naturalWidth") == 2400
    assert page.messages == []


def test_a_scale_is_read_with_a_comma_measured_by_two_clicks_and_refused_when_it_is_absurd(
    page: Any, photos: list[tuple[str, bytes]]
) -> None:
    drop(page, *photos[0])
    wait_for_results(page)
    page.fill("#scale", "2.5")
    shown = page.inner_text("#key-traits")
    page.fill("#scale", "2,5")
    assert page.inner_text("#key-traits") == shown
    assert "mm" in shown
    for text in ("0", "-2", "0,0", "1e9", "9999999", "wide", "2,5,1", "NaN"):
        page.fill("#scale", text)
        assert page.is_visible("#scale-error"), text
        assert "mm" not in page.inner_text("#key-traits"), text
    page.fill("#scale", "")
    assert not page.is_visible("#scale-error")
    page.click("#measure")
    box = page.locator("#photo").bounding_box()
    for part in (0.25, 0.75):
        page.mouse.click(box["x"] + part * box["width"], box["y"] + 0.5 * box["height"])
    assert "32 pixels" in page.inner_text("#measure-hint")
    page.fill("#length", "12,8")
    assert float(page.input_value("#scale")) == pytest.approx(2.5, rel=0.02)
    assert "mm" in page.inner_text("#key-traits")


def test_a_run_that_is_not_calibrated_says_so(page: Any, photos: list[tuple[str, bytes]]) -> None:
    drop(page, *photos[0])
    wait_for_results(page)
    assert "not calibrated" in page.inner_text("#uncalibrated")


def test_two_fingers_zoom_at_their_place_and_drag(phone: Any, photos: list[tuple[str, bytes]]) -> None:
    drop(phone, *photos[0])
    wait_for_results(phone)
    phone.locator("#viewport").scroll_into_view_if_needed()
    before = phone.locator("#photo").bounding_box()
    x, y = before["x"] + 0.6 * before["width"], before["y"] + 0.4 * before["height"]
    session = phone.context.new_cdp_session(phone)

    def touch(kind: str, *fingers: tuple[float, float]) -> None:
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(fingers)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (x - 20, y), (x + 20, y))
    for spread in (30, 45, 60):
        touch("touchMove", (x - spread, y), (x + spread, y))
    zoomed = phone.locator("#photo").bounding_box()
    assert zoomed["width"] == pytest.approx(3 * before["width"], rel=0.02)
    place = (x - zoomed["x"]) / zoomed["width"], (y - zoomed["y"]) / zoomed["height"]
    assert place == pytest.approx((0.6, 0.4), abs=0.02)
    touch("touchMove", (x - 60 - 30, y + 20), (x + 60 - 30, y + 20))
    moved = phone.locator("#photo").bounding_box()
    assert (moved["x"] - zoomed["x"], moved["y"] - zoomed["y"]) == pytest.approx((-30, 20), abs=3)
    touch("touchEnd")
    assert phone.evaluate("visualViewport.scale") == 1  # the page itself is not enlarged
    assert phone.messages == []


def test_a_phone_shows_the_answer_without_scrolling_by_hand(phone: Any, photos: list[tuple[str, bytes]]) -> None:
    drop(phone, *photos[0])
    wait_for_results(phone)
    phone.wait_for_function("() => document.getElementById('result').getBoundingClientRect().top < 400")
    assert phone.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_phone_offers_what_fingers_can_do(phone: Any) -> None:
    assert phone.inner_text(".drop-zone label").strip() == "Choose or take photos of leaves"


def test_a_tap_on_the_list_of_a_phone_scrolls_to_the_answer(phone: Any, photos: list[tuple[str, bytes]]) -> None:
    for name, data in photos:
        drop(phone, name, data)
    wait_for_results(phone, len(photos))
    phone.evaluate("scrollTo(0, 0)")
    phone.locator(".photo-item").nth(1).tap()
    phone.wait_for_function("() => document.getElementById('result').getBoundingClientRect().top < 100")
    assert phone.inner_text("#photo-name") == photos[1][0]


def test_a_scale_gives_millimeters_on_the_page_and_in_the_csv_file(
    page: Any,
    photos: list[tuple[str, bytes]],
    finished: RunFolder,
    mnsa: Callable[..., Any],
    dataset: Path,
    tmp_path: Path,
) -> None:
    for name, data in photos:
        drop(page, name, data)
    wait_for_results(page, len(photos))
    assert "px" in page.inner_text("#key-traits")
    page.fill("#scale", "2.5")
    assert "mm" in page.inner_text("#key-traits")
    rows = list(csv.DictReader(io.StringIO(download(page, "#csv").decode())))
    files = [dataset / "images" / name for name, _ in photos]
    mnsa("predict", finished.path, *files, "--traits", "--px-per-mm", 2.5, "--batch-size", 1, "--out", tmp_path / "out")
    expected = list(csv.DictReader((tmp_path / "out" / "predictions.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == [name for name, _ in photos]
    for row, own in zip(rows, expected, strict=True):
        assert list(row) == [name for name in own if name != "mask"]  # it names a file that only `predict` writes
        assert [row[name] for name in CLASS_COLUMNS] == [own[name] for name in CLASS_COLUMNS]
        for column in set(row) - {"image", *CLASS_COLUMNS, "vein_reference", "error"}:
            assert float(row[column] or "nan") == pytest.approx(float(own[column] or "nan"), rel=2e-5, nan_ok=True)


def test_the_zip_file_has_masks_and_overlays(page: Any, photos: list[tuple[str, bytes]]) -> None:
    for name, data in (photos[0], photos[0]):
        drop(page, name, data)
    wait_for_results(page, 2)
    with zipfile.ZipFile(io.BytesIO(download(page, "#zip"))) as archive:
        assert archive.testzip() is None
        stem = photos[0][0].removesuffix(".jpg")
        images = {f"{folder}/{stem}{end}" for folder, end in (("masks", ".png"), ("masks", "-2.png"))}
        assert {"predictions.csv", f"overlays/{stem}.jpg", f"overlays/{stem}-2.jpg", *images} == set(archive.namelist())
        assert Image.open(archive.open(f"overlays/{stem}.jpg")).size == (64, 64)


def test_an_unreadable_file_shows_an_error_and_gets_a_row(page: Any, photos: list[tuple[str, bytes]]) -> None:
    drop(page, "notes.txt", b"leaf")
    drop(page, *photos[0])
    wait_for_results(page)
    assert "1 failed" in page.inner_text("#status")
    page.click(".photo-item.failed")
    assert "notes.txt is not a readable image" in page.inner_text("#error")
    rows = list(csv.DictReader(io.StringIO(download(page, "#csv").decode())))
    assert [row["image"] for row in rows] == ["notes.txt", photos[0][0]]
    assert "not a readable image" in rows[0]["error"]


def test_controls_are_reached_by_keyboard_and_have_names(page: Any, photos: list[tuple[str, bytes]]) -> None:
    drop(page, *photos[0])
    wait_for_results(page)
    reached = []
    for _ in range(25):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    for name in ("files", "csv", "zip", "clear", "viewport", "opacity", "scale", "zoom-in"):
        assert name in reached
    unnamed = page.evaluate(UNNAMED)
    assert unnamed == []


def test_texts_reach_the_contrast_of_wcag_aa_in_light_and_dark(page: Any, photos: list[tuple[str, bytes]]) -> None:
    drop(page, *photos[0])
    wait_for_results(page)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        assert page.evaluate(CONTRAST) == [], scheme
