"""Find, save and upload a model: a local folder, or a repository on the Hugging Face hub, `owner/model`.

This does not use ModelHubMixin of huggingface_hub: the mixin saves the object that predicts, but a Predictor has fused
BatchNorms. It also writes constructor arguments to config.json, passes the content of that file to the constructor,
and overwrites an existing folder. Here files are copied, and read like the files of a run.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnsa.errors import RunError, output_errors
from mnsa.hub.model_card import render_model_card
from mnsa.io import new_folder
from mnsa.run_folder import RunFolder
from mnsa.weights import bundled_folder, is_bundled

CARD_FILE = "README.md"

MODEL_FILES = ("config.json", "model.safetensors")

OPTIONAL_FILES = ("postprocessing.json",)  # how masks are made; beside model/ in a run

_DOWNLOADED = [*MODEL_FILES, *OPTIONAL_FILES, CARD_FILE]

_NAME_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]*"

_HUB_NAME = re.compile(rf"{_NAME_PART}/{_NAME_PART}")

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")


def hub_name(source: str | Path) -> str | None:
    """Return the name on the hub, `owner/model`, or None if `source` is a folder.

    A Path is a folder. `runs/frist` is also one if the folder `runs` exists: a typing error must not download the model
    of somebody else.
    """
    if isinstance(source, Path) or not _HUB_NAME.fullmatch(source):
        return None
    return None if Path(source).exists() or Path(source).parent.exists() else source


def find_model_folder(source: str | Path, *, revision: str | None = None) -> Path:
    """Return the folder of a model: that of a bundled network, `source`, or the downloaded files for a name on the hub.

    revision: branch, tag or commit on the hub; a commit always gives the same files. Raises: RunError; ModelError when
    the weights of a bundled network are not installed.
    """
    name = hub_name(source)
    if name is None:
        if revision is not None:
            raise RunError(f"{source} is a local folder, so it has no revision {revision!r}. Leave revision out.")
        return bundled_folder(str(source)) if is_bundled(source) else Path(source)
    import huggingface_hub

    with hub_errors(name):
        folder = Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=_DOWNLOADED))
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


class PretrainedMixin:
    """Saves the network that an object was loaded with. source: its folder, or None."""

    source: Path | None

    def save_pretrained(self, folder: str | Path, *, license: str | None = None) -> Path:
        """Copy the network's files on disk into a new folder with a model card, see `save_model`.

        Boosted trees and exported networks are not copied. Raises: RunError, DataError.
        """
        return save_model(self._require_source(), Path(folder), license=license)

    def push_to_hub(
        self, name: str, *, license: str | None = None, private: bool | None = None, revision: str | None = None
    ) -> str:
        """Upload what `save_pretrained` saves to the hub as `owner/model`. Returns: its address. Raises: RunError."""
        return push_model(self._require_source(), name, license=license, private=private, revision=revision)

    def _require_source(self) -> Path:
        if self.source is None:
            raise RunError("This predictor was made of a network, not read from a folder. Save that: save_network.")
        return self.source


def save_model(source: Path, folder: Path, *, license: str | None = None) -> Path:
    """Copy the network of a run folder (or of a model folder) into a new folder, with its model card.

    The files of the weights are equal. A model folder without a run keeps its card. license: of the weights, by the
    hub's name (`cc-by-4.0`), or None.
    Raises: RunError if there is no network, the license is no name of the hub, or `folder` exists.
    """
    if license is not None and not _LICENSE.fullmatch(license):
        raise RunError(f"{license!r} is no license name of the hub. Give one such as cc-by-4.0 or apache-2.0.")
    run = _find_run(source)
    model = run.model_folder if run else source
    if missing := [name for name in MODEL_FILES if not (model / name).is_file()]:
        raise RunError(f"{source} has no finished network: {missing[0]} is missing. Train it first, or copy it again.")
    if run is None and license is not None and (model / CARD_FILE).is_file():
        raise RunError(
            f"{source} has no run, so its card is copied unchanged. Write the license into {model / CARD_FILE}."
        )
    with output_errors(folder, RunError), new_folder(folder) as temporary:
        for name in MODEL_FILES:
            shutil.copyfile(model / name, temporary / name)
        for file in (path for name in OPTIONAL_FILES if (path := (run.path if run else model) / name).is_file()):
            shutil.copyfile(file, temporary / file.name)
        if run is None and (model / CARD_FILE).is_file():
            shutil.copyfile(model / CARD_FILE, temporary / CARD_FILE)
        else:
            (temporary / CARD_FILE).write_text(render_model_card(model, run, license), encoding="utf-8")
    return folder


def push_model(
    source: Path, name: str, *, license: str | None = None, private: bool | None = None, revision: str | None = None
) -> str:
    """Upload a model to the hub as `name` (`owner/model`), with the files of `save_model`. Returns: its URL.

    private: visibility of a new repository; None: the owner's default. revision: branch to write to.
    Raises: RunError without a token, a network connection or the right to write.
    """
    import huggingface_hub

    if huggingface_hub.get_token() is None:
        raise RunError(
            "The hub needs a token to upload, and there is no token. Log in: hf auth login, or set HF_TOKEN."
        )
    api = huggingface_hub.HfApi()
    with tempfile.TemporaryDirectory() as temporary:
        folder = save_model(source, Path(temporary) / "model", license=license)
        with hub_errors(name):
            address = api.create_repo(name, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=name, folder_path=folder, revision=revision, commit_message="Upload a model of mnsa"
            )
    return str(address)


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


def _find_run(source: Path) -> RunFolder | None:
    """Find the run of a run folder or of its model/ folder."""
    for path in (source, source.absolute().parent):
        run = RunFolder(path)
        if (
            run.model_folder.absolute() in {source.absolute(), source.absolute() / "model"}
            and run.provenance_file.is_file()
        ):
            return run
    return None
