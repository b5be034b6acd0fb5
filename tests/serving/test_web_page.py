"""The page in a browser: photos are added, results are shown, files are downloaded."""

import csv
import io
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mnsa.run_folder import RunFolder

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'mnsa[dev]'")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
LIMIT_MS = 120_000
CLASS_COLUMNS = ("predicted", "probability", "top5")
SCRIPTS = Path(__file__).parent / "page_scripts"
DROP, UNNAMED, CONTRAST = ((SCRIPTS / name).read_text() for name in ("drop.js", "unnamed.js", "contrast.js"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt install chromium"),
]


@pytest.fixture(scope="module")
def served(start_server: Callable[..., Any]) -> Iterator[Any]:
    """The address of a running server, and a browser."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield start_server().address, browser
        browser.close()


@pytest.fixture
def page(served: Any) -> Iterator[Any]:
    """The open page; `messages` holds its console messages and errors."""
    address, browser = served
    page = browser.new_context(viewport={"width": 1440, "height": 960}).new_page()
    page.set_default_timeout(LIMIT_MS)
    page.messages = []
    page.on("console", lambda message: page.messages.append(message.text))
    page.on("pageerror", lambda error: page.messages.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#version:has-text('mnsa')")
    yield page
    page.context.close()


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
    page.click("#zoom-in")
    assert page.locator("#photo").bounding_box()["width"] == pytest.approx(1.5 * width, rel=0.01)


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
    mnsa("predict", finished.path, *files, "--traits", "--px-per-mm", 2.5, "--out", tmp_path / "out")
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
