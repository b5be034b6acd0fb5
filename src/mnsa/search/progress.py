"""One line per trial: how it ended, what it scored and costs, and how long the rest will take."""

from statistics import mean

from optuna.trial import FrozenTrial

from mnsa.search.pick import pareto_front
from mnsa.search.queue import MAX_RETRIES
from mnsa.search.snapshot import record_of, records_of
from mnsa.search.study import Study
from mnsa.search.trial import Outcome
from mnsa.study_folder import TrialRecord


def line_of(study: Study, ended: FrozenTrial, outcome: Outcome) -> str:
    """Tell of a trial that has just ended."""
    record, records = record_of(ended), records_of(study)
    left, budget = study.queue.unsettled(), study.queue.budget
    parts = [f"trial {record.number}", _ending(record, records, outcome), *_score(record)]
    best = pareto_front(records, study.cost)[-1:]
    parts += [f"best {trial.iou:.4f} (trial {trial.number})" for trial in best]
    parts.append(f"{budget - left} of {budget} done{_time_left(records, left)}")
    return "  ".join(parts)


def _ending(record: TrialRecord, records: tuple[TrialRecord, ...], outcome: Outcome) -> str:
    if record.state == "pruned":
        return outcome.reason
    if record.state == "complete":
        return "complete"
    if record.reason != outcome.reason:
        return f"not counted: another worker took this one for dead ({record.reason})"
    attempts = sum(trial.index == record.index for trial in records)
    retry = "will be tried again" if attempts <= MAX_RETRIES else "given up"
    return f"failed, {retry}: {outcome.reason}"


def _score(record: TrialRecord) -> list[str]:
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
