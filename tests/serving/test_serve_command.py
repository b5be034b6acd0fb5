"""`mnsa serve` as a process: errors, load and shutdown."""

import signal
import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mnsa.run_folder import RunFolder

PARALLEL = 200
FLAT_MIB = 150  # allocators keep some memory; a leak of 200 images would be more


def resident_mib(process: Any) -> Any:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def test_a_port_in_use_is_an_error_with_the_fix(refused: Callable[..., str], finished: RunFolder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        message = refused("serve", finished.path, "--port", taken.getsockname()[1])
    assert "--port" in message


def test_a_folder_without_a_run_is_an_error(refused: Callable[..., str], tmp_path: Path) -> None:
    assert str(tmp_path) in refused("serve", tmp_path)


def test_without_a_run_it_serves_the_veins_network(
    mnsa: Callable[..., Any], bundled_veins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = list[Any]()
    monkeypatch.setattr("mnsa.serving.web_app.run_server", lambda app, *_, **__: served.append(app))
    assert mnsa("serve").code == 0
    service = served[0].app.state.service
    assert (service.name, service.predictor.source) == ("veins", bundled_veins)
    assert service.roles.vein == (1,)


def test_an_unknown_mask_class_is_an_error(refused: Callable[..., str], finished: RunFolder) -> None:
    assert "no mask class 'stem'" in refused("serve", finished.path, "--vein", "stem")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_listens_on_localhost_and_stops_cleanly(start_server: Callable[..., Any], number: Any) -> None:
    server = start_server()
    assert server.address.startswith("http://127.0.0.1:")
    assert httpx2.get(f"{server.address}/healthz").json() == {"status": "ok"}
    server.process.send_signal(number)
    assert server.process.wait(60) == 0
    assert server.log.read_text() == ""
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{server.address}/healthz")


@pytest.mark.slow
def test_200_parallel_requests_get_correct_status_codes_and_leak_nothing(
    start_server: Callable[..., Any], photos: list[tuple[str, bytes]]
) -> None:
    server = start_server("--queue-size", 16)

    def post(index: int) -> Any:
        name, data = photos[index % len(photos)]
        with httpx2.Client(timeout=300) as client:
            response = client.post(f"{server.address}/v1/predict", files=[("images", (name, data))])
        if response.status_code == 200:
            assert response.json()["results"][0]["image"] == name
        else:
            assert int(response.headers["retry-after"]) > 0
        return response.status_code

    post(0)
    with ThreadPoolExecutor(PARALLEL) as pool:
        first = Counter(pool.map(post, range(PARALLEL)))
        before = resident_mib(server.process)
        codes = first + Counter(pool.map(post, range(PARALLEL)))
    after = resident_mib(server.process)
    assert set(codes) <= {200, 429}
    assert codes[200] >= 16
    assert sum(codes.values()) == 2 * PARALLEL
    assert after - before < FLAT_MIB
    text = httpx2.get(f"{server.address}/metrics").text
    assert f'path="/v1/predict",status="200"}} {codes[200] + 1}.0' in text
    assert "mnsa_queue_requests 0.0" in text
    assert list(server.scratch.iterdir()) == []
