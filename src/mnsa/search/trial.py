"""One trial: sample a network, train it, evaluate it on the validation rows, and record its costs.

The stages before the first stage with masks are the same for all trials. They are trained once and shared.
H, W image size in pixels.
"""

import gc
import logging
import math
import shutil
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, cast

import lightning
import optuna
import torch
from lightning.pytorch.callbacks import Callback
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from mnsa.config import Config, ModelConfig
from mnsa.data.manifest import Manifest
from mnsa.errors import ModelError, RunError, StudyError
from mnsa.io import atomic_write_text, lock
from mnsa.model.network import build_network, network_cost
from mnsa.model_folder import load_network
from mnsa.run_folder import RunFolder, open_run_folder
from mnsa.search.space import SearchSpace, apply_point, levels_without_branch, split_stages, suggest_point
from mnsa.search.storage import with_retries
from mnsa.search.trial_queue import REASON_ATTR, Heartbeat, set_trial_attr
from mnsa.study_folder import StudyFolder
from mnsa.training.fit import TrainingInterruptedError, resume, train_validated
from mnsa.training.module import StageModule

CURVE_ATTR = "curve"  # user attribute of an Optuna trial: validation IoU after each epoch

COST_ATTRS = {"macs": "macs", "parameters": "parameters", "latency": "latency_ms"}  # objective -> user attribute

WARMUP_RUNS, TIMED_RUNS = 2, 9

MAX_REASON_CHARS = 300

_MIB = 1 << 20

logger = logging.getLogger(__name__)


class TrialOutcome(NamedTuple):
    """How a trial ended. values: the objectives of the study, if the trial is complete."""

    state: TrialState
    values: list[float] | None = None
    reason: str = ""


@dataclass(frozen=True)
class TrialRunner:
    """Runs the trials of one study."""

    folder: StudyFolder
    config: Config
    manifest: Manifest
    space: SearchSpace

    def run(self, trial: optuna.Trial) -> TrialOutcome:
        """Train and evaluate a trial, and save its costs as user attributes.

        An error of the trial becomes its outcome; only interruptions are raised.
        """
        start, memory = time.perf_counter(), PeakMemory()
        with Heartbeat(trial.study._storage, trial._trial_id, self.config.search.heartbeat_s):
            outcome = self._run(trial)
            attrs = {
                "seconds": time.perf_counter() - start, "peak_memory_mib": memory.mib(), REASON_ATTR: outcome.reason
            }  # fmt: skip
            with suppress(UpdateFinishedTrialError):
                for name, value in attrs.items():
                    set_trial_attr(trial.study, trial, name, value)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return outcome

    def _run(self, trial: optuna.Trial) -> TrialOutcome:
        folder = self.folder.trial_folder(trial.number)
        try:
            return TrialOutcome(TrialState.COMPLETE, self._train(trial, PruningCallback(trial)))
        except optuna.TrialPruned as pruned:
            return TrialOutcome(TrialState.PRUNED, reason=str(pruned))
        except TrainingInterruptedError:
            raise
        except Exception as error:  # such as out of memory; the study continues
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write_text(folder / "error.txt", traceback.format_exc())
            return TrialOutcome(TrialState.FAIL, reason=_short_reason(error))
        finally:
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)

    def _train(self, trial: optuna.Trial, callback: "PruningCallback") -> list[float]:
        """Train a trial. Returns: the objectives."""
        point = suggest_point(self.space, trial)
        if levels := levels_without_branch(point):
            raise optuna.TrialPruned(f"no branch at level {', '.join(map(str, levels))}")
        candidate = apply_point(self.config, point)
        costs = self._measure_costs(candidate)
        for name, value in costs.items():
            set_trial_attr(trial.study, trial, name, value)
        config, out = make_trial_config(self.folder, candidate), self.folder.trial_folder(trial.number)
        train_validated(config, self.manifest, self.folder.data_folder, out, callbacks=[callback])
        if math.isnan(callback.best_iou):
            raise StudyError("the validation masks have no pixel to score")
        return [callback.best_iou, *(costs[COST_ATTRS[name]] for name in self.config.search.objectives[1:])]

    def _measure_costs(self, config: Config) -> dict[str, float]:
        """Measure the whole network with both heads, also the parts that this trial does not train."""
        classes = len(self.manifest.classes) if "classification" in config.tasks else 0
        shape = config.model, classes, len(self.manifest.mask_classes), config.data.size
        cost = network_cost(*shape)
        costs: dict[str, float] = {"parameters": cost.parameters, "macs": cost.macs}
        if "latency" in self.config.search.objectives:
            costs["latency_ms"] = measure_latency_ms(*shape)
        return costs


