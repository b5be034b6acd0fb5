"""Faulty requests: each is answered or given up, none disturbs another, and memory and open files stay as they were."""

import random
import re
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fault_runs import Command, dose
from mnsa.run_folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc")]

MAX_MB = 1
FLAT_MIB = 150  # allocators keep some memory
TIMEOUT_S = 120.0


@pytest.fixture
def server(finished: RunFolder, tmp_path: Path) -> Iterator[tuple[Command, str]]:
    """`mnsa serve` in a process of its own, and its address."""
    log = tmp_path / "log"
    command = Command(["serve", finished.path, "--port", 0, "--max-mb", MAX_MB, "--queue-size", 8], log)
    command.wait_until(lambda: log.exists() and "http://" in log.read_text())
    yield command, re.findall(r"http://\S+", log.read_text())[0]
    command.signal(signal.SIGTERM, group=False)
    ended = command.wait()
    assert ended.code == 0, ended.text
    assert "Traceback" not in ended.text


def post(address: str, name: str, data: bytes) -> Any:
    with httpx2.Client(timeout=TIMEOUT_S) as client:
        return client.post(f"{address}/v1/predict", files=[("images", (name, data))])


def send(address: str, data: bytes) -> socket.socket:
    """Send raw bytes over a new connection, which stays open."""
    host, _, port = address.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)), timeout=TIMEOUT_S)
    with suppress(OSError):  # the server may have closed it before it has read all
        connection.sendall(data)
    return connection


def status_of(connection: socket.socket) -> int:
    """Read the status of an answer; 0 if the server closes the connection without one."""
    with closing(connection):
        try:
            answer = connection.recv(1 << 16)
        except ConnectionError:
            answer = b""
    return int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def upload(length: int, body: bytes, kind: str = "multipart/form-data; boundary=x") -> bytes:
    """A request of a given length, with the beginning of its body."""
    head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    return head.encode() + body


def malformed(rng: random.Random) -> bytes:
    """A request that no client sends: noise, a broken header, a broken form, broken JSON, an odd path."""
    noise = rng.randbytes(rng.randrange(1, 300))
    kind = rng.randrange(5)
    if kind == 0:
        return noise + b"\r\n\r\n"
    if kind == 1:
        return upload(1, b"").replace(b"Length: 1", b"Length: -" + noise[:5].hex().encode())
    if kind == 2:
        return upload(len(noise), noise)
    if kind == 3:
        return upload(len(noise), noise, "application/json").replace(b"/v1/predict", b"/v1/export")
    return b"GET /" + noise.hex().encode() + b"/../..//etc HTTP/1.1\r\nHost: localhost\r\n\r\n"


def open_files(command: Command) -> int:
    return len(list(Path(f"/proc/{command.process.pid}/fd").iterdir()))


def memory_mib(command: Command) -> float:
    status = Path(f"/proc/{command.process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def test_requests_of_every_wrong_kind(server: tuple[Command, str], dataset: Path, count: Callable[[str], None]) -> None:
    (command, address), rng = server, random.Random(10)
    photo = min((dataset / "images").iterdir())
    name, data = photo.name, photo.read_bytes()

    def answer() -> Any:
        result = post(address, name, data).json()["results"][0]
        return {key: value for key, value in result.items() if key != "seconds"}

    expected, others, parallel = answer(), dose(25, 3), dose(150, 15)

    def inject() -> None:
        with ExitStack() as slow:
            for number in range(others):
                # An upload that has begun holds a place in the queue, which has eight.
                half = upload(1000, b"--x\r\n") if number < 2 else b"POST /v1/predict HTTP/1.1\r\nHost: loc"
                slow.enter_context(closing(send(address, half)))  # they stay open until the others are answered
                count("request: slow")
            for _ in range(others):
                assert status_of(send(address, upload((MAX_MB << 20) + 1, b"--x\r\n"))) == 413
                count("request: too large")
                send(address, upload(100_000, b"--x\r\n" + rng.randbytes(rng.randrange(50_000)))).close()
                count("request: cut off")
                assert post(address, "leaf.jpg", rng.randbytes(3000)).status_code < 500
                count("request: not an image")
            for _ in range(dose(500, 50)):
                status = status_of(send(address, malformed(rng)))
                assert status < 500, status
                count("request: malformed")
            with ThreadPoolExecutor(parallel) as pool:
                codes = Counter(pool.map(lambda _: post(address, name, data).status_code, range(parallel)))
            assert set(codes) <= {200, 429}
            assert codes[200] >= 1
            for _ in range(sum(codes.values())):
                count("request: in parallel")

    send(address, b"").close()
    inject()
    files, memory = open_files(command), memory_mib(command)
    inject()
    assert answer() == expected
    assert open_files(command) <= files + 5  # those of the last requests may still be closing
    assert memory_mib(command) < memory + FLAT_MIB
    assert httpx2.get(f"{address}/healthz").json() == {"status": "ok"}
