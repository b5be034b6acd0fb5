"""Random numbers of training itself, dropout above all, that an interruption can't shift."""

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from mnsa.data.sampler import Draw, draw_seed


class EpochSeed(Callback):
    """Seeds each epoch anew, from seed, epoch and process: a resumed run draws what an uninterrupted one draws."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        torch.manual_seed(draw_seed(self.seed, Draw(trainer.current_epoch, trainer.global_rank)))
