"""The storage of the trials: an SQLite file in the study folder, a database, a journal file, or a gRPC proxy."""

import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import optuna
import sqlalchemy
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, GrpcStorageProxy, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from mnsa.errors import StudyError, install_command

CONNECT_TIMEOUT_S = 10

SQLITE_TIMEOUT_S = 60  # how long a process waits for the lock of an SQLite file

RETRY_DELAYS_S = (1, 3, 10, 30)  # pauses between attempts, so that a study survives the restart of a database

# Scheme of a URL without a driver -> driver of the extra `search-storages`.
DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "mysql": "mysql+pymysql"}

SUPPORTED_URLS = (
    "sqlite:///FILE, postgresql://USER@HOST/DATABASE, mysql://USER:PASSWORD@HOST/DATABASE, journal:FILE "
    "(on a shared disk) or grpc://HOST:PORT"
)

START_HINTS = {
    "postgres": "Start one: docker run -d -p 5432:5432 -e POSTGRES_HOST_AUTH_METHOD=trust postgres",
    "mysql": "Start one: docker run -d -p 3306:3306 -e MYSQL_ALLOW_EMPTY_PASSWORD=1 -e MYSQL_DATABASE=mnsa mysql",
    "grpc": "Start one with optuna.storages.run_grpc_proxy_server, in front of a database",
    "": "Its folder must exist and be writable",
}

T = TypeVar("T")


def sqlite_url(file: Path) -> str:
    """Return the URL of a database file."""
    return f"sqlite:///{file.resolve().as_posix()}"


def absolute_url(url: str) -> str:
    """Return the URL with an absolute path. Raises: StudyError if the kind of storage is not supported."""
    kind, _, rest = url.partition(":")
    if kind == "journal":
        return f"journal:{Path(rest.removeprefix('//')).resolve()}"
    if kind == "sqlite":
        return sqlite_url(Path(rest.removeprefix("///")))
    if kind != "grpc" and kind.partition("+")[0] not in DRIVERS:
        raise StudyError(f"--storage is {strip_password(url)!r}; expected {SUPPORTED_URLS}.")
    return url


def strip_password(url: str) -> str:
    """Return the URL without its password, to show or save it."""
    password = urlsplit(url).password
    return url.replace(f":{password}@", "@", 1) if password else url


def open_storage(url: str) -> BaseStorage:
    """Connect to a storage. Raises: StudyError with how to start the storage, or what to install."""
    public_url = strip_password(url)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # the worker logs every trial itself
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return _connect(url)
    except ImportError as error:
        raise StudyError(
            f"The storage {public_url} needs a driver that is missing ({error.__cause__ or error}): "
            f"{install_command('search-storages')}."
        ) from None
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise StudyError(f"--storage is {public_url!r} ({error}); expected {SUPPORTED_URLS}.") from None
    except (SQLAlchemyError, StorageInternalError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        hint = next(hint for kind, hint in START_HINTS.items() if url.startswith(kind))
        raise StudyError(f"The storage {public_url} can't be reached ({reason}). {hint}.") from None


def with_retries(call: Callable[[], T]) -> T:
    """Call again after a pause when the storage fails. Raises: the error of the last attempt."""
    for pause in RETRY_DELAYS_S:
        try:
            return call()
        except storage_errors():
            time.sleep(pause)
    return call()


def storage_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of a storage that fails or can't be reached."""
    grpc = sys.modules.get("grpc")
    return (StorageInternalError, SQLAlchemyError, *([grpc.RpcError] if grpc else []))


def _connect(url: str) -> BaseStorage:
    kind, _, rest = url.partition(":")
    if kind == "journal":
        # Windows allows symbolic links, which the default lock of Optuna needs, to administrators only.
        file_lock = JournalFileOpenLock(rest) if os.name == "nt" else None
        return JournalStorage(JournalFileBackend(rest, lock_obj=file_lock))
    if kind == "grpc":
        address = urlsplit(url)
        proxy = GrpcStorageProxy(host=address.hostname or "localhost", port=address.port or 13000)
        proxy.wait_server_ready(timeout=CONNECT_TIMEOUT_S)
        return proxy
    literal = f"{DRIVERS.get(kind, kind)}:{rest}".replace("{", "{{").replace("}", "}}")  # Optuna formats its URLs
    # Queries are minutes apart, so a new connection for each costs nothing, and no connection becomes stale.
    timeout = {"timeout": SQLITE_TIMEOUT_S} if kind == "sqlite" else {"connect_timeout": CONNECT_TIMEOUT_S}
    storage = RDBStorage(literal, {"poolclass": NullPool, "connect_args": timeout})
    return _begin_immediately(storage) if kind == "sqlite" else storage


def _begin_immediately(storage: RDBStorage) -> RDBStorage:
    """Make SQLite lock its file at the start of a transaction, not at the first write.

    Otherwise two processes can both read that a trial is waiting, and both take it: SQLite has no `FOR UPDATE`.
    """

    @sqlalchemy.event.listens_for(storage.engine, "connect")
    def _disable_driver_transactions(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @sqlalchemy.event.listens_for(storage.engine, "begin")
    def _begin(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return storage
