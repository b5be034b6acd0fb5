"""A model is a folder or a name on the hub. A saved one is the run's network, to the bit. No test asks a network."""

import shutil
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
import torch
from httpx2 import Response
from huggingface_hub import errors

import mnsa
from mnsa.errors import RunError
from mnsa.hub.repository import find_model_folder, hub_name, push_model, save_model
from mnsa.inference.predictor import Predictor
from mnsa.model_folder import load_network
from mnsa.run_folder import RunFolder
from mnsa.workflows.fit_postprocessing import fit_postprocessing
from narrowing import some

NAMES = {"config.json", "model.safetensors", "README.md"}


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
    files = ["config.json", "model.safetensors", "postprocessing.json", "README.md"]
    assert hub.asked == [("owner/leaves", {"revision": "v1", "allow_patterns": files})]


def test_model_of_the_hub_predicts_like_its_run(hub: Any, finished: RunFolder, dataset: Path) -> None:
    leaf = sorted((dataset / "images").iterdir())[0]
    ours, theirs = (mnsa.load(source).predict(leaf) for source in (finished.path, "owner/leaves"))
    assert (some(ours.class_probs) == some(theirs.class_probs)).all()
    assert (some(ours.mask) == some(theirs.mask)).all()


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
    after = load_network(some(predictor.source))[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> tuple[list[tuple[str, Any, dict[str, Any]]], dict[Any, Any]]:
    """What a hub without a network was given: calls, and the files of the upload by name."""
    calls, files = [], {}

    class Api:
        def create_repo(self, name: str, **options: Any) -> str:
            calls.append(("create", name, options))
            return f"https://hub.invalid/{name}"

        def upload_folder(self, *, repo_id: Any, folder_path: Any, revision: Any, commit_message: Any) -> None:
            calls.append(("upload", repo_id, revision))
            files.update({path.name: path.read_bytes() for path in folder_path.iterdir()})

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "a token")
    return calls, files


def test_predictor_saves_the_exact_weights_of_its_run(
    finished: RunFolder, predictor: Predictor, tmp_path: Path
) -> None:
    saved = predictor.save_pretrained(tmp_path / "model")
    assert {path.name for path in saved.iterdir()} == NAMES
    for name in NAMES - {"README.md"}:
        assert (saved / name).read_bytes() == (finished.model_folder / name).read_bytes()
    assert mnsa.load(saved).classes == predictor.classes


@pytest.mark.parametrize("part", ["", "model"])
def test_run_and_its_model_folder_get_the_same_card(finished: RunFolder, tmp_path: Path, part: str) -> None:
    cards = [
        save_model(finished.path / end, tmp_path / f"to{end}") / "README.md" for end in ("", part)[: 1 + bool(part)]
    ]
    assert len({card.read_text() for card in cards}) == 1
    assert "cultivar_01" in cards[0].read_text()


def test_model_without_a_run_keeps_its_card(predictor: Predictor, tmp_path: Path) -> None:
    saved = predictor.save_pretrained(tmp_path / "model")
    (saved / "README.md").write_text("my own words")
    again = mnsa.load(saved).save_pretrained(tmp_path / "again")
    assert (again / "README.md").read_text() == "my own words"
    with pytest.raises(RunError, match=r"its card is copied unchanged\. Write the license into"):
        save_model(again, tmp_path / "third", license="mit")


def test_existing_folder_is_not_changed(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(RunError, match="exists already and is not changed"):
        predictor.save_pretrained(tmp_path / "model")
    assert list((tmp_path / "model").iterdir()) == []


@pytest.mark.parametrize("license", ["", "MIT", "mit\ntags: x", "a: b"])
def test_invalid_license_name_is_refused(finished: RunFolder, tmp_path: Path, license: str) -> None:
    with pytest.raises(RunError, match="is no license name of the hub"):
        save_model(finished.path, tmp_path / "model", license=license)
    assert not (tmp_path / "model").exists()


def test_unfinished_run_is_refused(own_run: RunFolder, tmp_path: Path) -> None:
    shutil.rmtree(own_run.model_folder)
    with pytest.raises(RunError, match=r"no finished network: config\.json is missing"):
        save_model(own_run.path, tmp_path / "model")


def test_predictor_without_a_folder_can_not_be_saved(finished: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="made of a network, not read from a folder"):
        Predictor(*load_network(finished.path)).save_pretrained(tmp_path / "model")


def test_uploaded_files_are_the_saved_files(predictor: Predictor, pushed: Any, tmp_path: Path) -> None:
    calls, files = pushed
    address = predictor.push_to_hub("owner/leaves", license="cc-by-4.0", private=True, revision="v1")
    assert address == "https://hub.invalid/owner/leaves"
    assert calls == [("create", "owner/leaves", {"private": True, "exist_ok": True}), ("upload", "owner/leaves", "v1")]
    saved = predictor.save_pretrained(tmp_path / "model", license="cc-by-4.0")
    assert files == {path.name: path.read_bytes() for path in saved.iterdir()}


def test_nothing_is_uploaded_without_a_token(finished: RunFolder, pushed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(RunError, match=r"there is no token\. Log in: hf auth login, or set HF_TOKEN"):
        push_model(finished.path, "owner/leaves")
    assert pushed == ([], {})


def test_a_saved_model_makes_masks_as_its_run(own_run: RunFolder, tmp_path: Path) -> None:
    fit_postprocessing(own_run.path)
    for source in (own_run.path, own_run.model_folder):
        saved = save_model(source, tmp_path / f"of {source.name}")
        assert (saved / "postprocessing.json").read_bytes() == (own_run.path / "postprocessing.json").read_bytes()
        assert mnsa.load(saved).mask_maker.postprocessing == mnsa.load(own_run.path).mask_maker.postprocessing
    again = save_model(tmp_path / "of run", tmp_path / "again")
    assert (again / "postprocessing.json").is_file()
