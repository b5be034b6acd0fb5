"""Find a model: a local folder, or a name on the Hugging Face hub, whose files are then downloaded.

This does not use ModelHubMixin of huggingface_hub: the mixin saves the object that predicts, but a Predictor has fused
BatchNorms. It also writes constructor arguments to config.json, passes the content of that file to the constructor,
and overwrites an existing folder. Here files are copied, and read like the files of a run.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnsa.errors import RunError

CARD_FILE = "README.md"

MODEL_FILES = ("config.json", "model.safetensors")  # only these and the card are downloaded

_NAME_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]*"

_HUB_NAME = re.compile(rf"{_NAME_PART}/{_NAME_PART}")


def hub_name(source: str | Path) -> str | None:
    """Return the name on the hub, `owner/model`, or None if `source` is a folder.

    A Path is a folder. `runs/frist` is also one if the folder `runs` exists: a typing error must not download the model
    of somebody else.
    """
    if isinstance(source, Path) or not _HUB_NAME.fullmatch(source):
        return None
    return None if Path(source).exists() or Path(source).parent.exists() else source


def find_model_folder(source: str | Path, *, revision: str | None = None) -> Path:
    """Return the folder of a model: `source`, or the downloaded files if `source` is a name on the hub.

    revision: branch, tag or commit on the hub; a commit always gives the same files. Raises: RunError.
    """
    name = hub_name(source)
    if name is None:
        if revision is not None:
            raise RunError(f"{source} is a local folder, so it has no revision {revision!r}. Leave revision out.")
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
    """Raise errors of the hub as RunError, with what to do."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise RunError(
            f"Access to {name} on the hub is limited. Ask for it on its page, then log in: hf auth login."
        ) from None
    except errors.RepositoryNotFoundError:
        raise RunError(
            f"There is no folder {name}, and no public model {name} on the hub. Check the name. "
            "For a private model log in first: hf auth login, or set HF_TOKEN."
        ) from None
    except errors.RevisionNotFoundError:
        raise RunError(f"{name} on the hub has no such revision. Give one of its branches, tags or commits.") from None
    except errors.HFValidationError as error:
        raise RunError(f"{name!r} is no valid name on the hub: {_first_line(error)} Expected owner/model.") from None
    except (OSError, errors.HTTPError) as error:  # type: ignore[attr-defined]  # of the HTTP client
        raise RunError(_unreachable_message(name, error)) from None


def _unreachable_message(name: str, error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in {401, 403}:
        return f"The hub denies access to {name}. Log in with a token that has access: hf auth login, or set HF_TOKEN."
    return (
        f"There is no folder {name}, and the hub can't be reached: {_first_line(error)} Check the network "
        "connection, or give a folder."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__).rstrip(".") + "."
