"""Fixtures of the server's tests: app, client, photos as bytes, and a server in a separate process."""

import asyncio
import io
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from mnsa.serving.upload import RequestLimits
from mnsa.serving.web_app import create_app
from mnsa.structures import Prediction
from mnsa.traits import find_roles


class StubPredictor:
    """Predicts `a` after the event `release` is set."""

    classes = ("a", "b")
    mask_classes = ()
    threshold = None

    def __init__(self):
        self.started, self.release, self.predicted = threading.Event(), threading.Event(), 0

    def predict_image(self, image):
        self.started.set()
        assert self.release.wait(30)
        self.predicted += 1
        return Prediction("", np.array([0.75, 0.25], np.float32), None, None)


@pytest.fixture
def stub():
    """A predictor that waits for `release`, which is set at the end of the test."""
    predictor = StubPredictor()
    yield predictor
    predictor.release.set()


@pytest.fixture(scope="session")
def open_client():
    """Return a function that opens a client of an app with these limits, for use in `with`."""

    def client(predictor, *, hosts=(), **limits):
        roles = find_roles(predictor.mask_classes) if predictor.mask_classes else None
        app = create_app(predictor, name="tiny", roles=roles, limits=RequestLimits(**limits), hosts=hosts)
        return TestClient(app, base_url="http://localhost")

    return client


@pytest.fixture(scope="session")
def client(open_client, predictor):
    """A client of an app that serves the finished run."""
    with open_client(predictor) as opened:
        yield opened


@pytest.fixture(scope="session")
def photos(dataset):
    """Two images: name and bytes."""
    return [(path.name, path.read_bytes()) for path in sorted((dataset / "images").iterdir())[:2]]


@pytest.fixture(scope="session")
def encoded():
    """Return a function that encodes pixels, uint8 (H, W, 3), or noise of a size (H, W), as an image file."""

    def encode(pixels, form="PNG", **options):
        if isinstance(pixels, tuple):
            pixels = np.random.default_rng(1).integers(0, 256, (*pixels, 3), np.uint8)
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, form, **options)
        return data.getvalue()

    return encode


@pytest.fixture(scope="session")
def post_asgi():
    """Return a function that sends a POST request to an app as ASGI messages."""

    def post(app, receive, headers=(), path="/v1/predict"):
        sent = []

        async def send(message):
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
def start_server(finished, tmp_path_factory):
    """Return a function that starts `mnsa serve` with options in a separate process."""
    processes = []

    def start(*options):
        folder = tmp_path_factory.mktemp("server")
        scratch, log = folder / "scratch", folder / "log"
        scratch.mkdir()
        environment = {**os.environ, "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "mnsa", "serve", str(finished.path), "--port", "0", *map(str, options)]
        with log.open("w") as errors:
            process = subprocess.Popen(
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
