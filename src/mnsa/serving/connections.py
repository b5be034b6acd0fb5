"""Connections of the server: a time limit for the headers of a request, a limit per client, and an end on time."""

import asyncio
import ipaddress
import socket
from collections.abc import Callable

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_TIMEOUT_S = 10.0
MAX_PER_CLIENT = 100  # not for this machine: a proxy on it has the connections of all clients
SHUTDOWN_TIMEOUT_S = 10  # for running requests
_ANSWER_S = 2.0  # of these, for the answers to requests that can't be finished


class LimitedProtocol(H11Protocol):
    """Closes connections of a client that has too many, and those that send no whole header in time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        host = self.client[0] if self.client else ""
        if not _is_local(host) and sum(_host(other) == host for other in self.connections) > MAX_PER_CLIENT:
            transport.abort()
            return
        self.loop.call_later(HEADER_TIMEOUT_S, self._require_request, None)

    def _require_request(self, before: object) -> None:
        """Close a connection that has sent no request since the last check. before: the request of that time."""
        if self.transport.is_closing():
            return
        if self.cycle is None or (self.cycle is before and self.cycle.response_complete):
            self.transport.abort()
        else:
            self.loop.call_later(HEADER_TIMEOUT_S, self._require_request, self.cycle)


class TimedServer(uvicorn.Server):
    """Calls `on_deadline` shortly before the time for running requests is over."""

    def __init__(self, config: uvicorn.Config, on_deadline: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_deadline = on_deadline

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(SHUTDOWN_TIMEOUT_S - _ANSWER_S, self._on_deadline)
        await super().shutdown(sockets)


def _host(connection: object) -> str:
    client = getattr(connection, "client", None)
    return str(client[0]) if client else ""


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True  # a socket of this machine
