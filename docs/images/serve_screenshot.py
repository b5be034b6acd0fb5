"""Take the screenshot of the page for the docs.

Command: `python docs/images/serve_screenshot.py ADDRESS docs/images/serve.jpg IMAGES...`.

The first image is shown. Needs a running `mnsa serve`, playwright and Debian's chromium.
"""

import io
import shutil
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
)
SYNTH_MM = 110.0  # what an image of `mnsa synth` shows from side to side


def launch(driver: Any) -> Any:
    """Start a browser without a window."""
    return driver.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_FLAGS)


def main(address: str, out: str, *images: str) -> None:
    """Predict the images on the page, and save a screenshot."""
    with sync_playwright() as driver:
        browser = launch(driver)
        page = browser.new_page(viewport={"width": 1440, "height": 1040})
        page.goto(address)
        page.wait_for_selector("#version:has-text('mnsa')")
        page.set_input_files("#files", images)
        page.locator(".photo-item.done").nth(len(images) - 1).wait_for(timeout=300_000)
        page.fill("#scale", f"{Image.open(images[0]).width / SYNTH_MM:.2f}")
        page.evaluate("document.activeElement.blur()")
        picture = Image.open(io.BytesIO(page.screenshot()))
        browser.close()
    picture.convert("RGB").save(Path(out), quality=84)


if __name__ == "__main__":
    main(*sys.argv[1:])
