"""Fixtures of the server's tests: app, client, photos as bytes, and a server in a separate process."""

import asyncio
import io
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from mnsa.run_folder import RunFolder
from mnsa.serving.upload import RequestLimits
from mnsa.serving.web_app import create_app
from mnsa.structures import Prediction
from mnsa.traits import find_roles

LIMIT_MS = 120_000  # for what a page is waited for


class StubPredictor:
    """Predicts `a` after the event `release` is set."""

    classes = ("a", "b")
    mask_classes = ()
    threshold = None
    calibration = None
    scale = None
    keeps_scale = False

    def __init__(self) -> None:
        self.started, self.release, self.predicted = threading.Event(), threading.Event(), 0

    def predict_image(self, image: Any) -> Any:
        self.started.set()
        assert self.release.wait(30)
        self.predicted += 1
        return Prediction("", np.array([0.75, 0.25], np.float32), None, None)


@pytest.fixture
def stub() -> Iterator[Any]:
    """A predictor that waits for `release`, which is set at the end of the test."""
    predictor = StubPredictor()
    yield predictor
    predictor.release.set()


@pytest.fixture(scope="session")
def open_client() -> Callable[..., TestClient]:
    """Return a function that opens a client of an app with these limits, for use in `with`."""

    def client(predictor: Any, *, hosts: Any = (), **limits: Any) -> TestClient:
        roles = find_roles(predictor.mask_classes) if predictor.mask_classes else None
        app = create_app(predictor, name="tiny", roles=roles, limits=RequestLimits(**limits), hosts=hosts)
        return TestClient(app, base_url="http://localhost")

    return client


@pytest.fixture(scope="session")
def client(open_client: Callable[..., TestClient], predictor: Any) -> Iterator[TestClient]:
    """A client of an app that serves the finished run."""
    with open_client(predictor) as opened:
        yield opened


@pytest.fixture(scope="session")
def photos(dataset: Path) -> list[tuple[str, bytes]]:
    """Two images: name and bytes."""
    return [(path.name, path.read_bytes()) for path in sorted((dataset / "images").iterdir())[:2]]


@pytest.fixture(scope="session")
def encoded() -> Callable[..., bytes]:
    """Return a function that encodes pixels, uint8 (H, W, 3), or noise of a size (H, W), as an image file."""

    def encode(pixels: Any, form: str = "PNG", **options: Any) -> Any:
        if isinstance(pixels, tuple):
            pixels = np.random.default_rng(1).integers(0, 256, (*pixels, 3), np.uint8)
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, form, **options)
        return data.getvalue()

    return encode


@pytest.fixture(scope="session")
def post_asgi() -> Callable[..., Any]:
    """Return a function that sends a POST request to an app as ASGI messages."""

    def post(app: Any, receive: Any, headers: Any = (), path: str = "/v1/predict") -> Any:
        sent = []

        async def send(message: Any) -> None:
            sent.append(message)

        base = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=x")]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [*base, *headers],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
        }
        asyncio.run(app(scope, receive, send))
        return SimpleNamespace(status=sent[0]["status"], body=b"".join(one.get("body", b"") for one in sent[1:]))

    return post


@pytest.fixture(scope="module")
def start_server(finished: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Return a function that starts `mnsa serve` with options in a separate process."""
    processes: list[Any] = []

    def start(*options: Any) -> Any:
        folder = tmp_path_factory.mktemp("server")
        scratch, log = folder / "scratch", folder / "log"
        scratch.mkdir()
        environment = {**os.environ, "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "mnsa", "serve", str(finished.path), "--port", "0", *map(str, options)]
        with log.open("w") as errors:
            process: Any = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, cwd=scratch
            )
        processes.append(process)
        line = process.stdout.readline()
        assert "http://" in line, log.read_text()
        address = next(word for word in line.split() if word.startswith("http://"))
        return SimpleNamespace(process=process, address=address, scratch=scratch, log=log)

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'mnsa[dev]'")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("needs a browser: apt install chromium")
    quiet = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=quiet)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a page; `messages` of the page holds its console messages and errors."""
    contexts: list[Any] = []

    def opened(address: str, **options: Any) -> Any:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(LIMIT_MS)
        page.messages = []
        page.on("console", lambda message: page.messages.append(message.text))
        page.on("pageerror", lambda error: page.messages.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#version:has-text('mnsa')")
        return page

    yield opened
    for context in contexts:
        context.close()
