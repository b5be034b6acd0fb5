"""Images on their way in: counted while they come, and refused before they fill anything."""

import asyncio

from mnsa.serving.upload import RequestLimits
from mnsa.serving.web_app import create_app

HEAD = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n'


def endless(chunk, taken):
    """An upload that never ends; `taken` counts the bytes that were asked for."""

    async def receive():
        body = chunk if taken[0] else HEAD
        taken[0] += len(body)
        return {"type": "http.request", "body": body, "more_body": True}

    return receive


def test_an_endless_upload_is_refused_soon_after_the_limit(stub, ask_raw):
    taken = [0]
    app = create_app(stub, name="tiny", limits=RequestLimits(max_bytes=100_000))
    answer = ask_raw(app, endless(b"0" * 1000, taken))
    assert answer.status == 413
    assert taken[0] <= 2 * 100_000 + 2000  # what is counted, and what is then drained so that the refusal is read


def test_an_upload_that_announces_too_much_is_refused_unread(stub, ask_raw):
    taken = [0]
    app = create_app(stub, name="tiny", limits=RequestLimits(max_bytes=100_000))
    headers = [(b"content-length", b"100001"), (b"expect", b"100-continue")]
    assert ask_raw(app, endless(b"0" * 1000, taken), headers).status == 413
    assert taken[0] == 0


def test_an_upload_that_stalls_is_408(stub, ask_raw):
    sent = []

    async def receive():
        if sent:
            await asyncio.sleep(60)
        sent.append(HEAD)
        return {"type": "http.request", "body": HEAD, "more_body": True}

    app = create_app(stub, name="tiny", limits=RequestLimits(upload_timeout_s=0.05))
    assert ask_raw(app, receive).status == 408


def test_a_client_that_hangs_up_while_sending_costs_nothing(stub, ask_raw):
    messages = [{"type": "http.request", "body": HEAD, "more_body": True}, {"type": "http.disconnect"}]

    async def receive():
        return messages.pop(0)

    app = create_app(stub, name="tiny")
    assert ask_raw(app, receive).status == 499
    assert not stub.started.is_set()


def test_a_client_that_hangs_up_while_waiting_has_its_work_dropped(stub, ask_raw, encoded):
    body = HEAD + encoded((8, 8)) + b"\r\n" + HEAD + encoded((8, 8)) + b"\r\n--x--\r\n"
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if not messages:
            await asyncio.to_thread(stub.started.wait, 30)
            return {"type": "http.disconnect"}
        return messages.pop(0)

    app = create_app(stub, name="tiny")
    assert ask_raw(app, receive).status == 499
    stub.go_on.set()
    app.app.state.server.queue._thread.shutdown(wait=True)
    assert stub.answered == 1  # what ran came to its end; the second image was never begun
