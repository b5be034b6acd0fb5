"""Several processes divide their batches alike, before one of them runs out of memory in the middle of a step."""

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from mnsa.errors import is_out_of_memory
from mnsa.structures import Batch
from mnsa.training.collectives import alone
from mnsa.training.module import SMALLEST_PART, StageModule
from mnsa.training.out_of_memory import free_memory

_TRIED_STEPS = 2  # the second one has the moments of the optimizer in memory, too


class BatchPartsCallback(Callback):
    """Try the first steps of a stage in each process alone; where one has too little memory, all take smaller parts.

    Within a step, the processes wait for each other's sums, and would wait forever for one that has to begin again.
    Memory that gets short later ends training with one paragraph, and a resume tries again.
    """

    def __init__(self) -> None:
        self._left = _TRIED_STEPS

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        self._left = _TRIED_STEPS

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Batch,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Raises: ConfigError, in all processes, when two images don't fit, or the parts are set in the config."""
        assert isinstance(pl_module, StageModule)  # noqa: S101 - the package trains no other
        if self._left == 0:
            return
        self._left -= 1
        while not trainer.strategy.reduce_boolean_decision(_fits(trainer, pl_module, batch), all=True):
            pl_module.divide_batch((len(batch.images), *batch.images.shape[-2:]))
            free_memory()


def _fits(trainer: lightning.Trainer, module: StageModule, batch: Batch) -> bool:
    """Check whether there is memory for the first part of a batch, forward and backward. Nothing else changes."""
    buffers: list[Any] = [(buffer, buffer.clone()) for buffer in module.network.buffers()]  # statistics of BatchNorm
    try:
        with (
            torch.random.fork_rng([module.device] if module.device.type == "cuda" else []),
            trainer.precision_plugin.train_step_context(),
            alone(),
        ):
            mixed = batch if module.mixer is None else module.mixer(batch)
            module.compute_loss(mixed.split(module.parts, SMALLEST_PART)[0])[0].backward()
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        module.zero_grad()
        for buffer, before in buffers:
            buffer.copy_(before)
    return True
