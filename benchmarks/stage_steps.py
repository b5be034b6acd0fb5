"""Steps of a training stage as `mnsa train` does them, one at a time: for benchmarks that time or measure a step.

Claim: none; imported by other benchmarks. Modes, frozen parts, memory format, precision, losses and optimizer are those
of `mnsa.training`. Loaders, logs, checkpoints, learning-rate schedule and moving average are left out.
"""

from pathlib import Path

import lightning
import torch

from mnsa.config import Config, StageConfig, load_config
from mnsa.model.network import Network
from mnsa.structures import Batch
from mnsa.training.module import StageModule, _build_optimizer
from mnsa.training.optimizers import disable_malloc_trim
from mnsa.training.trainer import PRECISIONS, quiet_lightning

CONFIGS = Path(__file__).parents[1] / "configs"
FOREGROUND = 0.05  # share of vein pixels in the published masks


class StageSteps:
    """A network in a stage of a config, ready to take steps."""

    def __init__(self, network: Network, config: Config, stage: str, mask_classes: int, device: torch.device) -> None:
        disable_malloc_trim()  # applies to the whole process, so also to the other side
        self.network = network.to(device)
        self.module = StageModule(
            self.network,
            stage_of(config, stage),
            config.loss,
            mask_classes=mask_classes,
            class_weights=None,
            recompute=config.train.recompute,
        )
        self.trainer = _bare_trainer(config, device)
        self.module.trainer = self.trainer
        self.module.log = lambda *_, **__: None  # needs a loop of Lightning
        self.module.train()
        self.optimizer = _build_optimizer(self.network, self.module.stage)

    def step(self, batch: Batch) -> None:
        """Take a step: forward, loss, backward and optimizer, in the order of Lightning and `StageModule`."""
        self.compute_gradients(batch)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def compute_gradients(self, batch: Batch) -> None:
        """Take a step without the optimizer, which has no kernel for `meta` tensors."""
        with self.trainer.precision_plugin.train_step_context():
            loss, _terms = self.module.compute_loss(batch)
        loss.backward()


def _bare_trainer(config: Config, device: torch.device) -> lightning.Trainer:
    with quiet_lightning():
        return lightning.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1,
            precision=PRECISIONS[config.train.precision],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )


def stage_of(config: Config, name: str) -> StageConfig:
    """Find a stage by its name."""
    return next(stage for stage in config.stages if stage.name == name)


def config_named(file: str, *overrides: str) -> Config:
    """Read a config of `configs/` with other precision, backbone, ...; no weights are fetched."""
    return load_config(CONFIGS / file, [*overrides, "model.pretrained=none"])


def random_batch(batch: int, size: tuple[int, int], *, classes: int, mask_classes: int, device: torch.device) -> Batch:
    """Draw a batch: noise for images, 5 % foreground."""
    generator = torch.Generator().manual_seed(0)
    foreground = torch.rand(batch, *size, generator=generator) < FOREGROUND
    kinds = torch.randint(1, max(2, mask_classes), (batch, *size), generator=generator)
    labels = torch.randint(0, classes, (batch,), generator=generator)
    return Batch(torch.randn(batch, 3, *size, generator=generator), foreground * kinds, labels).to(device)
