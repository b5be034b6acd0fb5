"""A slice of a supernet as a run: with the weights that it has, or trained further."""

import shutil
from dataclasses import replace
from pathlib import Path

from mnsa.config import Config
from mnsa.errors import RunError, StudyError
from mnsa.model.network import build_network
from mnsa.model_folder import load_network, save_network
from mnsa.run_folder import ModelSpec, create_run_folder, dataset_provenance
from mnsa.search.selection import parse_rule, select_trial
from mnsa.search.slice_scores import SliceScorer
from mnsa.search.space import apply_point, split_stages
from mnsa.search.supernet import SupernetStudy
from mnsa.study_folder import TrialRecord
from mnsa.training.fit import train_validated


def extract_slice(study: SupernetStudy, out: Path, rule: str | None = None, *, retrain: bool = False) -> TrialRecord:
    """Write the selected slice as a new run folder.

    rule: `best`, `knee` or `under=GMACS`; None: the study's own. retrain: train the slice further, by the stages of the
    config that train masks; its validation IoU is recorded in trials.json.
    Returns: the slice's record. Raises: StudyError when no slice was scored, or none has so few multiply-adds;
    RunError when `out` exists; the errors of training.
    """
    if out.exists():
        raise RunError(f"{out} exists and was not changed. Choose another --out.")
    if rule is not None:
        parse_rule(rule)
    record = study.read_record()
    if not record.trials:
        raise StudyError(
            f"{study.folder.path} has no scored slice yet. Continue it: mnsa search --join {study.folder.path}"
        )
    trial = select_trial(record.trials, rule or record.selection_rule, record.cost)
    scorer, config = study.make_scorer(), apply_point(study.config, trial.point)
    if not retrain:
        _write_run(study, scorer, config, trial, out)
        return trial
    start = study.folder.trial_folder(trial.number)
    if not start.exists():
        _write_run(study, scorer, config, trial, start)
    train = config.train.model_copy(update={"init_from": str(start.resolve())})
    own = config.model_copy(update={"train": train, "stages": split_stages(config)[1]})
    train_validated(own, study.manifest, study.folder.data_folder, out)
    retrained = replace(trial, retrained_iou=scorer.score_network(load_network(out)[0]))
    record = study.read_record()
    study.write_record(record, [retrained if one.number == trial.number else one for one in record.trials])
    return retrained


def _write_run(study: SupernetStudy, scorer: SliceScorer, config: Config, trial: TrialRecord, out: Path) -> None:
    """Write the slice of a config as a run that is complete, but for what `mnsa calibrate` fits."""
    manifest, folder = study.manifest, study.folder
    classes = manifest.classes if "classification" in config.tasks else ()
    network = build_network(
        config.model.model_copy(update={"pretrained": "none"}), len(classes), len(manifest.mask_classes)
    )
    network.load_state_dict(scorer.calibrate(config.model).state_dict(), strict=True)
    origin = {"study": str(folder.path.resolve()), "slice": str(trial.number)}
    run = create_run_folder(out, config, {**dataset_provenance(manifest, folder.data_folder), **origin})
    try:
        save_network(run.model_folder, network, ModelSpec(config.model, config.data, classes, manifest.mask_classes))
    except BaseException:  # a run without a network would look like one that can be continued
        shutil.rmtree(run.path, ignore_errors=True)
        raise
