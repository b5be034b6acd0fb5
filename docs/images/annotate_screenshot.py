"""Take the screenshot of the page that corrects masks, for the docs.

Command: `python docs/images/annotate_screenshot.py ADDRESS docs/images/annotate.jpg X1 Y1 X2 Y2`.

The first image is shown, while a vein is drawn between two points, given as parts of its width and height. Needs a
running `mnsa serve veins --data FOLDER --annotate`, playwright and Debian's chromium.
"""

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright
from serve_screenshot import launch


def main(address: str, out: str, *ends: str) -> None:
    """Open the page, begin a vein, and save a screenshot."""
    with sync_playwright() as driver:
        browser = launch(driver)
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.goto(f"{address}/annotate")
        page.wait_for_selector("#status:has-text('mask')", timeout=300_000)
        box = page.locator("#photo").bounding_box()
        x1, y1, x2, y2 = map(float, ends)
        page.mouse.click(box["x"] + x1 * box["width"], box["y"] + y1 * box["height"])
        page.wait_for_timeout(500)
        page.mouse.move(box["x"] + x2 * box["width"], box["y"] + y2 * box["height"])
        page.wait_for_timeout(2000)
        picture = Image.open(io.BytesIO(page.screenshot()))
        browser.close()
    picture.convert("RGB").save(Path(out), quality=84)


if __name__ == "__main__":
    main(*sys.argv[1:])
