"""The files of a study, and its trials as plain records that can be read without Optuna.

study.toml         name and storage
config.toml        the complete config, with every field
data/              the data set without its test rows
study.db           the trials, if no other storage is given
shared/            run folder of the stages that all trials share
supernet/          run folder of the network that has all others as slices, if `search.method` is `supernet`
trials/NNN/        run folder of trial NNN; its network is removed when another one is better and cheaper. In a study
                   of one training: the slices that were trained further
trials.json        all trials, updated by `mnsa search` and `mnsa report`
best.toml          the config of the selected trial, for `mnsa train`
report.html        and report/*.png, written by `mnsa report`
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mnsa.io import read_json, write_json

TrialStatus = Literal["waiting", "running", "complete", "pruned", "failed"]


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """The paths of one study."""

    path: Path

    @property
    def study_file(self) -> Path:
        return self.path / "study.toml"

    @property
    def config_file(self) -> Path:
        return self.path / "config.toml"

    @property
    def data_folder(self) -> Path:
        return self.path / "data"

    @property
    def database_file(self) -> Path:
        return self.path / "study.db"

    @property
    def shared_folder(self) -> Path:
        return self.path / "shared"

    @property
    def supernet_folder(self) -> Path:
        return self.path / "supernet"

    @property
    def trials_file(self) -> Path:
        return self.path / "trials.json"

    @property
    def best_file(self) -> Path:
        return self.path / "best.toml"

    @property
    def report_file(self) -> Path:
        return self.path / "report.html"

    @property
    def figures_folder(self) -> Path:
        return self.path / "report"

    def trial_folder(self, number: int) -> Path:
        """Return the run folder of one trial."""
        return self.path / "trials" / f"{number:03}"

    def lock_file(self, name: str) -> Path:
        """Return a file for `mnsa.io.lock`."""
        return self.path / f"{name}.lock"


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One attempt at a trial, or one slice of a supernet. None: not known, or not known yet.

    number: number of the attempt in Optuna. index: index of the trial in the budget, from 0. point: sampled values.
    iou: validation IoU of the saved epoch; of a pruned trial, of its last epoch. curve: IoU of every epoch.
    macs: multiply-adds for one image of the training size. peak_memory_mib: of the GPU, or else of the process.
    A slice has two IoUs in its curve: of the first part of the validation images, then of all; if it was rejected after
    the first part, it is `pruned`. retrained_iou: of the slice after its own training.
    """

    number: int
    index: int
    state: TrialStatus
    point: Mapping[str, float | str]
    iou: float | None = None
    curve: tuple[float, ...] = ()
    parameters: int | None = None
    macs: int | None = None
    latency_ms: float | None = None
    peak_memory_mib: float | None = None
    seconds: float | None = None
    reason: str = ""
    retrained_iou: float | None = None

    def cost(self, name: str) -> float:
        """Return `macs`, `parameters` or `latency` (in ms) of the network; infinite if not known."""
        known = {"macs": self.macs, "parameters": self.parameters, "latency": self.latency_ms}[name]
        return float("inf") if known is None else float(known)


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """The state of a study.

    budget: number of trials that it will have. cost: the second axis of the Pareto front. importances: importance of
    each parameter for a high IoU; the sum is 1. front: numbers of the trials on the Pareto front. selected: number of
    the trial in best.toml, or None. method: of `search.method`.
    """

    name: str
    sampler: str
    pruner: str
    budget: int
    cost: str
    size: tuple[int, int]
    trials: tuple[TrialRecord, ...]
    importances: Mapping[str, float]
    front: tuple[int, ...]
    selected: int | None = None
    selection_rule: str = ""
    method: str = "trials"

    def with_status(self, *states: TrialStatus) -> list[TrialRecord]:
        """Return the attempts in these states."""
        return [trial for trial in self.trials if trial.state in states]


def write_study_record(folder: StudyFolder, record: StudyRecord) -> None:
    """Write trials.json."""
    write_json(folder.trials_file, asdict(record))


def read_study_record(folder: StudyFolder) -> StudyRecord:
    """Read trials.json. Raises: OSError, ValueError, KeyError or TypeError if it is damaged."""
    tree: dict[str, Any] = read_json(folder.trials_file, max_bytes=1 << 28)
    trials = tuple(TrialRecord(**{**trial, "curve": tuple(trial["curve"])}) for trial in tree.pop("trials"))
    return StudyRecord(trials=trials, size=tuple(tree.pop("size")), front=tuple(tree.pop("front")), **tree)
