"""A worker: runs trials from the queue until the budget of the study is used up, and prints one line per trial."""

import logging
import shutil
import time
from contextlib import suppress
from statistics import mean

import optuna
from optuna.trial import FrozenTrial, TrialState

from mnsa.errors import MnsaError, StudyError
from mnsa.io import lock
from mnsa.search.results import make_trial_record, trial_records
from mnsa.search.sampling import make_sampler
from mnsa.search.selection import pareto_front
from mnsa.search.storage import storage_errors, with_retries
from mnsa.search.study import SearchStudy
from mnsa.search.trial import TrialOutcome, TrialRunner, train_shared_stages
from mnsa.search.trial_queue import INDEX, INTERRUPTED, MAX_RETRIES, REASON, set_trial_attr
from mnsa.study_folder import TrialRecord
from mnsa.training.fit import TrainingInterruptedError


def progress_line(study: SearchStudy, ended: FrozenTrial, outcome: TrialOutcome) -> str:
    """Tell of a trial that has just ended."""
    record, records = make_trial_record(ended), trial_records(study)
    left, budget = study.queue.count_unfinished(), study.queue.budget
    parts = [f"trial {record.number}", _outcome_text(record, records, outcome), *_score_texts(record)]
    best = pareto_front(records, study.cost)[-1:]
    parts += [f"best {trial.iou:.4f} (trial {trial.number})" for trial in best]
    parts.append(f"{budget - left} of {budget} done{_time_left(records, left)}")
    return "  ".join(parts)


def _outcome_text(record: TrialRecord, records: tuple[TrialRecord, ...], outcome: TrialOutcome) -> str:
    if record.state == "pruned":
        return outcome.reason
    if record.state == "complete":
        return "complete"
    if record.reason != outcome.reason:
        return f"not counted: another worker took this one for dead ({record.reason})"
    attempts = sum(trial.index == record.index for trial in records)
    retry = "will be tried again" if attempts <= MAX_RETRIES else "given up"
    return f"failed, {retry}: {outcome.reason}"


def _score_texts(record: TrialRecord) -> list[str]:
    known = [
        None if record.iou is None else f"IoU {record.iou:.4f}",
        None if record.macs is None else f"{record.macs / 1e9:.4g} GMACs",
        None if record.parameters is None else f"{record.parameters / 1e6:.4g} M parameters",
        None if record.latency_ms is None else f"{record.latency_ms:.4g} ms",
        None if record.seconds is None else f"{record.seconds:.0f} s",
    ]
    return [text for text in known if text]


def _time_left(records: tuple[TrialRecord, ...], left: int) -> str:
    """From the mean time of the trials that ended well, shared among the workers that are busy, this one included."""
    times = [trial.seconds for trial in records if trial.state in ("complete", "pruned") and trial.seconds is not None]
    if not left or not times:
        return ""
    workers = 1 + sum(trial.state == "running" for trial in records)
    minutes = left * mean(times) / workers / 60
    return f", about {minutes:.0f} min left" if minutes >= 1 else ", less than a minute left"


POLL_S = 2.0

logger = logging.getLogger(__name__)

MAX_CONSECUTIVE_FAILURES = 10


class SearchInterruptedError(MnsaError):
    """Ctrl-C: the trials that ended are kept, the one that was running goes back into the queue."""

    exit_code = 130


def run_worker(study: SearchStudy) -> None:
    """Run trials until every one of the budget is settled, by this worker or by others.

    Raises: StudyError when the storage is gone or trial after trial fails; SearchInterruptedError after Ctrl-C;
    whatever training the shared stages raises.
    """
    again = f"Go on with: mnsa search --join {study.folder.path}"
    try:
        train_shared_stages(study.folder, study.config, study.manifest)
        _run_trials(study)
    except (KeyboardInterrupt, TrainingInterruptedError):
        raise SearchInterruptedError(f"Interrupted; every trial that ended is kept. {again}") from None
    except storage_errors() as error:
        reason = str(error).partition("\n")[0]
        raise StudyError(f"The storage of study {study.name!r} failed ({reason}). When it is back: {again}") from None


def _run_trials(study: SearchStudy) -> None:
    trainer = TrialRunner(study.folder, study.config, study.manifest, study.space)
    failures, waits = 0, False
    while left := with_retries(study.queue.count_unfinished):
        trial = with_retries(study.queue.claim)
        if trial is None:
            if not waits:
                logger.info("Waiting for %d trials that other workers run.", left)
            waits = True
            time.sleep(POLL_S)
            continue
        waits, outcome = False, _run_trial(study, trainer, trial)
        failures = failures + 1 if outcome.state == TrialState.FAIL else 0
        if failures == MAX_CONSECUTIVE_FAILURES:
            raise StudyError(
                f"{failures} attempts in a row failed, the last because of: {outcome.reason} "
                f"({study.folder.trial_folder(trial.number)} may say more). When that is mended, go on with: "
                f"mnsa search --join {study.folder.path}"
            )


def _run_trial(study: SearchStudy, trainer: TrialRunner, trial: optuna.Trial) -> TrialOutcome:
    """Run one trial to its end, or give it back on the way out."""
    study.optuna.sampler = make_sampler(study.config.search, study.plan, trial.user_attrs.get(INDEX, trial.number))
    try:
        outcome = trainer.run(trial)
    except BaseException:
        with suppress(Exception):  # if the storage is gone too, the missing heartbeat tells as much
            set_trial_attr(study.optuna, trial, INTERRUPTED, value=True)
            set_trial_attr(study.optuna, trial, REASON, "interrupted")
            study.queue.tell(trial, TrialState.FAIL)
        raise
    ended = with_retries(lambda: study.queue.tell(trial, outcome.state, outcome.values))
    _remove_unneeded_files(study)
    logger.info(progress_line(study, ended, outcome))
    return outcome


def _remove_unneeded_files(study: SearchStudy) -> None:
    """Keep the networks of the Pareto fronts alone, and no checkpoint of a trial that ended.

    What is on no front will never be, so nothing is removed that a later pick could want.
    """
    with lock(study.folder.lock_file("tidy")):
        records = trial_records(study)
        wanted = {trial.number for cost in ("macs", study.cost) for trial in pareto_front(records, cost)}
        for trial in records:
            folder = study.folder.trial_folder(trial.number)
            if trial.state in ("complete", "pruned", "failed"):
                shutil.rmtree(folder / "checkpoints", ignore_errors=True)
                if trial.number not in wanted:
                    shutil.rmtree(folder / "model", ignore_errors=True)
