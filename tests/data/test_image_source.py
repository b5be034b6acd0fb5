"""Images at addresses: a server of the test's own answers right, late, wrong, or only at the third time."""

import io
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
from PIL import Image

import mnsa as package
from mnsa.data import image_source
from mnsa.data.decode import read_pixels
from mnsa.data.image_source import Url, fetch, is_url, to_source
from mnsa.data.paths import find_sources, unique_names
from mnsa.errors import DataError

PIXELS = np.random.default_rng(3).integers(0, 256, (40, 50, 3), np.uint8)


def png(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Answers by the path; counts the requests."""

    requests: ClassVar[Counter[str]] = Counter()

    def do_GET(self) -> None:  # the name that http.server calls
        self.requests[self.path] += 1
        name, photo = self.path.rsplit("/", 1)[-1].partition("?")[0], png(PIXELS)
        if name == "closed.png":
            self.close_connection = True
            return None
        if name == "moved.png":
            return self.answer(302, b"", location="leaf.png")
        if name == "local.png":
            return self.answer(302, b"", location="file:///etc/hostname")
        if name == "missing.png":
            return self.answer(404, b"no")
        if name == "broken.png" or (name == "third.png" and self.requests[self.path] < 3):
            return self.answer(500, b"no")
        if name == "part.png":
            return self.answer(200, photo[:100], length=len(photo))
        return self.answer(200, b"<html>a page</html>" if name == "page.png" else photo)

    def answer(self, status: int, body: bytes, *, length: int | None = None, location: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class QuietServer(ThreadingHTTPServer):
    """A client that has gone is no error."""

    def handle_error(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server on this machine; the client asks again without a pause."""
    monkeypatch.setattr(image_source, "WAITS_S", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Handler.requests.clear()
    with QuietServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_an_image_at_an_address_is_read_like_a_file(server: str) -> None:
    assert np.array_equal(read_pixels(Url(f"{server}/leaf.png")), PIXELS)
    assert np.array_equal(read_pixels(Url(f"{server}/moved.png")), PIXELS)


def test_an_answer_that_may_change_is_asked_for_three_times(server: str) -> None:
    assert fetch(Url(f"{server}/third.png")) == png(PIXELS)
    assert Handler.requests["/third.png"] == 3
    with pytest.raises(DataError, match=r"broken\.png was answered with 500 .*, 3 times\. Try again later"):
        fetch(Url(f"{server}/broken.png"))


@pytest.mark.parametrize(
    ("name", "words", "requests"),
    [
        ("missing.png", "missing.png was answered with 404 (Not Found). Correct the address", 1),
        ("closed.png", "can't be read: Remote end closed connection without response, 3 times", 3),
        ("part.png", "ended after 100 of", 3),
        ("local.png", "was answered with 302", 1),
    ],
)
def test_what_cannot_be_fetched_is_named(server: str, name: str, words: str, requests: int) -> None:
    with pytest.raises(DataError) as error:
        fetch(Url(f"{server}/{name}"))
    assert str(error.value).startswith(f"{server}/{name}")
    assert words in str(error.value)
    assert Handler.requests[f"/{name}"] == requests


def test_a_host_that_is_silent_is_given_up_after_three_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_source, "WAITS_S", (0.0, 0.0))
    monkeypatch.setattr(image_source, "TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connects, and never reads
        url = Url(f"http://127.0.0.1:{silent.getsockname()[1]}/leaf.png")
        with pytest.raises(DataError, match=r"leaf\.png can't be read: timed out, 3 times"):
            fetch(url)


def test_a_host_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_source, "WAITS_S", ())
    with pytest.raises(DataError, match=r"^http://127\.0\.0\.1:1/leaf\.png can't be read: .*refused"):
        fetch(Url("http://127.0.0.1:1/leaf.png"))


def test_a_file_has_a_limit_of_bytes_and_of_time(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_source, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="has more than 100 bytes"):
        fetch(Url(f"{server}/leaf.png"))
    monkeypatch.undo()
    monkeypatch.setattr(image_source, "LIMIT_S", -1.0)
    with pytest.raises(DataError, match="takes longer than"):
        fetch(Url(f"{server}/leaf.png"))


def test_predict_answers_what_it_can_reach_and_gives_the_rest_an_error_each(
    server: str, finished: Any, mnsa: Callable[..., Any], tmp_path: Path
) -> None:
    names = ["leaf.png?token=1", "missing.png", "third.png", "closed.png", "part.png", "page.png"]
    ended = mnsa("predict", finished.path, *(f"{server}/{name}" for name in names), "--out", tmp_path / "out")
    assert ended.code == 3
    rows = dict(line.split(",", 1) for line in (tmp_path / "out" / "predictions.csv").read_text().splitlines())
    failed = {name: f"{server}/{name}" in ended.out for name in names}
    assert failed == {name: name not in ("leaf.png?token=1", "third.png") for name in names}
    assert rows[f"{server}/leaf.png?token=1"].startswith("masks/leaf.png,")
    assert "not an image" in rows[f"{server}/page.png"]
    with Image.open(tmp_path / "out" / "masks" / "third.png") as mask:
        assert mask.size == (50, 40)
    assert (tmp_path / "out" / "sheet.png").exists()


def test_a_prediction_of_an_address_has_its_picture(server: str, predictor: Any) -> None:
    prediction = predictor.predict(f"{server}/leaf.png")
    assert prediction.path == f"{server}/leaf.png"
    assert prediction.draw().size == (50, 40)


def test_other_stores_are_read_and_listed_by_fsspec(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    for name in ("a.png", "b.PNG", "notes.txt", "deep/c.png"):
        store.pipe(f"/bucket/{name}", png(PIXELS))
    try:
        assert np.array_equal(read_pixels(Url("memory://bucket/a.png")), PIXELS)
        listed = [source.rsplit("/", 1)[-1] for source in find_sources(["memory://bucket/"]) if isinstance(source, Url)]
        assert listed == ["a.png", "b.PNG", "c.png"]
        assert [source.stem for source in find_sources(["memory://bucket/*.png"]) if isinstance(source, Url)] == ["a"]
        with pytest.raises(DataError, match=r"memory://bucket/none\.png does not exist"):
            fetch(Url("memory://bucket/none.png"))
    finally:
        store.rm("/bucket", recursive=True)


def test_a_store_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)  # as if it were not installed
    with pytest.raises(DataError, match=r"s3://bucket/leaf\.png needs a package that is missing .*\[cloud\]'"):
        fetch(Url("s3://bucket/leaf.png"))
    with pytest.raises(DataError, match=r"ftpx://host/a\.png can't be read: .*Expected https://"):
        find_sources(["ftpx://host/a.png"])


def test_addresses_are_told_from_paths_and_name_their_files() -> None:
    assert [is_url(text) for text in ("https://a/b.png", "s3://bucket/b", "C://a/b.png", "a//b", "a:b", "http:/a")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
    assert isinstance(to_source("photos/a.png"), Path)
    sources = [to_source(f"https://host/{name}") for name in ("p1/top.jpg?x=a/b", "p2/top.jpg", "only%20one.png", "")]
    assert unique_names(sources) == ["p1/top", "p2/top", "only one", "host"]


def test_a_name_of_an_address_leaves_no_folder() -> None:
    (name,) = unique_names([Url("https://host/a/..%2F..%2Fetc/x%2Fy.png")])
    assert "/" not in name
    assert ".." not in name


def test_the_package_takes_addresses_too(server: str, predictor: Any, tmp_path: Path) -> None:
    summary = package.predict_files(predictor, [f"{server}/leaf.png", PIXELS], tmp_path / "out")
    assert (summary.done, summary.failed) == (2, 0)
    assert sorted(path.name for path in (tmp_path / "out" / "masks").iterdir()) == ["image_0002.png", "leaf.png"]
