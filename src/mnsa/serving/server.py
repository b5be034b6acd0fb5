"""Runs the web app with uvicorn: address, port and signals."""

import signal
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from mnsa.errors import RunError

_MAX_CONNECTIONS = 1000  # uvicorn answers 503 to more
_SHUTDOWN_TIMEOUT_S = 10  # for running requests


def run_server(app: ASGIApp, host: str, port: int, *, on_start: Callable[[str], None]) -> None:
    """Serve an app until SIGTERM or Ctrl-C. Port 0 takes a free port. `on_start` gets the URL when the port is open.

    Raises: RunError when the port can't be opened.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"Can't listen on {host} port {port}: {reason}. Choose another --host or --port.") from None
    with listener:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT_S,
        )
        url_host = f"[{host}]" if family == socket.AF_INET6 else host
        on_start(f"http://{url_host}:{listener.getsockname()[1]}")
        for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again after a clean shutdown
            signal.signal(number, lambda *_: None)
        uvicorn.Server(config).run(sockets=[listener])
