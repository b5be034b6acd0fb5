"""Security middleware: checks the host name and origin of a request, sets security headers, and counts responses."""

import ipaddress
from collections.abc import Collection

from prometheus_client import Counter
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANY_HOST = "*"
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class SecurityMiddleware:
    """Refuses unknown host names, and requests of other sites that do more than read.

    hosts: accepted host names besides localhost; "*" accepts all. The check prevents DNS rebinding: another site's name
    may resolve to this server, but the browser sends that name. IP addresses are always accepted.
    paths: paths that are counted by name; others count as "other".
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], paths: Collection[str], requests: Counter) -> None:
        self.app = app
        self.hosts = {host.lower() for host in hosts} | {"localhost"}
        self.paths = frozenset(paths)
        self.requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an HTTP request. Other events, such as startup and shutdown, go to the app unchanged."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self.paths else "other"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
                self.requests.labels(path, str(message["status"])).inc()
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        await (refusal or self.app)(scope, receive, send_with_headers)

    def _refusal(self, method: str, headers: Headers) -> JSONResponse | None:
        host = parse_host(headers.get("host", ""))
        if ANY_HOST not in self.hosts and host not in self.hosts and not _is_ip_address(host):
            detail = f"Unknown host name {host!r}. Start the server with --allow-host and this name."
            return JSONResponse({"detail": detail}, 421)
        if method not in ("GET", "HEAD") and headers.get("sec-fetch-site") == "cross-site":
            return JSONResponse({"detail": "Pages of other sites may not use this server."}, 403)
        return None


def parse_host(host: str) -> str:
    """Return the name in a Host header, in lower case and without its port: `[::1]:80` -> `::1`."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
