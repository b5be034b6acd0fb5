"""Training from start to finish: check, build, run the stages, save. `train` is the table of contents."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateMonitor,
    ModelCheckpoint,
)
from lightning.pytorch.loggers import Logger

from mnsa.config import Config, StageConfig
from mnsa.data.cache import DecodedCache
from mnsa.data.dataset import LeafDataModule, class_weights
from mnsa.data.manifest import Manifest, read_manifest
from mnsa.data.validation.validate import require_valid
from mnsa.errors import MnsaError, RunError
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
from mnsa.training.preflight import require_trainable
from mnsa.training.stages import set_trainable_parts
from mnsa.training.warm_start import has_class_head, has_mask_head, load_matching_parts, read_init_weights

_PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "float32": "32-true",
    "bfloat16": "bf16-mixed",
    "float16": "16-mixed",
}


class TrainingInterruptedError(MnsaError):
    """Ctrl-C: what was learnt up to the last whole epoch is kept."""

    exit_code = 130


def train(config: Config, dataset: Path, out: Path, *, devices: int = 1) -> RunFolder:
    """Train a network on a data set into a new run folder.

    Raises: ConfigError, DataError, ModelError, RunError for bad input, before anything is trained;
    TrainingInterruptedError after Ctrl-C.
    """
    manifest = read_manifest(dataset)
    _validate(config, manifest)
    return train_validated(config, manifest, dataset, out, devices=devices)


def train_validated(
    config: Config,
    manifest: Manifest,
    dataset: Path,
    out: Path,
    *,
    devices: int = 1,
    callbacks: Sequence[Callback] = (),
) -> RunFolder:
    """Train as `train` does, on data whose files were checked before; `callbacks` see every stage. Raises: as `train`.

    A search checks its data once, not for each trial.
    """
    network = _build_network(config, manifest)
    run = create_run_folder(out, config, dataset_provenance(manifest, dataset)) if is_rank_zero() else RunFolder(out)
    return _run_stages(run, config, manifest, network, devices, callbacks)


def resume(path: Path, *, devices: int = 1) -> RunFolder:
    """Continue an interrupted run where it stopped: finished stages are loaded, the current one goes on.

    Raises: RunError when `path` is no run folder or its data set has changed; otherwise as `train`.
    """
    run = open_run_folder(path)
    config = read_run_config(run)
    dataset, digest = read_run_dataset(run)
    manifest = read_manifest(dataset)
    if manifest.digest() != digest:
        raise RunError(f"{dataset} has changed since {path} was begun. Start a new run with mnsa train --out.")
    _validate(config, manifest)
    return _run_stages(run, config, manifest, _build_network(config, manifest), devices)


def _run_stages(
    run: RunFolder,
    config: Config,
    manifest: Manifest,
    network: Network,
    devices: int,
    callbacks: Sequence[Callback] = (),
) -> RunFolder:
    for stage in config.stages:
        _fit_stage(run, config, stage, manifest, network, devices, callbacks)
    if is_rank_zero():
        save_network(run.model_folder, network, _model_spec(config, manifest, network))
    return run


def _fit_stage(
    run: RunFolder,
    config: Config,
    stage: StageConfig,
    manifest: Manifest,
    network: Network,
    devices: int,
    callbacks: Sequence[Callback],
) -> None:
    """Train one stage; afterwards `network` holds its weights of the best epoch."""
    folder = run.checkpoint_folder(stage.name)
    done = folder / "done"
    if not done.exists():
        lightning.seed_everything(config.train.seed, workers=True, verbose=False)
        weights = class_weights(manifest) if config.loss.class_weights == "balanced" else None
        mask_classes = max(1, len(manifest.mask_classes))
        module = StageModule(network, stage, config.loss, mask_classes=mask_classes, class_weights=weights)
        with open_loggers(run, config, stage.name, first_process=is_rank_zero()) as loggers:
            with _quiet_lightning():
                trainer = _build_trainer(run, config, stage, devices, callbacks, loggers)
            _run_trainer(
                trainer, module, _build_data_module(config, stage, manifest, network), folder / "last.ckpt", run
            )
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            done.touch()
    best = _load_checkpoint(folder / "best.ckpt")["state_dict"]
    prefix = "network."
    network.load_state_dict({k.removeprefix(prefix): v for k, v in best.items() if k.startswith(prefix)}, strict=True)


def _build_data_module(config: Config, stage: StageConfig, manifest: Manifest, network: Network) -> LeafDataModule:
    workers = min(config.train.workers, os.cpu_count() or 1)  # the batches don't depend on their number
    return LeafDataModule(
        manifest, config.data, config.augment, mean=network.backbone.mean, std=network.backbone.std,
        batch_size=stage.batch_size, workers=workers, seed=config.train.seed, cache=_decoded_cache(config),
    )  # fmt: skip


def _decoded_cache(config: Config) -> DecodedCache | None:
    train = config.train
    return DecodedCache(Path(train.cache), int(train.cache_gb * 1e9)) if train.cache else None


def _build_trainer(
    run: RunFolder,
    config: Config,
    stage: StageConfig,
    devices: int,
    extra_callbacks: Sequence[Callback],
    loggers: list[Logger],
) -> lightning.Trainer:
    keep = partial(
        ModelCheckpoint, run.checkpoint_folder(stage.name), save_on_train_epoch_end=True, enable_version_counter=False
    )
    # `last` after `best`, so that it remembers which epoch was the best
    checkpoints = [keep(filename="best", monitor="val_score", mode="max"), keep(filename="last")]
    table, seed = CSVMetricsLogger(run.metrics_file, stage.name), EpochSeedCallback(config.train.seed)
    callbacks: list[Callback] = [table, seed, *extra_callbacks, *checkpoints]
    if stage.patience:
        callbacks.append(EarlyStopping("val_score", mode="max", patience=stage.patience))
    if config.train.ema_decay:
        callbacks.append(EMAWeightAveraging(decay=config.train.ema_decay))
    if loggers:
        callbacks.append(LearningRateMonitor(logging_interval="epoch"))
    return lightning.Trainer(
        max_epochs=stage.epochs,
        precision=_PRECISIONS[config.train.precision],
        gradient_clip_val=config.train.gradient_clip or None,
        devices=devices,
        strategy="ddp" if _is_distributed(devices) else "auto",
        sync_batchnorm=_is_distributed(devices) and torch.cuda.is_available(),
        use_distributed_sampler=False,  # the loaders' own sampler knows the processes
        callbacks=callbacks,
        logger=loggers or False,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        enable_progress_bar=sys.stderr.isatty(),  # a log file gets EpochTable's line per epoch instead
        default_root_dir=run.path,
    )


def _run_trainer(
    trainer: lightning.Trainer, module: StageModule, loaders: LeafDataModule, last: Path, run: RunFolder
) -> None:
    resuming = last.exists()
    if resuming:
        _load_checkpoint(last)  # refuses a damaged file; Lightning would end in a traceback
    try:
        with _quiet_lightning():
            trainer.fit(module, loaders, ckpt_path=last if resuming else None, weights_only=True if resuming else None)
    except SystemExit:
        if not trainer.interrupted:
            raise
        raise TrainingInterruptedError(
            f"Interrupted in epoch {trainer.current_epoch + 1} of stage {module.stage.name!r}; the epochs before it "
            f"are kept. Continue with: mnsa train --resume {run.path}"
        ) from None


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep back what Lightning says to its developers: advice on loaders, its own deprecations, advertisements."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        advice = "many workers|LeafSpec|exists and is not empty|in eval mode|logging interval|Grad strides"
        warnings.filterwarnings("ignore", message=f".*({advice})")
        yield


def _load_checkpoint(path: Path) -> dict[str, Any]:
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        raise RunError(f"{path} can't be read ({error}). Train again into a new folder.") from None
    return checkpoint


def _model_spec(config: Config, manifest: Manifest, network: Network) -> ModelSpec:
    """What the network knows: the data's names, as far as it has a head for them."""
    classes = manifest.classes if network.class_head else ()
    mask_classes = manifest.mask_classes if network.decoder else ()
    return ModelSpec(config.model, config.data, classes, mask_classes)


