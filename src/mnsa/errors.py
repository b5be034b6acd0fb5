"""Errors that a user can act on: a message says what was found, what was expected and what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

_MAX_CHARACTERS = 10_000  # characters


class MnsaError(Exception):
    """Bad input. The command line prints it as one paragraph and exits with code 2."""

    exit_code = 2

    def __str__(self) -> str:
        """Return the message. A very long one, which quotes a file, loses its middle."""
        text = super().__str__()
        return (
            text
            if len(text) <= _MAX_CHARACTERS
            else f"{text[: _MAX_CHARACTERS // 2]} ... {text[-_MAX_CHARACTERS // 2 :]}"
        )


class ConfigError(MnsaError):
    """A config file or a `--set` override that can't be used."""


class DataError(MnsaError):
    """A data set, an image or a mask that can't be used."""


class ModelError(MnsaError):
    """A network that can't be built, or weights that don't fit it."""


class RunError(MnsaError):
    """A run folder that is incomplete, in the way, or of another kind."""


class TrainingInterruptedError(MnsaError):
    """Training was stopped by Ctrl-C or another signal. Its message says what is saved.

    exit_code: 130 for SIGINT (Ctrl-C), 143 for SIGTERM, 129 for SIGHUP.
    """

    def __init__(self, message: str, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StudyError(MnsaError):
    """A study that is in the way, can't be joined, or holds nothing to select."""


def install_command(extra: str) -> str:
    """The command that installs an extra: in the clone, for the wheel file, or by name, as mnsa itself was installed.

    Folders are left out, because the web page shows messages, too.
    """
    if (Path(__file__).resolve().parents[2] / "pyproject.toml").is_file():
        return f"pip install -e '.[{extra}]'"
    try:
        origin = distribution("mnsa").read_text("direct_url.json") or ""
    except PackageNotFoundError:
        origin = ""
    wheel = re.search(r'([^/"]+\.whl)"', origin)
    return f"pip install './{wheel[1]}[{extra}]'" if wheel else f"pip install 'mnsa[{extra}]'"


# Parts of the messages of torch's allocator for CPUs, of oneDNN, of CUDA and its libraries, and of the system.
_OUT_OF_MEMORY = (
    "not enough memory", "out of memory", "cannot allocate memory", "std::bad_alloc", "can't start new thread",
    "could not create a primitive", "could not execute a primitive", "could not create a memory",
    "cublas_status_alloc_failed", "cudnn_status_alloc_failed",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Check whether an error means that the memory of the machine or the GPU, or its limit, was not enough."""
    message = str(error).lower()
    is_named = isinstance(error, (RuntimeError, OSError)) and any(text in message for text in _OUT_OF_MEMORY)
    return is_named or isinstance(error, MemoryError)


@contextmanager
def output_errors(path: Path, kind: type[MnsaError]) -> Iterator[None]:
    """Raise OSErrors from writing a new file or folder `path` as errors of `kind`."""
    try:
        yield
    except FileExistsError:
        raise kind(f"{path} exists already and is not changed. Choose another path, or remove it first.") from None
    except OSError as error:
        raise kind(f"{path} can't be written: {error}. Choose a path that can be written.") from error
