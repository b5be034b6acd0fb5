"""A worker runs trials from the queue until the budget of the study is used up, and logs one line per trial."""

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
from mnsa.search.trial_queue import INDEX_ATTR, INTERRUPTED_ATTR, MAX_RETRIES, REASON_ATTR, set_trial_attr
from mnsa.signals import StopSignal, stop_signals
from mnsa.study_folder import TrialRecord
from mnsa.training.fit import TrainingInterruptedError
from mnsa.training.out_of_memory import limited_memory

POLL_S = 2.0

MAX_CONSECUTIVE_FAILURES = 10

logger = logging.getLogger(__name__)


class SearchInterruptedError(MnsaError):
    """Ctrl-C or another signal: finished trials are saved, the running trial goes back into the queue.

    exit_code: 130 for SIGINT (Ctrl-C), 143 for SIGTERM, 129 for SIGHUP.
    """

    def __init__(self, message: str, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run_worker(study: SearchStudy) -> None:
    """Run trials until all trials of the budget are finished, by this worker or by others.

    Raises: StudyError if the storage fails, or if many attempts in a row fail; SearchInterruptedError after Ctrl-C or
    another signal; the errors of training, for the shared stages.
    """
    hint = f"Continue with: mnsa search --join {study.folder.path}"
    try:
        with stop_signals(), limited_memory():
            train_shared_stages(study.folder, study.config, study.manifest)
            _run_trials(study)
    except (KeyboardInterrupt, StopSignal, TrainingInterruptedError) as stop:
        code = getattr(stop, "exit_code", 130)
        raise SearchInterruptedError(f"Interrupted. Finished trials are saved. {hint}", code) from None
    except storage_errors() as error:
        reason = str(error).partition("\n")[0]
        raise StudyError(
            f"The storage of study {study.name!r} failed ({reason}). When it works again: {hint}"
        ) from None  # fmt: skip


def progress_line(study: SearchStudy, ended: FrozenTrial, outcome: TrialOutcome) -> str:
    """Describe a trial that has just ended, and the progress of the study."""
    record, records = make_trial_record(ended), trial_records(study)
    left, budget = study.queue.count_unfinished(), study.queue.budget
    parts = [f"trial {record.number}", _outcome_text(record, records, outcome), *_score_texts(record)]
    best = pareto_front(records, study.cost)[-1:]
    parts += [f"best {trial.iou:.4f} (trial {trial.number})" for trial in best]
    parts.append(f"{budget - left} of {budget} done{_time_left(records, left)}")
    return "  ".join(parts)


def _run_trials(study: SearchStudy) -> None:
    runner = TrialRunner(study.folder, study.config, study.manifest, study.space)
    failures, is_waiting = 0, False
    while left := with_retries(study.queue.count_unfinished):
        trial = with_retries(study.queue.claim)
        if trial is None:
            if not is_waiting:
                logger.info("Waiting for %d trials of other workers.", left)
            is_waiting = True
            time.sleep(POLL_S)
            continue
        is_waiting, outcome = False, _run_trial(study, runner, trial)
        failures = failures + 1 if outcome.state == TrialState.FAIL else 0
        if failures == MAX_CONSECUTIVE_FAILURES:
            raise StudyError(
                f"{failures} attempts in a row failed, the last with: {outcome.reason} (details may be in "
                f"{study.folder.trial_folder(trial.number)}). After fixing the cause, continue with: "
                f"mnsa search --join {study.folder.path}"
            )


def _run_trial(study: SearchStudy, runner: TrialRunner, trial: optuna.Trial) -> TrialOutcome:
    """Run one trial to its end; put it back into the queue if the worker is interrupted."""
    index = trial.user_attrs.get(INDEX_ATTR, trial.number)
    study.optuna.sampler = make_sampler(study.config.search, study.plan, index)
    try:
        outcome = runner.run(trial)
    except BaseException:
        with suppress(Exception):  # if the storage fails too, other workers notice the missing heartbeats
            set_trial_attr(study.optuna, trial, INTERRUPTED_ATTR, value=True)
            set_trial_attr(study.optuna, trial, REASON_ATTR, "interrupted")
            study.queue.finish(trial, TrialState.FAIL)
        raise
    ended = with_retries(lambda: study.queue.finish(trial, outcome.state, outcome.values))
    _remove_unneeded_files(study)
    logger.info(progress_line(study, ended, outcome))
    return outcome


def _remove_unneeded_files(study: SearchStudy) -> None:
    """Keep only the networks on the Pareto fronts, and no checkpoints of trials that ended.

    A trial that is not on a front can't get there later, so no later selection needs a removed network.
    """
    with lock(study.folder.lock_file("cleanup")):
        records = trial_records(study)
        needed = {trial.number for cost in ("macs", study.cost) for trial in pareto_front(records, cost)}
        for trial in records:
            folder = study.folder.trial_folder(trial.number)
            if trial.state in ("complete", "pruned", "failed"):
                shutil.rmtree(folder / "checkpoints", ignore_errors=True)
                if trial.number not in needed:
                    shutil.rmtree(folder / "model", ignore_errors=True)


def _outcome_text(record: TrialRecord, records: tuple[TrialRecord, ...], outcome: TrialOutcome) -> str:
    if record.state == "pruned":
        return outcome.reason
    if record.state == "complete":
        return "complete"
    if record.reason != outcome.reason:
        return f"not counted: another worker declared this one dead ({record.reason})"
    attempts = sum(trial.index == record.index for trial in records)
    retry = "will be tried again" if attempts <= MAX_RETRIES else "given up"
    return f"failed, {retry}: {outcome.reason}"


def _score_texts(record: TrialRecord) -> list[str]:
    texts = [
        None if record.iou is None else f"IoU {record.iou:.4f}",
        None if record.macs is None else f"{record.macs / 1e9:.4g} GMACs",
        None if record.parameters is None else f"{record.parameters / 1e6:.4g} M parameters",
        None if record.latency_ms is None else f"{record.latency_ms:.4g} ms",
        None if record.seconds is None else f"{record.seconds:.0f} s",
    ]
    return [text for text in texts if text]


def _time_left(records: tuple[TrialRecord, ...], left: int) -> str:
    """Estimate the time left: mean time of the ended trials, divided by the number of busy workers."""
    times = [trial.seconds for trial in records if trial.state in ("complete", "pruned") and trial.seconds is not None]
    if not left or not times:
        return ""
    workers = 1 + sum(trial.state == "running" for trial in records)  # this one has no running trial now
    minutes = left * mean(times) / workers / 60
    return f", about {minutes:.0f} min left" if minutes >= 1 else ", less than a minute left"
