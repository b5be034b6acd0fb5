"""What a study leaves behind, and its trials as plain records, which need no Optuna to be read.

study.toml         name and storage
config.toml        the config that is searched, every field spelled out
data/              the data set without its test rows
study.db           the trials, where no other storage was named
shared/            run folder of the stages that all trials have in common
trials/NNN/        run folder of trial NNN; its network is kept while no other one is better and cheaper
trials.json        all trials at a glance, refreshed by `mnsa search` and `mnsa report`
best.toml         the config that was found, ready for `mnsa train`
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
        """The run folder of one trial."""
        return self.path / "trials" / f"{number:03}"

    def lock_file(self, name: str) -> Path:
        """A file that the study's processes lock in turn."""
        return self.path / f"{name}.lock"


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One attempt at one of the study's trials; None: not known (yet).

    number: Optuna's, of the attempt. index: which of the study's trials it is an attempt at, from 0.
    iou: validation IoU of the epoch that was kept; of a pruned trial, of its last. curve: of every epoch.
    macs: multiply-adds for one image of the training size. peak_memory_mib: of the GPU, or else of the process.
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

    def cost(self, name: str) -> float:
        """What the trial's network costs: `macs`, `parameters` or `latency` (in ms). Infinite where not known."""
        known = {"macs": self.macs, "parameters": self.parameters, "latency": self.latency_ms}[name]
        return float("inf") if known is None else float(known)


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """A study at one moment. cost: what IoU is weighed against. selected: number of the trial in best.toml, if any.

    budget: how many trials it is to have. importances: share of each choice in what it takes to be good.
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

    def with_status(self, *states: TrialStatus) -> list[TrialRecord]:
        """The attempts in these states."""
        return [trial for trial in self.trials if trial.state in states]


def write_study_record(folder: StudyFolder, record: StudyRecord) -> None:
    """Replace trials.json."""
    write_json(folder.trials_file, asdict(record))


def read_study_record(folder: StudyFolder) -> StudyRecord:
    """Read trials.json back."""
    tree: dict[str, Any] = read_json(folder.trials_file, max_bytes=1 << 28)
    trials = tuple(TrialRecord(**{**trial, "curve": tuple(trial["curve"])}) for trial in tree.pop("trials"))
    return StudyRecord(trials=trials, size=tuple(tree.pop("size")), front=tuple(tree.pop("front")), **tree)
