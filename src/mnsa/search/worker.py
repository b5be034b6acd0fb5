"""A worker: takes trials from the queue until the study's budget is spent, whoever spends it."""

import shutil
import time
from contextlib import suppress

import optuna
from optuna.trial import TrialState

from mnsa.errors import MnsaError, StudyError
from mnsa.search.lock import locked
from mnsa.search.pick import pareto_front
from mnsa.search.progress import line_of
from mnsa.search.queue import INDEX, INTERRUPTED, REASON, note
from mnsa.search.sampling import sampler_of
from mnsa.search.shared import share
from mnsa.search.snapshot import records_of
from mnsa.search.storage import patiently, storage_errors
from mnsa.search.study import Study
from mnsa.search.trial import Outcome, Trainer
from mnsa.training.fit import TrainingInterruptedError

POLL_S = 2.0
FAILURES_IN_A_ROW = 10


class SearchInterruptedError(MnsaError):
    """Ctrl-C: the trials that ended are kept, the one that was running goes back into the queue."""

    exit_code = 130


def work(study: Study) -> None:
    """Run trials until every one of the budget is settled, by this worker or by others.

    Raises: StudyError when the storage is gone or trial after trial fails; SearchInterruptedError after Ctrl-C;
    whatever training the shared stages raises.
    """
    again = f"Go on with: mnsa search --join {study.folder.path}"
    try:
        share(study.folder, study.config, study.manifest)
        _work(study)
    except (KeyboardInterrupt, TrainingInterruptedError):
        raise SearchInterruptedError(f"Interrupted; every trial that ended is kept. {again}") from None
    except storage_errors() as error:
        reason = str(error).partition("\n")[0]
        raise StudyError(f"The storage of study {study.name!r} failed ({reason}). When it is back: {again}") from None


def _work(study: Study) -> None:
    trainer = Trainer(study.folder, study.config, study.manifest, study.space)
    failures, waits = 0, False
    while left := patiently(study.queue.unsettled):
        trial = patiently(study.queue.claim)
        if trial is None:
            if not waits:
                print(f"Waiting for {left} trials that other workers run.", flush=True)  # noqa: T201
            waits = True
            time.sleep(POLL_S)
            continue
        waits, outcome = False, _run(study, trainer, trial)
        failures = failures + 1 if outcome.state == TrialState.FAIL else 0
        if failures == FAILURES_IN_A_ROW:
            raise StudyError(
                f"{failures} attempts in a row failed, the last because of: {outcome.reason} "
                f"({study.folder.trial_folder(trial.number)} may say more). When that is mended, go on with: "
                f"mnsa search --join {study.folder.path}"
            )


def _run(study: Study, trainer: Trainer, trial: optuna.Trial) -> Outcome:
    """Run one trial to its end, or give it back on the way out."""
    study.optuna.sampler = sampler_of(study.config.search, study.plan, trial.user_attrs.get(INDEX, trial.number))
    try:
        outcome = trainer.run(trial)
    except BaseException:
        with suppress(Exception):  # if the storage is gone too, the missing heartbeat tells as much
            note(study.optuna, trial, INTERRUPTED, value=True)
            note(study.optuna, trial, REASON, "interrupted")
            study.queue.tell(trial, TrialState.FAIL)
        raise
    ended = patiently(lambda: study.queue.tell(trial, outcome.state, outcome.values))
    _tidy(study)
    print(line_of(study, ended, outcome), flush=True)  # noqa: T201
    return outcome


def _tidy(study: Study) -> None:
    """Keep the networks of the Pareto fronts alone, and no checkpoint of a trial that ended.

    What is on no front will never be, so nothing is removed that a later pick could want.
    """
    with locked(study.folder.lock_file("tidy")):
        records = records_of(study)
        wanted = {trial.number for cost in ("macs", study.cost) for trial in pareto_front(records, cost)}
        for trial in records:
            folder = study.folder.trial_folder(trial.number)
            if trial.state in ("complete", "pruned", "failed"):
                shutil.rmtree(folder / "checkpoints", ignore_errors=True)
                if trial.number not in wanted:
                    shutil.rmtree(folder / "model", ignore_errors=True)
