"""What is saved is the run's own network, to the bit, in a folder that appears whole; pushing needs a token."""

import shutil

import huggingface_hub
import pytest

import mnsa
from mnsa.errors import RunError
from mnsa.hub.save import push_model, save_model
from mnsa.inference.predictor import Predictor
from mnsa.model_folder import load_network

NAMES = {"config.json", "model.safetensors", "README.md"}


@pytest.fixture
def pushed(monkeypatch):
    """What a hub without a network was given: calls, and the files of the upload by name."""
    calls, files = [], {}

    class Api:
        def create_repo(self, name, **options):
            calls.append(("create", name, options))
            return f"https://hub.invalid/{name}"

        def upload_folder(self, *, repo_id, folder_path, revision, commit_message):
            calls.append(("upload", repo_id, revision))
            files.update({path.name: path.read_bytes() for path in folder_path.iterdir()})

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "a token")
    return calls, files


def test_a_used_predictor_saves_the_weights_of_its_run_to_the_bit(finished, predictor, tmp_path):
    saved = predictor.save_pretrained(tmp_path / "model")
    assert {path.name for path in saved.iterdir()} == NAMES
    for name in NAMES - {"README.md"}:
        assert (saved / name).read_bytes() == (finished.model_folder / name).read_bytes()
    assert mnsa.load(saved).classes == predictor.classes


@pytest.mark.parametrize("part", ["", "model"])
def test_a_run_and_its_model_folder_are_saved_with_the_same_card(finished, tmp_path, part):
    cards = [
        save_model(finished.path / end, tmp_path / f"to{end}") / "README.md" for end in ("", part)[: 1 + bool(part)]
    ]
    assert len({card.read_text() for card in cards}) == 1
    assert "cultivar_01" in cards[0].read_text()


def test_a_model_without_its_run_keeps_its_card(predictor, tmp_path):
    saved = predictor.save_pretrained(tmp_path / "model")
    (saved / "README.md").write_text("my own words")
    again = mnsa.load(saved).save_pretrained(tmp_path / "again")
    assert (again / "README.md").read_text() == "my own words"
    with pytest.raises(RunError, match=r"its card stays as it is\. Write the license into"):
        save_model(again, tmp_path / "third", license="mit")


def test_what_exists_is_left_as_it_is(predictor, tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(RunError, match="exists already and is not changed"):
        predictor.save_pretrained(tmp_path / "model")
    assert list((tmp_path / "model").iterdir()) == []


@pytest.mark.parametrize("license", ["", "MIT", "mit\ntags: x", "a: b"])
def test_a_licence_that_is_no_name_is_refused(finished, tmp_path, license):
    with pytest.raises(RunError, match="is no license as the hub names them"):
        save_model(finished.path, tmp_path / "model", license=license)
    assert not (tmp_path / "model").exists()


def test_a_run_that_has_not_ended_is_refused(own_run, tmp_path):
    shutil.rmtree(own_run.model_folder)
    with pytest.raises(RunError, match=r"no finished network: config\.json is missing"):
        save_model(own_run.path, tmp_path / "model")


def test_a_predictor_made_by_hand_has_no_files_to_save(finished, tmp_path):
    with pytest.raises(RunError, match="made of a network, not read from a folder"):
        Predictor(*load_network(finished.path)).save_pretrained(tmp_path / "model")


def test_what_is_pushed_is_what_would_be_saved(predictor, pushed, tmp_path):
    calls, files = pushed
    address = predictor.push_to_hub("owner/leaves", license="cc-by-4.0", private=True, revision="v1")
    assert address == "https://hub.invalid/owner/leaves"
    assert calls == [("create", "owner/leaves", {"private": True, "exist_ok": True}), ("upload", "owner/leaves", "v1")]
    saved = predictor.save_pretrained(tmp_path / "model", license="cc-by-4.0")
    assert files == {path.name: path.read_bytes() for path in saved.iterdir()}


def test_without_a_token_nothing_is_sent(finished, pushed, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(RunError, match=r"there is no token\. Log in: hf auth login, or set HF_TOKEN"):
        push_model(finished.path, "owner/leaves")
    assert pushed == ([], {})
