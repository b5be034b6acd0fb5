"""Runs the app with uvicorn until it is stopped: address, port and signals."""

import signal
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from mnsa.errors import RunError

_MAX_CONNECTIONS = 1000  # beyond them uvicorn answers 503 without asking the app

_SHUTDOWN_TIMEOUT_S = 10  # what is being computed when the server is told to end has this long


def run_server(app: ASGIApp, host: str, port: int, *, on_start: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; `on_start` gets the address when the port is taken. Port 0: any free one.

    Raises: RunError when the port can't be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"Can't listen at {host} port {port}: {reason}. Choose another --host or --port.") from None
    with listener:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT_S,
        )
        shown = f"[{host}]" if family == socket.AF_INET6 else host
        on_start(f"http://{shown}:{listener.getsockname()[1]}")
        for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again once it has ended in good order
            signal.signal(number, lambda *_: None)
        uvicorn.Server(config).run(sockets=[listener])
