"""found.toml: the config of the trial that was picked, ready for `mnsa train`."""

from typing import NamedTuple

from mnsa.config import dump_config
from mnsa.run_folder import write_text
from mnsa.search.lock import locked
from mnsa.search.pick import parse_rule, pick
from mnsa.search.snapshot import snapshot
from mnsa.search.space import configured
from mnsa.search.study import PICKED, Study
from mnsa.study_folder import StudyRecord, TrialRecord, write_study_record


class Found(NamedTuple):
    """What a study has found."""

    trial: TrialRecord
    study: StudyRecord


def find(study: Study, rule: str | None = None) -> Found:
    """Pick a trial, and write found.toml and trials.json. rule: None: as before. Raises: StudyError."""
    if rule is not None:
        parse_rule(rule)
    with locked(study.folder.lock_file("found")):  # workers come to the end together
        record = snapshot(study)
        rule = rule or record.picked_as
        trial = pick(record.trials, rule, record.cost)
        study.optuna.set_user_attr(PICKED, [rule, trial.number])
        record = snapshot(study)
        write_study_record(study.folder, record)
        comments = "".join(f"# {line}\n" for line in _comments(study, record, trial))
        write_text(study.folder.found_file, f"{comments}\n{dump_config(configured(study.config, trial.point))}")
    return Found(trial, record)


def refresh(study: Study) -> StudyRecord:
    """Write trials.json as the study stands."""
    with locked(study.folder.lock_file("found")):
        record = snapshot(study)
        write_study_record(study.folder, record)
    return record


def _comments(study: Study, record: StudyRecord, trial: TrialRecord) -> list[str]:
    height, width = record.size
    counts = ", ".join(f"{len(record.of_state(state))} {state}" for state in ("complete", "pruned", "failed"))
    return [
        f"mnsa train {study.folder.found_file} --data DATASET --out RUN",
        f"Found by study {record.name!r} ({record.sampler}; attempts: {counts}): trial {trial.number}, picked as "
        f"{record.picked_as}.",
        f"Validation IoU {trial.iou:.4f}: of one training, and the best of many, so expect less of another.",
        f"{trial.parameters:,} parameters; {(trial.macs or 0) / 1e9:.4g} GMACs for one image of {height} x {width} px.",
        "Drawn: " + ", ".join(f"{name} = {value}" for name, value in trial.point.items()),
    ]
