"""The size of an upload is checked while it arrives."""

import asyncio
from collections.abc import Callable
from typing import Any

from mnsa.serving.upload import RequestLimits
from mnsa.serving.web_app import create_app

HEAD = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'


def endless(chunk: bytes, taken: list[int]) -> Any:
    """Return an upload that never ends; `taken` counts the bytes that were read."""

    async def receive() -> Any:
        body = chunk if taken[0] else HEAD
        taken[0] += len(body)
        return {"type": "http.request", "body": body, "more_body": True}

    return receive


def test_an_endless_upload_is_refused_after_the_limit(stub: Any, post_asgi: Callable[..., Any]) -> None:
    taken = [0]
    app = create_app(stub, name="tiny", limits=RequestLimits(max_bytes=100_000))
    response = post_asgi(app, endless(b"0" * 1000, taken))
    assert response.status == 413
    assert taken[0] <= 2 * 100_000 + 2000  # the limit, and the drained rest of the body


def test_a_large_content_length_is_refused_before_reading(stub: Any, post_asgi: Callable[..., Any]) -> None:
    taken = [0]
    app = create_app(stub, name="tiny", limits=RequestLimits(max_bytes=100_000))
    headers = [(b"content-length", b"100001"), (b"expect", b"100-continue")]
    assert post_asgi(app, endless(b"0" * 1000, taken), headers).status == 413
    assert taken[0] == 0


def test_a_stalled_upload_is_408(stub: Any, post_asgi: Callable[..., Any]) -> None:
    sent: list[bytes] = []

    async def receive() -> Any:
        if sent:
            await asyncio.sleep(60)
        sent.append(HEAD)
        return {"type": "http.request", "body": HEAD, "more_body": True}

    app = create_app(stub, name="tiny", limits=RequestLimits(upload_timeout_s=0.05))
    assert post_asgi(app, receive).status == 408


def test_a_disconnect_during_the_upload_predicts_nothing(stub: Any, post_asgi: Callable[..., Any]) -> None:
    messages = [{"type": "http.request", "body": HEAD, "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    app = create_app(stub, name="tiny")
    assert post_asgi(app, receive).status == 499
    assert not stub.started.is_set()


def test_a_disconnect_ends_the_running_image_and_cancels_queued_ones(
    stub: Any, post_asgi: Callable[..., Any], encoded: Callable[..., bytes]
) -> None:
    body = HEAD + encoded((8, 8)) + b"\r\n" + HEAD + encoded((8, 8)) + b"\r\n--x--\r\n"
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if not messages:
            await asyncio.to_thread(stub.started.wait, 30)
            return {"type": "http.disconnect"}
        return messages.pop(0)

    app: Any = create_app(stub, name="tiny")
    assert post_asgi(app, receive).status == 499
    stub.release.set()
    app.app.state.service.queue._executor.shutdown(wait=True)
    assert stub.predicted == 0  # the running image was given up, and the second never begun
