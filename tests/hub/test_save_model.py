"""What is saved is the run's own network, to the bit, in a folder that appears whole; pushing needs a token."""

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

import mnsa
from mnsa.errors import RunError
from mnsa.hub.save import push_model, save_model
from mnsa.inference.predictor import Predictor
from mnsa.model_folder import load_network
from mnsa.run_folder import RunFolder

NAMES = {"config.json", "model.safetensors", "README.md"}


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
