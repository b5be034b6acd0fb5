"""The page in a real browser: photos go in, answers can be read, files come out."""

import csv
import io
import shutil
import zipfile
from pathlib import Path

import pytest
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'mnsa[dev]'")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
LIMIT_MS = 120_000
SCRIPTS = Path(__file__).parent / "page_scripts"
DROP, NAMELESS, CONTRAST = ((SCRIPTS / name).read_text() for name in ("drop.js", "nameless.js", "contrast.js"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt install chromium"),
]


@pytest.fixture(scope="module")
def served(start_server):
    """A running server's address, and a browser."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield start_server().address, browser
        browser.close()


@pytest.fixture
def page(served):
    """The page, just opened; `said` is what came on its console."""
    address, browser = served
    page = browser.new_context(viewport={"width": 1440, "height": 960}).new_page()
    page.set_default_timeout(LIMIT_MS)
    page.said = []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#version:has-text('mnsa')")
    yield page
    page.context.close()


def drop(page, name, data):
    page.evaluate(DROP, [list(data), name])


def finished_leaf(page, count=1):
    page.locator(".leaf.done").nth(count - 1).wait_for()


def saved(page, button):
    with page.expect_download() as download:
        page.click(button)
    return Path(download.value.path()).read_bytes()


def test_a_dropped_photo_is_answered_with_class_overlay_and_traits(page, photos, predictor, dataset):
    name, data = photos[0]
    drop(page, name, data)
    finished_leaf(page)
    own = predictor.predict(dataset / "images" / name)
    assert page.inner_text("#classes li:first-child .name") == predictor.classes[own.class_probs.argmax()]
    assert page.inner_text("#name") == name
    assert page.evaluate("document.getElementById('mask').naturalWidth") == 64
    assert page.is_visible("#mask")
    assert f"{(own.mask == 1).mean() * 100:.3g}"[:3] in page.inner_text("#legend")
    assert page.locator("#headline div").count() >= 6
    assert page.said == []


def test_opacity_view_and_zoom_change_the_picture(page, photos):
    drop(page, *photos[0])
    finished_leaf(page)
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


def test_a_scale_gives_millimetres_on_the_page_and_in_the_table(page, photos, finished, mnsa, dataset, tmp_path):
    for name, data in photos:
        drop(page, name, data)
    finished_leaf(page, len(photos))
    assert "px" in page.inner_text("#headline")
    page.fill("#scale", "2.5")
    assert "mm" in page.inner_text("#headline")
    rows = list(csv.DictReader(io.StringIO(saved(page, "#csv").decode())))
    files = [dataset / "images" / name for name, _ in photos]
    mnsa("predict", finished.path, *files, "--traits", "--px-per-mm", 2.5, "--out", tmp_path / "out")
    expected = list(csv.DictReader((tmp_path / "out" / "predictions.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == [name for name, _ in photos]
    for row, own in zip(rows, expected, strict=True):
        assert list(row) == list(own)
        assert (row["class"], row["probability"], row["top5"]) == (own["class"], own["probability"], own["top5"])
        for column in set(row) - {"image", "class", "top5", "vein_reference", "error"}:
            assert float(row[column] or "nan") == pytest.approx(float(own[column] or "nan"), rel=2e-5, nan_ok=True)


def test_the_archive_opens_and_holds_masks_and_overlays(page, photos):
    for name, data in (photos[0], photos[0]):
        drop(page, name, data)
    finished_leaf(page, 2)
    with zipfile.ZipFile(io.BytesIO(saved(page, "#zip"))) as archive:
        assert archive.testzip() is None
        stem = photos[0][0].removesuffix(".jpg")
        pictures = {f"{folder}/{stem}{end}" for folder, end in (("masks", ".png"), ("masks", "-2.png"))}
        assert {"predictions.csv", f"overlays/{stem}.jpg", f"overlays/{stem}-2.jpg", *pictures} == set(
            archive.namelist()
        )
        assert Image.open(archive.open(f"overlays/{stem}.jpg")).size == (64, 64)


def test_a_file_that_is_no_image_says_so_and_the_others_are_answered(page, photos):
    drop(page, "notes.txt", b"leaf")
    drop(page, *photos[0])
    finished_leaf(page)
    assert "1 without an answer" in page.inner_text("#status")
    page.click(".leaf.failed")
    assert "notes.txt can't be read as an image" in page.inner_text("#fault")


def test_everything_is_reached_by_keyboard_and_has_a_name(page, photos):
    drop(page, *photos[0])
    finished_leaf(page)
    reached = []
    for _ in range(25):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    for name in ("files", "csv", "zip", "clear", "stage", "opacity", "scale", "zoom-in"):
        assert name in reached
    nameless = page.evaluate(NAMELESS)
    assert nameless == []


def test_texts_have_the_contrast_of_aa_in_light_and_dark(page, photos):
    drop(page, *photos[0])
    finished_leaf(page)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        assert page.evaluate(CONTRAST) == [], scheme
