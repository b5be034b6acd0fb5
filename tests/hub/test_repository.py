"""A model is a folder here or a name on the hub; the hub's refusals are paragraphs. No test asks a network."""

from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from httpx2 import Response
from huggingface_hub import errors

import mnsa
from mnsa.errors import RunError
from mnsa.hub.repository import find_model_folder, hub_name
from mnsa.inference.predictor import Predictor
from mnsa.model_folder import load_network
from mnsa.run_folder import RunFolder


def answer_of(status: int) -> Response:
    return httpx2.Response(status, request=httpx2.Request("GET", "https://hub.invalid"))


@pytest.mark.parametrize("name", ["owner/model", "Owner-1/leaf.v2_small"])
def test_owner_and_model_is_a_name_on_the_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub_name(name) == name


@pytest.mark.parametrize(
    "source", [Path("owner/model"), "model", "/a/b", "./model", "../model", "a/b/c", "a\\b", "a/", ""]
)
def test_other_sources_are_folders(source: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub_name(source) is None
    assert find_model_folder(source) == Path(source)


def test_mistyped_run_folder_downloads_nothing(hub: Any, tmp_path: Path) -> None:
    (tmp_path / "runs" / "first").mkdir(parents=True)
    with pytest.raises(RunError, match="runs/frist has no finished network"):
        mnsa.load("runs/frist")
    assert hub.asked == []


def test_only_weights_config_and_card_are_downloaded_once(hub: Any, finished: RunFolder) -> None:
    predictor = Predictor.from_pretrained("owner/leaves", revision="v1")
    assert predictor.classes == mnsa.load(finished.path).classes
    files = ["config.json", "model.safetensors", "README.md"]
    assert hub.asked == [("owner/leaves", {"revision": "v1", "allow_patterns": files})]


def test_model_of_the_hub_predicts_like_its_run(hub: Any, finished: RunFolder, dataset: Path) -> None:
    leaf = sorted((dataset / "images").iterdir())[0]
    ours, theirs = (mnsa.load(source).predict(leaf) for source in (finished.path, "owner/leaves"))
    assert (ours.class_probs == theirs.class_probs).all()
    assert (ours.mask == theirs.mask).all()


def test_a_folder_has_no_revision(finished: RunFolder) -> None:
    with pytest.raises(RunError, match="is a local folder, so it has no revision 'v1'"):
        mnsa.load(finished.path, revision="v1")


def test_a_model_of_another_library_is_refused_by_its_missing_files(hub: Any, tmp_path: Path) -> None:
    hub.gives = tmp_path / "snapshot"
    hub.gives.mkdir()
    (hub.gives / "config.json").write_text("{}")
    (hub.gives / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(RunError, match=r"owner/other on the hub is no model of mnsa: it has no model\.safetensors"):
        mnsa.load("owner/other")


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (
            errors.RepositoryNotFoundError("no", response=answer_of(404)),
            "no public model owner/leaves on the hub",
        ),
        (errors.GatedRepoError("no", response=answer_of(403)), "is limited. Ask for it"),
        (errors.RevisionNotFoundError("no", response=answer_of(404)), "has no such revision"),
        (errors.HfHubHTTPError("no", response=answer_of(401)), "denies access to owner/leaves. Log in"),
        (errors.HfHubHTTPError("503 busy", response=answer_of(503)), "can't be reached: 503 busy. Check the network"),
        (errors.LocalEntryNotFoundError("not cached\nand more"), "can't be reached: not cached. Check the network"),
        (errors.OfflineModeIsEnabled("offline mode"), "can't be reached: offline mode. Check the network"),
        (httpx2.ConnectError("no route"), "can't be reached: no route. Check the network"),
        (errors.HFValidationError("cannot end in .git"), "is no valid name on the hub: cannot end in .git. Expected"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_of_the_hub_say_what_to_do(hub: Any, refusal: Any, words: str) -> None:
    hub.gives = refusal
    with pytest.raises(RunError) as told:
        mnsa.load("owner/leaves")
    assert words in str(told.value)
    assert "owner/leaves" in str(told.value)


def test_downloaded_weights_keep_their_batch_norms(hub: Any, finished: RunFolder) -> None:
    before = load_network(finished.path)[0].state_dict()
    predictor = mnsa.load("owner/leaves")
    assert predictor.network.state_dict().keys() != before.keys()
    after = load_network(predictor.source)[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
