"""Boosted trees give logits of XGBoost's probabilities. Validation chooses them; it teaches them nothing."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xgboost
from xgboost import Booster

from mnsa.errors import ConfigError, ModelError, RunError
from mnsa.trees.boosted_trees import (
    MAX_TREES,
    PATIENCE,
    BoostedTrees,
    LabeledFeatures,
    TreesSpec,
    TuningResult,
    load_trees,
    max_rounds,
    require_trees_extra,
    save_trees,
    tune_trees,
)

NAMES = ("a", "b", "c", "d")

FIXED = {"objective": "multi:softprob", "num_class": 4, "tree_method": "hist", "max_bin": 16, "seed": 1, "nthread": 1}


def test_the_softmax_of_their_logits_is_xgboosts_own_probability(
    tuned: TuningResult, draw: Callable[..., LabeledFeatures]
) -> None:
    features = draw(3).features
    class_logits = BoostedTrees(tuned.booster)(torch.from_numpy(features))
    assert (class_logits.shape, class_logits.dtype) == ((60, 4), torch.float32)
    expected = tuned.booster.predict(xgboost.DMatrix(features))
    np.testing.assert_allclose(class_logits.softmax(1).numpy(), expected, atol=1e-6)


def test_an_image_is_answered_alone_as_among_others(tuned: TuningResult, draw: Callable[..., LabeledFeatures]) -> None:
    trees, features = BoostedTrees(tuned.booster), torch.from_numpy(draw(3).features)
    assert torch.equal(trees(features)[7:8], trees(features[7:8]))


@pytest.mark.parametrize("library", ["xgboost", "optuna"])
def test_a_missing_library_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    require_trees_extra()
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModelError, match=rf"need {library}, .*pip install -e '\.\[trees\]'"):
        require_trees_extra()


@pytest.fixture
def saved(tuned: TuningResult, tmp_path: Path) -> tuple[Path, TreesSpec]:
    """The folder of saved trees, and their card."""
    card = TreesSpec(
        classes=NAMES, features=12, dataset="leaves", dataset_digest="0", images={"train": 60, "val": 32},
        unseen_classes=(), seed=1, trials=3, parameters=tuned.parameters, rounds=tuned.booster.num_boosted_rounds(),
        validation={head: {"accuracy": 1.0, "log_loss": 0.1} for head in ("network", "trees")}, versions={"mnsa": "1"},
    )  # fmt: skip
    folder = tmp_path / "run" / "trees"
    folder.mkdir(parents=True)
    return folder, save_trees(folder, tuned.booster, card)


def test_loaded_trees_answer_the_same_bit_for_bit(
    saved: tuple[Path, TreesSpec], tuned: TuningResult, draw: Callable[..., LabeledFeatures]
) -> None:
    folder, _ = saved
    features = torch.from_numpy(draw(3).features)
    loaded = load_trees(folder.parent, NAMES, 12, threads=1)
    assert torch.equal(loaded(features), BoostedTrees(tuned.booster)(features))


def test_the_folder_holds_trees_and_card_and_no_pickle(saved: tuple[Path, TreesSpec]) -> None:
    folder, card = saved
    assert {path.name for path in folder.iterdir()} == {"model.ubj", "trees.json"}
    assert (folder / "model.ubj").read_bytes().startswith(b"{L")  # UBJSON: an object, then the length of its first key
    assert TreesSpec.from_dict(json.loads((folder / "trees.json").read_text())) == card


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.ubj", lambda data: data[: len(data) // 2]),
        ("model.ubj", lambda data: b""),
        ("model.ubj", lambda data: data.replace(b"softprob", b"softwood")),
        ("trees.json", lambda data: data[: len(data) // 2]),
        ("trees.json", lambda data: b"[]"),
        ("trees.json", lambda data: b"\xff\xfe\x00"),
        ("trees.json", lambda data: data.replace(b'"features"', b'"feathers"')),
    ],
)
def test_damaged_trees_are_refused(saved: tuple[Path, TreesSpec], name: str, damage: Callable[..., Any]) -> None:
    file = saved[0] / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(RunError, match=r"trees is damaged: .*Remove it and fit new trees: mnsa fit-trees"):
        load_trees(saved[0].parent, NAMES, 12, threads=1)


def test_a_file_that_xgboost_cannot_read_is_refused(saved: tuple[Path, TreesSpec]) -> None:
    """As one of a later XGBoost would be: the digest is right, the text is not."""
    folder, card = saved
    (folder / "model.ubj").write_bytes(b"{}")
    digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # sha256 of {}
    (folder / "trees.json").write_text(json.dumps(json.loads(card.to_json()) | {"sha256": digest}))
    with pytest.raises(RunError, match="trees is damaged"):
        load_trees(folder.parent, NAMES, 12, threads=1)


@pytest.mark.parametrize("name", ["model.ubj", "trees.json"])
def test_a_missing_file_is_named(saved: tuple[Path, TreesSpec], name: str) -> None:
    (saved[0] / name).unlink()
    with pytest.raises(RunError, match=rf"is damaged: .*{name}"):
        load_trees(saved[0].parent, NAMES, 12, threads=1)


@pytest.mark.parametrize(("classes", "features"), [(NAMES[::-1], 12), (NAMES, 13)])
def test_the_trees_of_another_network_are_refused(
    saved: tuple[Path, TreesSpec], classes: tuple[str, str, str, str], features: int
) -> None:
    with pytest.raises(RunError, match="belongs to another network"):
        load_trees(saved[0].parent, classes, features, threads=1)


def test_a_run_without_trees_names_the_command_that_fits_them(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=rf"has no trees. Fit them: mnsa fit-trees {tmp_path}"):
        load_trees(tmp_path, NAMES, 12, threads=1)


def test_trees_without_the_extra_name_it(saved: tuple[Path, TreesSpec], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnsa.trees.boosted_trees.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"need xgboost and optuna, .*\[trees\]'"):
        load_trees(saved[0].parent, NAMES, 12, threads=1)


def probabilities(booster: Booster, features: np.ndarray) -> np.ndarray:
    return booster.predict(xgboost.DMatrix(features, nthread=1))


def test_trees_tell_apart_what_lies_apart(tuned: TuningResult, draw: Callable[..., LabeledFeatures]) -> None:
    unseen = draw(3, each=50)
    right = probabilities(tuned.booster, unseen.features).argmax(1) == unseen.labels
    assert right.mean() > 0.75  # chance is 0.25


def test_the_log_loss_is_that_of_the_validation_labels(
    tuned: TuningResult, draw: Callable[..., LabeledFeatures]
) -> None:
    val = draw(2, each=8)
    probs = probabilities(tuned.booster, val.features).astype(float)
    assert tuned.log_loss == pytest.approx(-np.log(probs[np.arange(32), val.labels]).mean(), abs=1e-5)


def test_the_best_trial_is_kept(draw: Callable[..., LabeledFeatures]) -> None:
    said = []
    best = tune_trees(
        draw(1), draw(2), 4, trials=4, seed=2, threads=1, progress=lambda trial, loss: said.append((trial, loss))
    )
    assert [trial for trial, _ in said] == [1, 2, 3, 4]
    assert best.log_loss == min(loss for _, loss in said) < max(loss for _, loss in said)


def test_validation_chooses_and_teaches_nothing(tuned: TuningResult, draw: Callable[..., LabeledFeatures]) -> None:
    """The same parameters and rounds, fitted where no validation data are at hand, give the same trees."""
    train, rounds = draw(1), tuned.booster.num_boosted_rounds()
    alone = xgboost.train(tuned.parameters | FIXED, xgboost.DMatrix(train.features, train.labels, nthread=1), rounds)
    unseen = draw(3).features
    np.testing.assert_array_equal(probabilities(alone, unseen), probabilities(tuned.booster, unseen))


def test_a_fit_ends_when_validation_gets_no_better(draw: Callable[..., LabeledFeatures]) -> None:
    """Labels without meaning: more rounds only learn them by heart."""
    train, val = draw(1), draw(2)
    shuffled = np.random.default_rng(0).permutation(train.labels)
    tuned = tune_trees(train._replace(labels=shuffled), val, 4, trials=1, seed=1, threads=1)
    assert tuned.booster.num_boosted_rounds() < max_rounds(4) - PATIENCE


def test_a_seed_says_it_all(tuned: TuningResult, draw: Callable[..., LabeledFeatures]) -> None:
    again, other = (tune_trees(draw(1), draw(2, each=8), 4, trials=3, seed=seed, threads=1) for seed in (1, 2))
    assert again.booster.save_raw() == tuned.booster.save_raw()
    assert again[1:] == tuned[1:]
    assert other.parameters != tuned.parameters


def test_a_class_without_a_training_image_is_never_answered(draw: Callable[..., LabeledFeatures]) -> None:
    seen = tune_trees(draw(1, labels=(0, 1, 3)), draw(2, labels=(0, 1, 3)), 4, trials=2, seed=1, threads=1)
    probs = probabilities(seen.booster, draw(3).features)
    assert probs.shape == (60, 4)
    assert 2 not in probs.argmax(1)
    assert set(probs.argmax(1)) == {0, 1, 3}


@pytest.mark.parametrize(("classes", "rounds"), [(2, 300), (80, 250), (200, 100), (1110, 18), (1938, 10), (5000, 10)])
def test_many_classes_are_given_fewer_rounds(classes: int, rounds: int) -> None:
    assert max_rounds(classes) == rounds
    assert classes * rounds <= MAX_TREES or rounds == 10


def test_less_than_a_trial_is_refused(draw: Callable[..., LabeledFeatures]) -> None:
    with pytest.raises(ConfigError, match="trials is 0"):
        tune_trees(draw(1), draw(2), 4, trials=0, seed=1, threads=1)