def _build_network(config: Config, manifest: Manifest) -> Network:
    """Build a network with a head for each task that a stage learns, or that it brings from where it starts."""
    torch.manual_seed(config.train.seed)
    model, source = config.model, config.train.init_from
    start = read_init_weights(Path(source), model.attention) if source else {}
    classifies = "classification" in config.tasks or has_class_head(start, len(manifest.classes))
    segments = "segmentation" in config.tasks or has_mask_head(start)
    blank = model.model_copy(update={"pretrained": "none"}) if source else model
    network = build_network(
        blank, len(manifest.classes) if classifies else 0, len(manifest.mask_classes) if segments else 0
    )
    if source and (message := load_matching_parts(network, start, source)) and is_rank_zero():
        print(message)  # noqa: T201
    for stage in config.stages:  # what a later stage would refuse is refused now
        set_trainable_parts(network, stage)
        _build_data_module(config, stage, manifest, network)
    return network


def _validate(config: Config, manifest: Manifest) -> None:
    require_trainable(config, manifest)
    if is_rank_zero():
        require_valid(manifest)  # opens every file once


def is_rank_zero() -> bool:
    """Under torchrun (or as a process that Lightning started) only rank 0 writes; the others find its folder."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def _is_distributed(devices: int) -> bool:
    return devices > 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1
