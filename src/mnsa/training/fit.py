"""Train a network: validate config and data, build the network, run the stages, save. Start reading at `train`."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
    TQDMProgressBar,
)
from lightning.pytorch.loggers import Logger

from mnsa.config import Config, StageConfig
from mnsa.data.cache import DecodedCache
from mnsa.data.dataset import LeafDataModule, class_weights
from mnsa.data.manifest import Manifest, read_manifest
from mnsa.data.validation.validate import require_valid
from mnsa.errors import MnsaError, RunError
from mnsa.io import read_json, write_json
from mnsa.model.network import Network, build_network
from mnsa.model_folder import save_network
from mnsa.run_folder import (
    ModelSpec,
    RunFolder,
    create_run_folder,
    dataset_provenance,
    open_run_folder,
    read_run_config,
    read_run_dataset,
)
from mnsa.training.loggers import CSVMetricsLogger, open_loggers
from mnsa.training.module import EpochSeedCallback, StageModule
from mnsa.training.preflight import require_mask_pixels, require_trainable, thin_class_values, warn_about_wide_classes
from mnsa.training.stages import (
    Teacher,
    has_class_head,
    has_mask_head,
    load_matching_parts,
    read_init_weights,
    read_teacher,
    set_trainable_parts,
)
from mnsa.training.warm_start import INITIAL_CHECKPOINT, choose_checkpoint, warm_start

PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "float32": "32-true",
    "bfloat16": "bf16-mixed",
    "float16": "16-mixed",
}
_NETWORK_PREFIX = "network."  # of the network's weights in a checkpoint of `StageModule`
# Parts of Lightning's warnings that a user can't act on: about its loaders, its own deprecations, its defaults.
_LIGHTNING_ADVICE = "many workers|LeafSpec|exists and is not empty|in eval mode|logging interval|Grad strides"

logger = logging.getLogger(__name__)


class TrainingInterruptedError(MnsaError):
    """Training was interrupted by Ctrl-C. The weights of the last complete epoch are saved."""

    exit_code = 130


def train(config: Config, dataset: Path, out: Path, *, devices: int = 1, progress: bool | None = None) -> RunFolder:
    """Train a network on a data set into a new run folder.

    devices: number of processes, one GPU each if available. progress: show a progress bar; None: on a terminal and in a
    notebook. The scores of each epoch are log messages of `mnsa.training` (level INFO); nothing is printed.
    Raises: ConfigError, DataError, ModelError, RunError for bad input, before training starts;
    TrainingInterruptedError after Ctrl-C.
    """
    manifest = read_manifest(Path(dataset))
    _validate(config, manifest)
    return train_validated(config, manifest, Path(dataset), Path(out), devices=devices, progress=progress)


def train_validated(
    config: Config, manifest: Manifest, dataset: Path, out: Path, *,
    devices: int = 1, progress: bool | None = None, callbacks: Sequence[Callback] = (),
) -> RunFolder:  # fmt: skip
    """Train like `train`, on data that `train` or a search has validated already. Raises: as `train`.

    callbacks: Lightning callbacks for every stage.
    """
    network = _build_network(config, manifest)
    teacher = read_teacher(config.train, network, manifest.mask_classes)
    run = create_run_folder(out, config, dataset_provenance(manifest, dataset)) if is_rank_zero() else RunFolder(out)
    return _Training(run, config, manifest, network, devices, progress, tuple(callbacks), teacher).run_stages()


def resume(path: Path, *, dataset: Path | None = None, devices: int = 1, progress: bool | None = None) -> RunFolder:
    """Continue an interrupted run: load the finished stages and continue the current one. Arguments: as `train`.

    dataset: where the data set is now; None: where it was. Raises: RunError for another data set; else as `train`.
    """
    run = open_run_folder(Path(path))
    config = read_run_config(run)
    known, digest = read_run_dataset(run)
    if dataset is None and not known.exists():
        raise RunError(f"{known} does not exist. If the data set has moved: mnsa train --resume {path} --data FOLDER.")
    manifest = read_manifest(dataset or known)
    if manifest.digest() != digest:
        raise RunError(f"{dataset or known} has changed since {path} began. Start a new run with mnsa train --out.")
    _validate(config, manifest)
    if dataset is not None and is_rank_zero():
        write_json(run.provenance_file, {**read_json(run.provenance_file), "dataset": str(dataset.resolve())})
    network = _build_network(config, manifest)
    teacher = read_teacher(config.train, network, manifest.mask_classes)
    return _Training(run, config, manifest, network, devices, progress, teacher=teacher).run_stages()


def is_rank_zero() -> bool:
    """Check whether this process writes files: the only one, or rank 0 of those that torchrun or Lightning started."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hide Lightning's messages: hardware, tips, and warnings that a user can't act on."""
    lightning_logger = logging.getLogger("lightning.pytorch")
    level = lightning_logger.level
    lightning_logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=f".*({_LIGHTNING_ADVICE})")
            yield
    finally:
        lightning_logger.setLevel(level)


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

    def run_stages(self) -> RunFolder:
        """Run all stages and save the network. Raises: as `train`."""
        for stage in self.config.stages:
            finished = self.run.checkpoint_folder(stage.name) / "done"
            if not finished.exists():
                trainer = self._fit(stage)
                trainer.strategy.barrier()
                if trainer.is_global_zero:
                    finished.touch()
            self._load_best_weights(stage)
        if is_rank_zero():
            save_network(self.run.model_folder, self.network, _model_spec(self.config, self.manifest, self.network))
        return self.run

    def _fit(self, stage: StageConfig) -> lightning.Trainer:
        """Train one stage, from its last checkpoint if there is one."""
        config = self.config
        lightning.seed_everything(config.train.seed, workers=True, verbose=False)
        module = StageModule(
            self.network,
            stage,
            config.loss,
            mask_classes=max(1, len(self.manifest.mask_classes)),
            class_weights=class_weights(self.manifest) if config.loss.class_weights == "balanced" else None,
            thin_classes=thin_class_values(config.loss, self.manifest.mask_classes),
            select_by=config.train.select_by,
            teacher=self.teacher,
        )
        loaders = _build_data_module(config, stage, self.manifest, self.network)
        last = self.run.checkpoint_folder(stage.name) / "last.ckpt"
        resumes = last.exists()
        if resumes:
            _load_checkpoint(last)  # raises for a damaged file; Lightning would show a traceback
        elif stage == self._warm_started_stage():
            initial = last.with_name(INITIAL_CHECKPOINT)
            warm_start(module, self.manifest, config.data, loaders.val_dataloader(), initial, writes=is_rank_zero())
        with quiet_lightning(), open_loggers(self.run, config, stage.name, first_process=is_rank_zero()) as loggers:
            trainer = self._build_trainer(stage, loggers)
            try:
                trainer.fit(module, loaders, ckpt_path=last if resumes else None, weights_only=resumes or None)
            except SystemExit:
                if not trainer.interrupted:
                    raise
                raise TrainingInterruptedError(
                    f"Interrupted in epoch {trainer.current_epoch + 1} of stage {stage.name!r}. The epochs before it "
                    f"are saved. Continue with: mnsa train --resume {self.run.path}"
                ) from None
        return trainer

    def _build_trainer(self, stage: StageConfig, loggers: list[Logger]) -> lightning.Trainer:
        train, shows_bar = self.config.train, _shows_progress_bar(self.progress)
        distributed = self.devices > 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1
        callbacks = self._build_callbacks(stage, monitors_lr=bool(loggers))
        return lightning.Trainer(
            max_epochs=stage.epochs,
            precision=PRECISIONS[train.precision],
            gradient_clip_val=train.gradient_clip or None,
            devices=self.devices,
            strategy="ddp" if distributed else "auto",
            plugins=None if TorchElasticEnvironment.detect() else [LightningEnvironment()],  # never SLURM_NTASKS
            sync_batchnorm=distributed and torch.cuda.is_available(),
            use_distributed_sampler=False,  # `EpochSampler` divides the rows among the processes
            callbacks=[*callbacks, TQDMProgressBar()] if shows_bar else callbacks,
            logger=loggers or False,
            num_sanity_val_steps=0,
            enable_model_summary=False,
            enable_progress_bar=shows_bar,
            default_root_dir=self.run.path,
        )

    def _build_callbacks(self, stage: StageConfig, *, monitors_lr: bool) -> list[Callback]:
        train, folder = self.config.train, self.run.checkpoint_folder(stage.name)
        checkpoint = partial(ModelCheckpoint, folder, save_on_train_epoch_end=True, enable_version_counter=False)
        callbacks = [
            CSVMetricsLogger(self.run.metrics_file, stage.name),
            EpochSeedCallback(train.seed),
            *self.callbacks,
            checkpoint(filename="best", monitor="val_score", mode="max"),
            checkpoint(filename="last"),  # after `best`, so that it stores which epoch was the best
        ]
        if stage.patience:
            callbacks.append(EarlyStopping("val_score", mode="max", patience=stage.patience))
        if train.ema_decay:
            callbacks.append(EMAWeightAveraging(decay=train.ema_decay))
        if monitors_lr:
            callbacks.append(LearningRateMonitor(logging_interval="epoch"))
        return callbacks

    def _load_best_weights(self, stage: StageConfig) -> None:
        folder = self.run.checkpoint_folder(stage.name)
        checkpoint: Mapping[str, Any] = _load_checkpoint(folder / "best.ckpt")
        if (initial := folder / INITIAL_CHECKPOINT).exists():
            checkpoint = choose_checkpoint(checkpoint, _load_checkpoint(initial))
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


