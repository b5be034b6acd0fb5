"""Save a model to share it: weights, config and model card in a new folder, or on the hub."""

import re
import shutil
import tempfile
from pathlib import Path

from mnsa.errors import RunError, output_errors
from mnsa.hub.model_card import render_model_card
from mnsa.hub.repository import CARD_FILE, MODEL_FILES, hub_errors
from mnsa.io import new_folder
from mnsa.run_folder import RunFolder

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")


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
