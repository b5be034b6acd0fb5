"""Host names, origins and security headers."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mnsa.serving.middleware import parse_host


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "LOCALHOST", "127.0.0.1:9", "[::1]:8000", "10.1.2.3"])
def test_ip_addresses_and_localhost_are_accepted(client: TestClient, host: str) -> None:
    assert client.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example", "", "[", "a]"])
def test_unknown_host_names_are_refused_with_the_fix(client: TestClient, host: str) -> None:
    response = client.get("/", headers={"host": host})
    assert response.status_code == 421
    assert "--allow-host" in response.json()["detail"]


def test_allowed_host_names_are_accepted(open_client: Callable[..., TestClient], stub: Any) -> None:
    with open_client(stub, hosts=["Lab.example"]) as client:
        assert client.get("/healthz", headers={"host": "lab.example:80"}).status_code == 200
        assert client.get("/healthz", headers={"host": "other.example"}).status_code == 421
    with open_client(stub, hosts=["*"]) as client:
        assert client.get("/healthz", headers={"host": "other.example"}).status_code == 200


def test_pages_of_other_sites_cannot_send_images(client: TestClient, photos: list[tuple[str, bytes]]) -> None:
    def send(site: str) -> Any:
        return client.post("/v1/predict", files=[("images", photos[0])], headers={"sec-fetch-site": site}).status_code

    assert (send("cross-site"), send("same-origin"), send("none")) == (403, 200, 200)


@pytest.mark.parametrize("path", ["/", "/v1/model", "/nowhere", "/openapi.json"])
def test_every_response_has_security_headers(client: TestClient, path: str) -> None:
    headers = client.get(path, headers={"origin": "https://evil.example"}).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


def test_parse_host_removes_the_port() -> None:
    assert [parse_host(host) for host in ("A.b:80", "[::1]:80", "[::1]", "")] == ["a.b", "::1", "::1", ""]
