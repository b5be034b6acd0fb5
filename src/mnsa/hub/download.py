"""Find a model: a local folder, or a name on the Hugging Face hub, whose files are then downloaded.

Plain functions, not huggingface_hub's ModelHubMixin: the mixin saves the object that predicts, but a Predictor has its
BatchNorms fused. It also writes constructor arguments to config.json, passes what it reads there to the constructor,
and overwrites an existing folder. Here files are copied, and they are read like the files of a run.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnsa.errors import RunError

CARD_FILE = "README.md"

MODEL_FILES = ("config.json", "model.safetensors")  # all that is needed to answer; nothing else but the card is fetched

_NAME_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]*"

_HUB_NAME = re.compile(rf"{_NAME_PART}/{_NAME_PART}")


def hub_name(source: str | Path) -> str | None:
    """The name on the hub, `owner/model`, or None when a folder is meant.

    A Path is a folder; so is `runs/frist` where there is a folder `runs`, as a slip of the pen must not fetch a
    stranger's model.
    """
    if isinstance(source, Path) or not _HUB_NAME.fullmatch(source):
        return None
    return None if Path(source).exists() or Path(source).parent.exists() else source


def find_model_folder(source: str | Path, *, revision: str | None = None) -> Path:
    """The folder of a model: `source` itself, or what is fetched from the hub when it is a name there.

    revision: branch, tag or commit on the hub; a commit pins the model. Raises: RunError.
    """
    name = hub_name(source)
    if name is None:
        if revision is not None:
            raise RunError(f"{source} is a folder here, so it has no revision {revision!r}. Leave revision out.")
        return Path(source)
    import huggingface_hub

    with hub_errors(name):
        folder = Path(
            huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=[*MODEL_FILES, CARD_FILE])
        )
    if missing := [file for file in MODEL_FILES if not (folder / file).is_file()]:
        raise RunError(f"{name} on the hub is no model of mnsa: it has no {' and no '.join(missing)}. Check the name.")
    return folder


@contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """Tell what the hub refuses in words to act on. Raises: RunError."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise RunError(
            f"{name} on the hub is for those whom its owner let in. Ask on its page, then log in: hf auth login."
        ) from None
    except errors.RepositoryNotFoundError:
        raise RunError(
            f"There is no folder {name} here, and no model of that name on the hub, or it is private. Check the name; "
            "for a private one log in first: hf auth login, or set HF_TOKEN."
        ) from None
    except errors.RevisionNotFoundError:
        raise RunError(f"{name} on the hub has no such revision. Give a branch, a tag or a commit of it.") from None
    except errors.HFValidationError as error:
        raise RunError(f"{name!r} can't be a name on the hub: {_first_line(error)} Expected owner/model.") from None
    except (OSError, errors.HTTPError) as error:  # type: ignore[attr-defined]  # of the client that it was built upon
        raise RunError(_unreachable_message(name, error)) from None


def _unreachable_message(name: str, error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in {401, 403}:
        return f"The hub doesn't let you at {name}. Log in with a token that may: hf auth login, or set HF_TOKEN."
    return (
        f"There is no folder {name} here, and the hub can't be had: {_first_line(error)} Check the network connection, "
        "or give a folder."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__).rstrip(".") + "."
