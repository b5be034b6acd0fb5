"""A study of one training: trained once, scored to the end, continued after an interruption, selected and extracted."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mnsa.config import Config, load_config
from mnsa.data.manifest import read_manifest
from mnsa.errors import ConfigError, MnsaError, RunError, StudyError
from mnsa.inference.predictor import load
from mnsa.model_folder import load_network
from mnsa.search.extraction import extract_slice
from mnsa.search.slice_scores import SliceScorer
from mnsa.search.study import SearchStudy, join_study
from mnsa.search.supernet import (
    SupernetStudy,
    create_supernet_study,
    open_supernet_study,
    run_supernet,
    select_slice,
)
from mnsa.search.supernet_module import SupernetModule
from mnsa.search.worker import SearchInterruptedError
from mnsa.study_folder import read_study_record
from mnsa.training.fit import resume
from narrowing import some

SECOND = {"name": "second", "tasks": ("segmentation",), "trainable": ("enhancer", "decoder"), "epochs": 2}
SPACE = {"method": "supernet", "ratios": (0.125,), "skip_ratios": (0.0, 0.5), "decoder_widths": ((4,) * 5, (8,) * 5)}


@pytest.fixture
def new_supernet(make_config: Callable[..., Config], dataset: Path, tmp_path: Path) -> Callable[..., SupernetStudy]:
    def make(name: str = "study", *, rule: str = "best", slices: int | None = None, **search: Any) -> SupernetStudy:
        config = make_config(SECOND, search={**SPACE, **search})
        return create_supernet_study(config, dataset, tmp_path / name, slices=slices, rule=rule)

    return make


@pytest.mark.slow
def test_a_study_is_interrupted_and_goes_on_to_the_same_weights_and_scores(
    new_supernet: Callable[..., SupernetStudy], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dataset: Path
) -> None:
    whole, broken = new_supernet("whole"), new_supernet("broken")
    run_supernet(whole)
    step, steps = SupernetModule.compute_loss, []

    def interrupted(module: SupernetModule, batch: Any) -> Any:
        steps.append(0)
        if len(steps) == 5:  # of six steps in two epochs
            raise KeyboardInterrupt
        return step(module, batch)

    monkeypatch.setattr(SupernetModule, "compute_loss", interrupted)
    with pytest.raises(SearchInterruptedError, match=f"mnsa search --join {broken.folder.path}"):
        run_supernet(broken)
    monkeypatch.undo()
    with pytest.raises(RunError, match="belongs to a search"):
        resume(broken.folder.supernet_folder)
    score, scored = SliceScorer.score, []

    def interrupted_score(scorer: SliceScorer, *arguments: Any) -> Any:
        scored.append(0)
        if len(scored) == 3:
            raise KeyboardInterrupt
        return score(scorer, *arguments)

    monkeypatch.setattr(SliceScorer, "score", interrupted_score)
    with pytest.raises(SearchInterruptedError):
        run_supernet(open_supernet_study(broken.folder.path))
    monkeypatch.undo()
    assert len(read_study_record(broken.folder).trials) == 2
    run_supernet(open_supernet_study(broken.folder.path))
    first, second = (load_file(s.folder.supernet_folder / "model" / "model.safetensors") for s in (whole, broken))
    for name, value in first.items():
        assert torch.equal(second[name], value), name
    records = [[replace(t, seconds=None) for t in read_study_record(s.folder).trials] for s in (whole, broken)]
    assert records[0] == records[1]
    assert len(records[0]) == 4
    _select_and_extract(whole, tmp_path, dataset)


def _select_and_extract(study: SupernetStudy, tmp_path: Path, dataset: Path) -> None:
    """The second half of the test above, which has the trained study."""
    best = select_slice(study)
    assert best.trial.iou == max(some(trial.iou) for trial in best.study.trials)
    assert load_config(study.folder.best_file).model.skip_ratio == best.trial.point["skip_ratio"]
    cheapest = min(best.study.trials, key=lambda trial: some(trial.macs))
    limit = f"under={some(cheapest.macs) / 1e9}"
    taken = extract_slice(open_supernet_study(study.folder.path), tmp_path / "run", limit)
    assert taken == cheapest
    network, spec = load_network(tmp_path / "run")
    assert spec.model.skip_ratio == cheapest.point["skip_ratio"]
    assert study.make_scorer().score_network(network) == cheapest.iou
    leaf = read_manifest(dataset).image_path(read_manifest(dataset).rows[0])
    assert some(load(tmp_path / "run").predict(leaf).mask).shape == (64, 64)
    with pytest.raises(RunError, match="exists and was not changed"):
        extract_slice(study, tmp_path / "run")
    with pytest.raises(StudyError, match=r"No complete trial has 0\.001 GMACs or fewer"):
        extract_slice(study, tmp_path / "none", "under=0.001")
    assert not (tmp_path / "none").exists()
    retrained = extract_slice(study, tmp_path / "retrained", limit, retrain=True)
    assert retrained in read_study_record(study.folder).trials
    assert retrained.retrained_iou == study.make_scorer().score_network(load_network(tmp_path / "retrained")[0])
    start = load_config(tmp_path / "retrained" / "config.toml").train.init_from
    assert load_network(Path(start))[1].model == spec.model


@pytest.mark.slow
def test_a_study_is_of_one_method_only(
    new_supernet: Callable[..., SupernetStudy], new_study: Callable[..., SearchStudy]
) -> None:
    trials, supernet = new_study(name="trials"), new_supernet("supernet")
    with pytest.raises(StudyError, match=r"begun with search\.method = 'trials', so it can't be used with 'supernet'"):
        open_supernet_study(trials.folder.path)
    with pytest.raises(StudyError, match=r"begun with search\.method = 'supernet', so it can't be used with 'trials'"):
        join_study(supernet.folder.path)


def test_the_number_of_slices_can_be_raised_but_not_lowered(new_supernet: Callable[..., SupernetStudy]) -> None:
    study = new_supernet(slices=3)
    assert open_supernet_study(study.folder.path, slices=4).budget == 4
    with pytest.raises(StudyError, match=r"a budget of 3 slices; --trials 2 can't lower it"):
        open_supernet_study(study.folder.path, slices=2)
    with pytest.raises(StudyError, match="no scored slice yet"):
        extract_slice(study, study.folder.path.parent / "run")


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"skip_ratios": (), "decoder_widths": ()}, "has one network, so there is nothing to search"),
        ({"rule": "under=0.001"}, r"the smallest network of the space has 0\.0\d+ GMACs"),
        ({"lr": (0.001, 0.1)}, r"search\.lr can't be searched with search\.method = 'supernet'"),
        ({"attentions": ("none", "mean")}, r"search\.attentions can't be searched"),
    ],
)
def test_what_can_not_be_searched_leaves_no_study(
    new_supernet: Callable[..., SupernetStudy], tmp_path: Path, search: dict[str, Any], message: str
) -> None:
    with pytest.raises(MnsaError, match=message):
        new_supernet(**search)
    assert not (tmp_path / "study").exists()


def test_a_config_without_an_enhancer_has_no_widths(
    make_config: Callable[..., Config], dataset: Path, tmp_path: Path
) -> None:
    stage = {**SECOND, "trainable": ("decoder",)}
    config = make_config(stage, model={"decoder": "unet"}, search=SPACE)
    with pytest.raises(ConfigError, match=r"model\.decoder = 'unet' has none"):
        create_supernet_study(config, dataset, tmp_path / "study")
