"""Train a network: validate config and data, build the network, run the stages, save. Start reading at `train`."""

import logging
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from mnsa.checked_files import DamagedFileError
from mnsa.config import Config, StageConfig, dump_config
from mnsa.data.cache import DecodedCache
from mnsa.data.dataset import LeafDataModule, class_weights
from mnsa.data.manifest import Manifest, read_manifest
from mnsa.data.validation.inspect import Inspection
from mnsa.data.validation.validate import require_valid
from mnsa.errors import RunError, TrainingInterruptedError
from mnsa.io import read_json, write_json
from mnsa.model.network import Network, build_network
from mnsa.model_folder import save_network
from mnsa.run_folder import (
    ModelSpec,
    RunFolder,
    create_run_folder,
    dataset_provenance,
    open_run_folder,
    read_run_dataset,
)
from mnsa.signals import StopSignal, is_rank_zero
from mnsa.training.checkpoint import CheckpointCallback, Found, find_checkpoint, read_checkpoint
from mnsa.training.loggers import CSVMetricsLogger, open_loggers, repair_metrics
from mnsa.training.mixing import make_mixer
from mnsa.training.module import StageModule, StepSeedCallback
from mnsa.training.out_of_memory import memory_errors
from mnsa.training.preflight import (
    require_mask_pixels,
    require_rows,
    require_trainable,
    thin_class_values,
    warn_about_wide_classes,
)
from mnsa.training.processes import count_processes, lost_processes
from mnsa.training.session import (
    add_epochs,
    dump_contents,
    read_config,
    require_same_config,
    require_same_contents,
    run_session,
)
from mnsa.training.stages import (
    Teacher,
    has_class_head,
    has_mask_head,
    load_matching_parts,
    read_init_weights,
    read_teacher,
    set_trainable_parts,
)
from mnsa.training.trainer import build_trainer, loader_errors, quiet_lightning
from mnsa.training.warm_start import INITIAL_CHECKPOINT, choose_checkpoint, warm_start

__all__ = ["TrainingInterruptedError", "resume", "train", "train_validated"]

_NETWORK_PREFIX = "network."  # of the network's weights in a checkpoint of `StageModule`

logger = logging.getLogger(__name__)


def train(config: Config, dataset: Path, out: Path, *, devices: int = 1, progress: bool | None = None) -> RunFolder:
    """Train a network on a data set into a new run folder.

    devices: number of processes, one GPU each if available. progress: show a progress bar; None: on a terminal and in a
    notebook. The scores of each epoch are log messages of `mnsa.training` (level INFO); nothing is printed.
    Raises: ConfigError, DataError, ModelError, RunError for bad input, before training starts;
    TrainingInterruptedError after Ctrl-C.
    """
    manifest = read_manifest(Path(dataset))
    inspections = _validate(config, manifest)
    contents = dump_contents(manifest, inspections) if inspections else ""
    return train_validated(
        config, manifest, Path(dataset), Path(out), devices=devices, progress=progress, contents=contents
    )


def train_validated(
    config: Config, manifest: Manifest, dataset: Path, out: Path, *,
    devices: int = 1, progress: bool | None = None, callbacks: Sequence[Callback] = (), contents: str = "",
    module: Callable[..., StageModule] = StageModule,
) -> RunFolder:  # fmt: skip
    """Train like `train`, on data that `train` or a search has validated already. Raises: as `train`.

    callbacks: Lightning callbacks for every stage. contents: of `dump_contents`, to find changed images at a resume.
    module: makes the LightningModule of a stage.
    """
    count_processes(devices)  # an environment that is wrong is named before anything is made
    network = _build_network(config, manifest)
    teacher = read_teacher(config.train, network, manifest.mask_classes)
    if is_rank_zero():
        run = create_run_folder(out, config, dataset_provenance(manifest, dataset), contents)
    else:
        run = RunFolder(out)
    with run_session(run, writes=is_rank_zero()):
        return _Training(
            run, config, manifest, network, devices, progress, tuple(callbacks), teacher, module
        ).run_stages()


def resume(
    path: Path, *, dataset: Path | None = None, epochs: int | None = None, devices: int = 1,
    progress: bool | None = None, module: Callable[..., StageModule] = StageModule,
) -> RunFolder:  # fmt: skip
    """Continue an interrupted run: load the finished stages and continue the current one. Arguments: as `train`.

    dataset: where the data set is now; None: where it was. epochs: of the last stage in all, more than it has, to go on
    with a finished run; the learning rate is that of the schedule over so many epochs.
    module: as `train_validated`. Raises: RunError for another data set, or when another process trains the run;
    DataError for changed images; else as `train`.
    """
    run = open_run_folder(Path(path))
    with run_session(run, writes=is_rank_zero()):
        config = read_config(run, writes=is_rank_zero())
        known, digest = read_run_dataset(run)
        if dataset is None and not known.exists():
            raise RunError(
                f"{known} does not exist. If the data set has moved: mnsa train --resume {path} --data FOLDER."
            )
        manifest = read_manifest(dataset or known)
        if manifest.digest() != digest:
            raise RunError(f"{dataset or known} has changed since {path} began. Start a new run with mnsa train --out.")
        inspections = _validate(config, manifest)
        if epochs is not None:
            config = add_epochs(run, config, epochs, writes=is_rank_zero())
        if is_rank_zero():
            require_same_contents(run, manifest, inspections)
            if dataset is not None:
                moved = {**read_json(run.provenance_file), "dataset": str(dataset.resolve())}
                write_json(run.provenance_file, moved)
        network = _build_network(config, manifest)
        teacher = read_teacher(config.train, network, manifest.mask_classes)
        return _Training(run, config, manifest, network, devices, progress, teacher=teacher, module=module).run_stages()


