"""Connections without a request, too many of one client, and requests that the server has no more time for."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi.testclient import TestClient

from mnsa.serving import connections
from mnsa.serving.connections import LimitedProtocol, TimedServer


def test_a_request_without_time_left_is_503(
    open_client: Callable[..., TestClient], stub: Any, photos: list[tuple[str, bytes]]
) -> None:
    with open_client(stub) as client:
        app: Any = client.app
        queue = app.app.state.service.queue

        def stop() -> None:
            stub.started.wait(30)
            client.portal.call(queue.stop)  # type: ignore[union-attr]

        thread = threading.Thread(target=stop)
        thread.start()
        response = client.post("/v1/predict", files=[("images", photos[0])])
        thread.join()
    assert response.status_code == 503
    assert "The server stops" in response.json()["detail"]


async def hello(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


def test_half_a_header_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADER_TIMEOUT_S", 0.2)
    config = uvicorn.Config(hello, http=LimitedProtocol, lifespan="off", log_level="error")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = TimedServer(config, lambda: None)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        address = listener.getsockname()
        while not server.started:
            time.sleep(0.01)
        with socket.create_connection(address, timeout=30) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: ")
            with pytest.raises(ConnectionResetError):
                raise ConnectionResetError if client.recv(1) == b"" else AssertionError
        assert httpx2.get(f"http://127.0.0.1:{address[1]}/").text == "hi"
        server.should_exit = True
        thread.join(30)


def test_one_client_has_a_limited_number_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_PER_CLIENT", 3)

    def count_open(host: str) -> int:
        config = uvicorn.Config(hello, http=LimitedProtocol, lifespan="off", log_level="error")
        config.load()
        state, aborted = uvicorn.Server(config).server_state, list[int]()
        loop: Any = SimpleNamespace(call_later=lambda *_: None)
        for number in range(5):
            transport: Any = SimpleNamespace(
                get_extra_info=lambda name, number=number: (host, number) if name == "peername" else None,
                abort=lambda number=number: aborted.append(number),
            )
            LimitedProtocol(config, state, {}, loop).connection_made(transport)
        return 5 - len(aborted)

    assert count_open("192.0.2.7") == 3
    assert count_open("127.0.0.1") == 5
