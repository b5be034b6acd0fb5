"""One trial: draw a network, train it, score it on validation, and keep the facts."""

import gc
import math
import shutil
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import lightning
import optuna
import torch
from lightning.pytorch.callbacks import Callback
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from mnsa.config import Config
from mnsa.data.manifest import Manifest
from mnsa.errors import StudyError
from mnsa.model.cost import network_cost
from mnsa.run_folder import write_text
from mnsa.search.facts import PeakMemory, latency_ms
from mnsa.search.heartbeat import Heartbeat
from mnsa.search.queue import REASON, note
from mnsa.search.shared import trial_config
from mnsa.search.space import Space, bare_levels, configured, draw
from mnsa.search.storage import patiently
from mnsa.study_folder import StudyFolder
from mnsa.training.fit import TrainingInterruptedError, train_checked
from mnsa.training.module import StageModule

CURVE = "curve"  # user attribute of a trial: validation IoU after each epoch
LONGEST_REASON = 300  # characters
COST_FACTS = {"macs": "macs", "parameters": "parameters", "latency": "latency_ms"}  # objective -> user attribute


class Outcome(NamedTuple):
    """How a trial ended; values: the study's objectives, where it is complete."""

    state: TrialState
    values: list[float] | None = None
    reason: str = ""


@dataclass(eq=False)  # Lightning hashes its callbacks
class Curve(Callback):
    """Tells Optuna each epoch's validation IoU and stops the training where its pruner says so."""

    trial: optuna.Trial
    stages: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # stage -> (score, IoU) of its epochs

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        iou = trainer.callback_metrics.get("val_iou")
        if iou is None:
            return
        score, stage = trainer.callback_metrics["val_score"], cast("StageModule", module).stage.name
        self.stages.setdefault(stage, []).append((float(score), float(iou)))
        values = self.values
        note(self.trial.study, self.trial, CURVE, values)
        if len(self.trial.study.directions) == 1:
            patiently(lambda: self.trial.report(values[-1], step=len(values)))
            if patiently(self.trial.should_prune):
                raise optuna.TrialPruned(f"pruned after epoch {len(values)}")

    @property
    def values(self) -> list[float]:
        """Validation IoU epoch by epoch, over all stages with masks."""
        return [iou for epochs in self.stages.values() for _, iou in epochs]

    @property
    def kept(self) -> float:
        """IoU of the epoch that the last stage with masks keeps: the first of those with the best score."""
        last = list(self.stages.values())[-1]
        return max(last, key=lambda epoch: epoch[0])[1]


@dataclass(frozen=True)
class Trainer:
    """Runs trials of one study, one after the other."""

    folder: StudyFolder
    config: Config
    manifest: Manifest
    space: Space

    def run(self, trial: optuna.Trial) -> Outcome:
        """Train and score a trial, and write what is known of it to its user attributes.

        Whatever goes wrong with the trial is its outcome; only interruptions pass through.
        """
        start, memory = time.perf_counter(), PeakMemory()
        with Heartbeat(trial.study._storage, trial._trial_id, self.config.search.heartbeat_s):
            outcome = self._attempt(trial)
            facts = {"seconds": time.perf_counter() - start, "peak_memory_mib": memory.mib(), REASON: outcome.reason}
            with suppress(UpdateFinishedTrialError):
                for name, value in facts.items():
                    note(trial.study, trial, name, value)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return outcome

    def _attempt(self, trial: optuna.Trial) -> Outcome:
        folder = self.folder.trial_folder(trial.number)
        try:
            return Outcome(TrialState.COMPLETE, self._values(trial, Curve(trial)))
        except optuna.TrialPruned as pruned:
            return Outcome(TrialState.PRUNED, reason=str(pruned))
        except TrainingInterruptedError:
            raise
        except Exception as error:  # out of memory above all; whatever it is, the study goes on
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / "error.txt", traceback.format_exc())
            return Outcome(TrialState.FAIL, reason=_reason(error))
        finally:
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)

    def _values(self, trial: optuna.Trial, curve: Curve) -> list[float]:
        point = draw(self.space, trial)
        if levels := bare_levels(point):
            raise optuna.TrialPruned(f"no branch at level {', '.join(map(str, levels))}")
        candidate = configured(self.config, point)
        facts = self._facts(candidate)
        for name, value in facts.items():
            note(trial.study, trial, name, value)
        config, out = trial_config(self.folder, candidate), self.folder.trial_folder(trial.number)
        train_checked(config, self.manifest, self.folder.data_folder, out, callbacks=[curve])
        if math.isnan(curve.kept):
            raise StudyError("the validation masks hold no pixel to score")
        return [curve.kept, *(facts[COST_FACTS[name]] for name in self.config.search.objectives[1:])]

    def _facts(self, config: Config) -> dict[str, float]:
        """What the whole network costs, both heads included, whatever this trial trains of it."""
        classes = len(self.manifest.classes) if "classification" in config.tasks else 0
        shape = config.model, classes, len(self.manifest.mask_classes), config.data.size
        cost = network_cost(*shape)
        facts: dict[str, float] = {"parameters": cost.parameters, "macs": cost.macs}
        if "latency" in self.config.search.objectives:
            facts["latency_ms"] = latency_ms(*shape)
        return facts


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:LONGEST_REASON]