def _validate(config: Config, manifest: Manifest) -> None:
    require_trainable(config, manifest)
    if is_rank_zero():
        inspections = require_valid(manifest)  # opens every file once
        require_mask_pixels(config, manifest, [inspection.mask for inspection in inspections])
        warn_about_wide_classes(config, manifest)


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
        _build_data_module(config, stage, manifest, network)
    return network


def _build_data_module(config: Config, stage: StageConfig, manifest: Manifest, network: Network) -> LeafDataModule:
    train, loss = config.train, config.loss
    needs_centerlines = loss.needs_centerlines and "segmentation" in stage.tasks
    return LeafDataModule(
        manifest, config.data, config.augment, mean=network.backbone.mean, std=network.backbone.std,
        batch_size=stage.batch_size, seed=train.seed,
        workers=min(train.workers, os.cpu_count() or 1),  # the batches don't depend on the number of workers
        cache=DecodedCache(Path(train.cache), int(train.cache_gb * 1e9)) if train.cache else None,
        thin_classes=thin_class_values(loss, manifest.mask_classes) if needs_centerlines else (),
    )  # fmt: skip


def _model_spec(config: Config, manifest: Manifest, network: Network) -> ModelSpec:
    """Describe the network; class names only for the heads that it has."""
    classes = manifest.classes if network.class_head else ()
    mask_classes = manifest.mask_classes if network.decoder else ()
    return ModelSpec(config.model, config.data, classes, mask_classes)


def _load_checkpoint(path: Path) -> dict[str, Any]:
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        raise RunError(f"{path} can't be read ({error}). Train again into a new folder.") from None
    return checkpoint


def _shows_progress_bar(progress: bool | None) -> bool:
    """Apply the default of `progress`: a bar on a terminal and in a notebook, none in a log file."""
    return (sys.stdout.isatty() or "ipykernel" in sys.modules) if progress is None else progress