@dataclass(eq=False)  # Lightning hashes its callbacks
class PruningCallback(Callback):
    """Reports the validation IoU of each epoch to Optuna, and stops the training if the pruner says so."""

    trial: optuna.Trial
    epochs: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # stage -> (score, IoU) of its epochs

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        iou = trainer.callback_metrics.get("val_iou")
        if iou is None:
            return
        score, stage = trainer.callback_metrics["val_score"], cast("StageModule", module).stage.name
        self.epochs.setdefault(stage, []).append((float(score), float(iou)))
        curve = self.curve
        set_trial_attr(self.trial.study, self.trial, CURVE_ATTR, curve)
        if len(self.trial.study.directions) == 1:
            with_retries(lambda: self.trial.report(curve[-1], step=len(curve)))
            if with_retries(self.trial.should_prune):
                raise optuna.TrialPruned(f"pruned after epoch {len(curve)}")

    @property
    def curve(self) -> list[float]:
        """Validation IoU of each epoch, of all stages with masks."""
        return [iou for epochs in self.epochs.values() for _, iou in epochs]

    @property
    def best_iou(self) -> float:
        """IoU of the epoch that the last stage with masks saves: the first one with the best score."""
        last = list(self.epochs.values())[-1]
        return max(last, key=lambda epoch: epoch[0])[1]


def train_shared_stages(folder: StudyFolder, config: Config, manifest: Manifest) -> None:
    """Train the stages that all trials share, if there are any and they are not trained yet.

    One worker trains, the others wait. If it dies, the next worker resumes the run. Damaged weights are trained again.
    Raises: the errors of `train`.
    """
    shared, _ = split_stages(config)
    if not shared:
        logger.info("No stage comes before the masks, so each trial trains all stages.")
        return
    names = ", ".join(stage.name for stage in shared)
    with lock(folder.lock_file("shared"), waiting=f"Waiting for another worker to train {names}."):
        run = RunFolder(folder.shared_folder)
        if not is_trained(run):
            logger.info("Training %s once, for all trials.", names)
            train_or_resume(folder, run, config.model_copy(update={"stages": shared}), manifest)


def train_or_resume(
    folder: StudyFolder, run: RunFolder, config: Config, manifest: Manifest,
    module: Callable[..., StageModule] = StageModule,
) -> None:  # fmt: skip
    """Train a run of a study, or continue it if it was interrupted. module: as `train_validated`."""
    if _can_resume(run):
        resume(run.path, module=module)
    else:
        train_validated(config, manifest, folder.data_folder, run.path, module=module)


def make_trial_config(folder: StudyFolder, config: Config) -> Config:
    """Make the config of one trial: its own stages, which start from the weights of the shared stages."""
    shared, own = split_stages(config)
    if not shared:
        return config
    train = config.train.model_copy(update={"init_from": str(folder.shared_folder.resolve())})
    return config.model_copy(update={"train": train, "stages": own})


class PeakMemory:
    """The most memory used since the object was made: allocated on the GPU if there is one, else of the process."""

    def __init__(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            return
        with suppress(OSError):  # elsewhere than on Linux it is the peak since the start of the process
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak, proc(5)

    def mib(self) -> float | None:
        """Return it in MiB; None on Windows without a GPU, where it is not known."""
        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated() / _MIB
        try:
            status = Path("/proc/self/status").read_text(encoding="ascii")
            return int(status.partition("VmHWM:")[2].split()[0]) / 1024
        except (OSError, IndexError):
            return _process_peak_mib()


def measure_latency_ms(config: ModelConfig, classes: int, mask_classes: int, size: tuple[int, int]) -> float:
    """Measure the median time of one image (1, 3, H, W) through the network, in ms, on the training device."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    untrained = config.model_copy(update={"pretrained": "none"})  # the time does not depend on the weights
    network = build_network(untrained, classes, mask_classes).eval().to(device)
    image = torch.zeros(1, 3, *size, device=device)
    times = []
    with torch.inference_mode():
        for _ in range(WARMUP_RUNS + TIMED_RUNS):
            start = time.perf_counter()
            network(image)
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[WARMUP_RUNS:])


def is_trained(run: RunFolder) -> bool:
    """Check whether the run has a whole network; remove a run with a damaged one."""
    if not (run.model_folder / "model.safetensors").is_file():
        return False
    try:
        load_network(run.path)
    except (RunError, ModelError) as error:
        logger.warning(f"{error} It is trained again.")
        shutil.rmtree(run.path)
        return False
    return True


def _can_resume(run: RunFolder) -> bool:
    """Return whether the run folder is complete enough to resume; remove one that is not."""
    try:
        open_run_folder(run.path)
    except RunError:
        shutil.rmtree(run.path, ignore_errors=True)
        return False
    return True


def _process_peak_mib() -> float | None:
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (_MIB if sys.platform == "darwin" else 1024)  # macOS counts bytes, Linux KiB


def _short_reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:MAX_REASON_CHARS]