def _has_more_epochs(stage: StageConfig, found: Found) -> bool:
    """Check whether a finished stage was made longer afterwards, by `add_epochs`."""
    before = {one["name"]: one["epochs"] for one in tomllib.loads(found.record["config"])["stages"]}
    return stage.epochs > int(before[stage.name])


@dataclass(frozen=True, slots=True)
class _Training:
    """One run: its folder, data and network, and how to run its stages."""

    run: RunFolder
    config: Config
    manifest: Manifest
    network: Network
    devices: int
    progress: bool | None
    callbacks: tuple[Callback, ...] = ()
    teacher: Teacher | None = None
    module: Callable[..., StageModule] = StageModule

    def run_stages(self) -> RunFolder:
        """Run all stages and save the network. Raises: as `train`."""
        require_rows(self.manifest, count_processes(self.devices))
        with lost_processes(self.run.path):
            for stage in self.config.stages:
                self._run_stage(stage)
        if is_rank_zero():
            save_network(self.run.model_folder, self.network, _model_spec(self.config, self.manifest, self.network))
        return self.run

    def _run_stage(self, stage: StageConfig) -> None:
        """Train a stage if it is not done yet, and give the network its best weights."""
        folder = self.run.checkpoint_folder(stage.name)
        done = folder / "done"
        found = find_checkpoint(folder, writes=is_rank_zero(), processes=count_processes(self.devices))
        if found is None and done.exists():
            raise RunError(
                f"Stage {stage.name!r} is done, but no checkpoint in {folder} is whole. Restore best.ckpt, or train "
                "again into a new folder."
            )
        if found is not None:
            require_same_config(self.config, found.record["config"], self.run)
            if is_rank_zero():
                repair_metrics(self.run.metrics_file, found.record["metrics"])
        if found is None or not found.record["finished"] or _has_more_epochs(stage, found):
            trainer = self._fit(stage, found)
            trainer.strategy.barrier()
        self._load_best_weights(stage)
        if is_rank_zero():
            done.touch()

    def _fit(self, stage: StageConfig, found: Found | None) -> lightning.Trainer:
        """Train one stage, from a checkpoint if one was found."""
        config = self.config
        lightning.seed_everything(config.train.seed, workers=True, verbose=False)
        module = self.module(
            self.network,
            stage,
            config.loss,
            mask_classes=max(1, len(self.manifest.mask_classes)),
            class_weights=class_weights(self.manifest) if config.loss.class_weights == "balanced" else None,
            thin_classes=thin_class_values(config.loss, self.manifest.mask_classes),
            select_by=config.train.select_by,
            on_nan=config.train.on_nan,
            recompute=config.train.recompute,
            mixer=make_mixer(config.augment, len(self.manifest.classes), max(1, len(self.manifest.mask_classes))),
            teacher=self.teacher,
        )
        loaders = build_data_module(config, stage, self.manifest, self.network, found.next_batch if found else (0, 0))
        folder = self.run.checkpoint_folder(stage.name)
        if found is None and stage == self._warm_started_stage():
            initial = folder / INITIAL_CHECKPOINT
            warm_start(module, self.manifest, config.data, loaders.val_dataloader(), initial, writes=is_rank_zero())
        metrics = CSVMetricsLogger(self.run.metrics_file, stage.name)
        if found is None and is_rank_zero() and any(row["stage"] == stage.name for row in metrics.rows):
            logger.warning(f"No checkpoint of stage {stage.name!r} is left, so it starts again from epoch 1.")
        callbacks = [
            metrics,
            StepSeedCallback(config.train.seed),
            *self.callbacks,
            CheckpointCallback(folder, stage.name, dump_config(config), metrics, config.train.checkpoint_minutes),
        ]
        with quiet_lightning(), open_loggers(self.run, config, stage.name, first_process=is_rank_zero()) as loggers:
            trainer = build_trainer(
                self.run.path, config.train, stage, callbacks, loggers, devices=self.devices, progress=self.progress
            )
            memory = memory_errors(stage, config.data.size)
            with _interruptions(trainer, stage, self.run), memory, loader_errors(loaders, self.run.path):
                trainer.fit(module, loaders, ckpt_path=found.path if found else None)
        return trainer

    def _load_best_weights(self, stage: StageConfig) -> None:
        folder = self.run.checkpoint_folder(stage.name)
        checkpoint: Mapping[str, Any] = read_checkpoint(folder / "best.ckpt")
        if (initial := folder / INITIAL_CHECKPOINT).exists():
            try:
                checkpoint = choose_checkpoint(checkpoint, read_checkpoint(initial))
            except DamagedFileError as error:
                raise RunError(
                    f"{initial} is damaged: {error.strerror}. Restore it, or remove it to keep the best epoch. Then "
                    f"continue with: mnsa train --resume {self.run.path}"
                ) from None
            if "val_score" in checkpoint and is_rank_zero():
                logger.info("%s: no epoch is better than the linear probe, which is kept", stage.name)
        state = checkpoint["state_dict"]
        weights = {k.removeprefix(_NETWORK_PREFIX): v for k, v in state.items() if k.startswith(_NETWORK_PREFIX)}
        self.network.load_state_dict(weights, strict=True)

    def _warm_started_stage(self) -> StageConfig | None:
        """The first stage that trains the class head, if it starts with a linear probe."""
        if self.config.train.head_init == "random":
            return None
        return next((stage for stage in self.config.stages if "class_head" in stage.trainable), None)


