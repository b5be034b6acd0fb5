"""Save a model to share it: weights, config and model card in a new folder, or on the hub."""

import re
import shutil
import tempfile
from pathlib import Path

from mnsa.errors import RunError, output_errors
from mnsa.hub.download import CARD_FILE, MODEL_FILES, hub_errors
from mnsa.hub.model_card import render_model_card
from mnsa.io import new_folder
from mnsa.run_folder import RunFolder

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")


def save_model(source: Path, folder: Path, *, license: str | None = None) -> Path:
    """Copy the network of a run folder (or of a model's folder) into a new folder, with its model card.

    The weights are the run's own, to the bit. A model's folder without its run keeps the card it has, as nothing
    more is known of it. license: of the weights, as the hub names it (`cc-by-4.0`); None: nobody named one.
    Raises: RunError when there is no network or the license is no name; also when `folder` exists.
    """
    if license is not None and not _LICENSE.fullmatch(license):
        raise RunError(f"{license!r} is no license as the hub names them. Give one such as cc-by-4.0 or apache-2.0.")
    run = _find_run(source)
    model = run.model_folder if run else source
    if missing := [name for name in MODEL_FILES if not (model / name).is_file()]:
        raise RunError(f"{source} has no finished network: {missing[0]} is missing. Train it first, or copy it again.")
    if run is None and license is not None and (model / CARD_FILE).is_file():
        raise RunError(f"{source} has no run, so its card stays as it is. Write the license into {model / CARD_FILE}.")
    with output_errors(folder, RunError), new_folder(folder) as unfinished:
        for name in MODEL_FILES:
            shutil.copyfile(model / name, unfinished / name)
        if run is None and (model / CARD_FILE).is_file():
            shutil.copyfile(model / CARD_FILE, unfinished / CARD_FILE)
        else:
            (unfinished / CARD_FILE).write_text(render_model_card(model, run, license), encoding="utf-8")
    return folder


def push_model(
    source: Path, name: str, *, license: str | None = None, private: bool | None = None, revision: str | None = None
) -> str:
    """Save a model as `save_model` does and put it on the hub as `name`, `owner/model`; its address there.

    private: whether others may see it when it is new; None leaves that to the owner's settings. revision: branch to
    write to. Raises: RunError when there is no token, no network or no right to write there.
    """
    import huggingface_hub

    if huggingface_hub.get_token() is None:
        raise RunError(
            "The hub wants to know who pushes, and there is no token. Log in: hf auth login, or set HF_TOKEN."
        )
    api = huggingface_hub.HfApi()
    with tempfile.TemporaryDirectory() as scratch:
        folder = save_model(source, Path(scratch) / "model", license=license)
        with hub_errors(name):
            address = api.create_repo(name, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=name, folder_path=folder, revision=revision, commit_message="Put a model of mnsa here"
            )
    return str(address)


def _find_run(source: Path) -> RunFolder | None:
    """The run that a run folder or its model/ folder belongs to."""
    for path in (source, source.absolute().parent):
        run = RunFolder(path)
        if (
            run.model_folder.absolute() in {source.absolute(), source.absolute() / "model"}
            and run.provenance_file.is_file()
        ):
            return run
    return None