@contextmanager
def _interruptions(trainer: lightning.Trainer, stage: StageConfig, run: RunFolder) -> Iterator[None]:
    """Raise a signal, and what Lightning makes of Ctrl-C, as TrainingInterruptedError."""
    try:
        yield
    except StopSignal as stop:
        name, exit_code = str(stop), stop.exit_code
    except SystemExit:
        if not trainer.interrupted:
            raise
        name, exit_code = "SIGINT", 130
    else:
        return
    saved = getattr(trainer.checkpoint_callback, "saved", "its start")
    raise TrainingInterruptedError(
        f"Interrupted ({name}) in epoch {trainer.current_epoch + 1} of stage {stage.name!r}, which is saved up to "
        f"{saved}. Continue with: mnsa train --resume {run.path}",
        exit_code,
    )


def _validate(config: Config, manifest: Manifest) -> list[Inspection]:
    """Check config and data. Returns: what was found in the files; in processes but the first, nothing."""
    require_trainable(config, manifest)
    if not is_rank_zero():
        return []
    inspections = require_valid(manifest)  # opens every file once
    require_mask_pixels(config, manifest, [inspection.mask for inspection in inspections])
    warn_about_wide_classes(config, manifest)
    return inspections


def _build_network(config: Config, manifest: Manifest) -> Network:
    """Build a network with a head for each task of the stages and for each head in the initial weights."""
    torch.manual_seed(config.train.seed)
    model, source = config.model, config.train.init_from
    weights = read_init_weights(Path(source), model.attention) if source else {}
    classifies = "classification" in config.tasks or has_class_head(weights, len(manifest.classes))
    segments = "segmentation" in config.tasks or has_mask_head(weights)
    network = build_network(
        model.model_copy(update={"pretrained": "none"}) if source else model,
        len(manifest.classes) if classifies else 0,
        len(manifest.mask_classes) if segments else 0,
    )
    if source:
        message = load_matching_parts(network, weights, source)
        if is_rank_zero():
            logger.info(message)
    for stage in config.stages:  # raises now for what would fail in a later stage
        set_trainable_parts(network, stage)
        build_data_module(config, stage, manifest, network)
    return network


def build_data_module(
    config: Config, stage: StageConfig, manifest: Manifest, network: Network, start: tuple[int, int] = (0, 0)
) -> LeafDataModule:
    """Make the loaders of a stage, with the pixel values that the network's backbone needs. start: epoch and batch."""
    train, loss = config.train, config.loss
    needs_centerlines = loss.needs_centerlines and "segmentation" in stage.tasks
    return LeafDataModule(
        manifest, config.data, config.augment, mean=network.backbone.mean, std=network.backbone.std,
        batch_size=stage.batch_size, seed=train.seed,
        workers=min(train.workers, os.cpu_count() or 1),  # the batches don't depend on the number of workers
        cache=DecodedCache(Path(train.cache), int(train.cache_gb * 1e9)) if train.cache else None,
        thin_classes=thin_class_values(loss, manifest.mask_classes) if needs_centerlines else (),
        first_epoch=start[0], first_batch=start[1], timeout_s=train.loader_timeout_s,
        balanced=train.sampler == "balanced",
    )  # fmt: skip


def _model_spec(config: Config, manifest: Manifest, network: Network) -> ModelSpec:
    """Describe the network; class names only for the heads that it has."""
    classes = manifest.classes if network.class_head else ()
    mask_classes = manifest.mask_classes if network.decoder else ()
    return ModelSpec(config.model, config.data, classes, mask_classes)
