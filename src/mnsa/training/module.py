"""A LightningModule for one stage: losses in training, scores in validation. And a callback that seeds every step."""

import logging
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple, Self

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mnsa.config import LossConfig, SelectBy, StageConfig
from mnsa.config.section import Task
from mnsa.data.dataset import SampleIndex, sample_seed
from mnsa.errors import ConfigError, RunError, is_out_of_memory
from mnsa.metrics.torch_metrics import ValidationScores
from mnsa.model.heads import full_size_masks
from mnsa.model.network import Network, pad_to_stride
from mnsa.model.ops.recompute import recomputing
from mnsa.own_parts import load_own_part
from mnsa.structures import IGNORE_INDEX, Batch, FeaturePyramid
from mnsa.training import losses
from mnsa.training.loggers import EpochMeans
from mnsa.training.mixing import BatchMixer
from mnsa.training.optimizers import ChannelsLastAdamW, ChannelsLastSGD
from mnsa.training.out_of_memory import free_memory, out_of_memory_message
from mnsa.training.stages import MaskTeacher, Teacher, set_train_modes, set_trainable_parts

_MODULE = "module"  # key of a checkpoint: the class that trains the stage
SMALLEST_PART = 2  # images; BatchNorm needs several

logger = logging.getLogger(__name__)


class StepSeedCallback(Callback):
    """Seed every step from seed, epoch, process and step, so that a resumed run equals an uninterrupted one."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: lightning.Trainer, _module: lightning.LightningModule, _batch: Any, batch_idx: int
    ) -> None:
        seed = sample_seed(self.seed, SampleIndex(trainer.current_epoch, trainer.global_rank, batch_idx))
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % (1 << 32))


class StageOutputs(NamedTuple):
    """The outputs that the losses of a stage need; None or empty for a task that the stage doesn't train.

    class_logits (B, K); attention (B, 1, H/32, W/32); mask_logits (B, M, h, w) at the mask head's own size; side_logits
    (B, 1, h, w) of decoder levels 2..5, for deep supervision.
    """

    class_logits: Tensor | None = None
    attention: Tensor | None = None
    mask_logits: Tensor | None = None
    side_logits: tuple[Tensor, ...] = ()


class StageModule(lightning.LightningModule):
    """Train the stage's `trainable` parts on its tasks.

    class_weights: (K,), for the cross-entropy. thin_classes: mask values of the classes with centerlines. teacher:
    softens the mask targets. recompute: see `mnsa.model.ops.recompute`. mixer: blends training images.
    """

    def __init__(
        self, network: Network, stage: StageConfig, loss: LossConfig, *, mask_classes: int,
        class_weights: Tensor | None, thin_classes: Sequence[int] = (1,), teacher: Teacher | None = None,
        select_by: SelectBy = "auto", on_nan: Literal["stop", "skip"] = "stop", recompute: bool = True,
        mixer: BatchMixer | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.network = network
        self.stage = stage
        self.loss = loss
        self.mask_classes = mask_classes
        self.class_weights = class_weights
        self.thin_classes = thin_classes
        self.needs_centerlines = loss.needs_centerlines
        self.teacher = teacher
        self.scores = ValidationScores(mask_classes, select_by)
        self.on_nan = on_nan
        self.recompute = recompute
        self.mixer = mixer
        self.own_losses = {name: load_own_part("losses", name) for name in loss.own}
        self.parts = 1 if stage.batch_parts == "auto" else stage.batch_parts
        self._means, self._shape = EpochMeans(), (0, 0, 0)  # shape of the step's images: number, height, width
        self._losses: dict[str, Tensor] = {}  # of the step, to be logged
        self._loss_is_finite = True
        self._buffers_before: list[Tensor] = []
        set_trainable_parts(network, stage)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if mode:
            set_train_modes(self.network, self.stage)
        return self

    def on_train_start(self) -> None:
        self.train()  # Lightning keeps the modes that it finds
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, LambdaLR):  # a resumed stage may have more epochs than before, and so other rates
            for group, base, factor in zip(
                scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
            ):
                group["lr"] = base * factor(scheduler.last_epoch)

    def compute_loss(self, batch: Batch) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        """Compute the loss of a batch, and its terms by name: (weight, value)."""
        batch = pad_batch(batch)
        with recomputing(self.recompute):
            outputs = self.compute_outputs(self.compute_pyramid(batch.images), batch.images)
            terms = self.loss_terms(batch, outputs, self.teacher)
        return losses.weighted_sum(terms), terms

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Compute the loss of a batch. Of several parts, all but the last go back through the network here."""
        if self.on_nan == "skip":
            self._buffers_before = [buffer.clone() for buffer in self.network.buffers()]
        batch = batch if self.mixer is None else self.mixer(batch)
        self._losses, self._loss_is_finite, total = {}, True, torch.zeros(())
        size, self._shape = len(batch.images), (len(batch.images), *batch.images.shape[-2:])
        parts = batch.split(self.parts, SMALLEST_PART)
        for number, part in enumerate(parts, start=1):
            loss, terms = self.compute_loss(part)
            share = len(part.images) / size
            total = loss if len(parts) == 1 else share * loss
            self._loss_is_finite &= bool(loss.isfinite())
            for name, value in (("loss", loss), *((f"loss_{name}", value) for name, (_, value) in terms.items())):
                self._losses[name] = self._losses.get(name, 0.0) + share * value.detach()
            if number < len(parts):
                self.trainer.strategy.backward(total, None)
        return total

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Keep the gradients of the first parts of a batch; `optimizer_step` sets them to zero."""

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stop, or undo the step and count it, if the loss or the gradient is not finite."""
        scales = self.trainer.precision == "16-mixed"  # its own scaler skips steps with infinite gradients
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        for name, value in self._losses.items() if self._loss_is_finite else ():
            self._means.add(name, value, self._shape[0])
        finite = self._loss_is_finite and (scales or bool(torch.nn.utils.get_total_norm(gradients).isfinite()))
        if not finite and self.on_nan == "stop":
            raise ConfigError(self._nan_message(f"step {self.trainer.fit_loop.epoch_loop.batch_idx + 1}"))
        if not finite:
            for buffer, before in zip(self.network.buffers(), self._buffers_before, strict=True):
                buffer.copy_(before)  # the statistics of BatchNorm
            if not scales:
                optimizer.zero_grad()  # without a gradient, a step changes nothing
        if self.on_nan == "skip":
            self._means.count("skipped_steps", not finite)

    def _nan_message(self, where: str) -> str:
        name = self.stage.name
        return (
            f"The loss or the gradient of stage {name!r} is not a finite number in epoch {self.current_epoch + 1}, "
            f"{where}. Lower stages.{name}.lr, set train.precision to float32, or leave out such steps: "
            'train.on_nan = "skip". Complete epochs are saved.'
        )

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        def compute_gradients() -> Any:
            while optimizer_closure is not None:
                try:
                    return optimizer_closure()
                except (RuntimeError, MemoryError, OSError) as error:
                    if not is_out_of_memory(error) or self.trainer.world_size > 1:  # see BatchPartsCallback
                        raise
                    size = self._shape  # the error holds the activations, until this block ends
                self.divide_batch(size)
                optimizer.zero_grad()
                free_memory()
            return None

        super().optimizer_step(epoch, batch_idx, optimizer, compute_gradients)
        # Lightning would free the gradients, which are as large as the weights, only after the next forward pass.
        optimizer.zero_grad()

    def divide_batch(self, size: tuple[int, int, int]) -> None:
        """Take batches in twice as many parts from now on. size: images, height, width. Raises: ConfigError."""
        (images, height, width), most = size, max(1, size[0] // SMALLEST_PART)
        now, self.parts = min(self.parts, most), min(most, 2 * self.parts)
        if now == self.parts or self.stage.batch_parts != "auto":
            raise ConfigError(out_of_memory_message(self.stage, -(-images // now), height, width))
        logger.log(
            logging.WARNING if self.trainer.is_global_zero else logging.DEBUG,
            f"{self.stage.name}: not enough memory for {-(-images // now)} images of {height} x {width} px at once. "
            f"Each batch of {images} is now taken in {self.parts} parts, whose gradients are added.",
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint |= {"batch_parts": self.parts, "epoch_means": self._means.state(), _MODULE: type(self).__name__}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if checkpoint.get(_MODULE, "StageModule") != type(self).__name__:
            raise RunError("This run belongs to a search. Continue it with: mnsa search --join STUDY")
        if self.stage.batch_parts == "auto":
            self.parts = int(checkpoint.get("batch_parts", 1))
        self._means.load(checkpoint.get("epoch_means", ()))

    def validation_step(self, batch: Batch, _index: int) -> None:
        batch = pad_batch(batch)
        outputs, masks = self.compute_outputs(self.compute_pyramid(batch.images), batch.images), None
        if outputs.mask_logits is not None:
            masks = full_size_masks(outputs.mask_logits, batch.images)
        self.scores.update(outputs.class_logits, batch.labels, masks, batch.masks)

    def on_validation_epoch_end(self) -> None:
        means = self._means.pop()
        if self._losses and "loss" not in means:
            raise ConfigError(self._nan_message("every step"))
        for name, value in means.items():
            self.log(name, value, prog_bar=name == "loss", sync_dist=True)
        for name, value in self.scores.compute().items():
            self.log(f"val_{name}", value.float(), prog_bar=True, sync_dist=True)
        self.scores.reset()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = _build_optimizer(self.network, self.stage)
        steps = int(self.trainer.estimated_stepping_batches)
        warmup = round(self.stage.warmup_epochs * steps / self.stage.epochs)
        scheduler = LambdaLR(optimizer, lambda step: _lr_factor(step, steps, warmup, self.stage.schedule))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def compute_pyramid(self, images: Tensor) -> FeaturePyramid:
        """Run the backbone on images whose sides are multiples of 32; without gradients if it is frozen."""
        frozen = not any(p.requires_grad for p in self.network.backbone.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            return self.network.features(images.contiguous(memory_format=torch.channels_last))

    def compute_outputs(self, pyramid: FeaturePyramid, images: Tensor) -> StageOutputs:
        """Run the other parts of the network that the stage's tasks need."""
        outputs = StageOutputs()
        if "classification" in self.stage.tasks:
            class_logits, attention = self.network.classify(pyramid)
            outputs = outputs._replace(class_logits=class_logits, attention=attention)
        if "segmentation" in self.stage.tasks:
            if self.loss.deep_supervision:
                mask_logits, sides = self.network.segment_with_side_logits(pyramid, images)
            else:
                mask_logits, sides = self.network.segment(pyramid, images), ()
            outputs = outputs._replace(mask_logits=mask_logits, side_logits=sides)
        return outputs

    def loss_terms(
        self, batch: Batch, outputs: StageOutputs, teacher: MaskTeacher | None
    ) -> dict[str, tuple[float, Tensor]]:
        """Return name -> (weight, loss) of a padded batch, in float32 for any precision of the network."""
        loss, terms = self.loss, {}
        if outputs.class_logits is not None:
            logits = outputs.class_logits.float()
            labels = batch.labels if batch.label_shares is None else batch.label_shares
            entropy = losses.classification_loss(logits, labels, self.class_weights, loss.label_smoothing)
            terms["classification"] = (loss.classification, entropy)
            for name, weight in self._own_losses("classification"):
                terms[name] = (weight, self.own_losses[name](logits, labels))
        if outputs.attention is not None and loss.mask_guidance > 0:
            terms["guidance"] = (loss.mask_guidance, losses.guidance_loss(outputs.attention, batch.masks))
        if outputs.mask_logits is not None:
            logits = outputs.mask_logits.float()
            weight = losses.OUTPUT_WEIGHT if loss.deep_supervision else 1.0
            height, width = logits.shape[-2:]
            targets, valid = losses.mask_targets(batch.masks, (height, width), self.mask_classes, batch.mask_shares)
            labels = targets
            if teacher is not None:
                targets = teacher.soften(labels, batch.images)
            terms["segmentation"] = (weight * loss.segmentation, losses.pixel_loss(logits, targets, valid))
            if loss.dice > 0:
                terms["dice"] = (weight * loss.dice, losses.dice_loss(logits, targets, valid, labels))
            for name, weight in self._own_losses("segmentation"):
                terms[name] = (weight, self.own_losses[name](logits, targets, valid))
            if loss.deep_supervision:
                sides = losses.side_loss(outputs.side_logits, batch.masks)
                terms["sides"] = (losses.SIDES_WEIGHT * loss.segmentation, sides)
            if self.needs_centerlines:
                thin = losses.thin_targets(batch, self.thin_classes)
                terms |= self._thin_terms(logits, labels, valid, thin, weight)
        return terms

    def _own_losses(self, task: Task) -> Iterator[tuple[str, float]]:
        """The names and weights of the losses of other packages for a task; see docs/how-to/own-parts.md."""
        for name, part in self.own_losses.items():
            if getattr(part, "task", "segmentation") == task:
                yield name, self.loss.own[name]

    def _thin_terms(
        self, logits: Tensor, targets: Tensor, valid: Tensor, thin: losses.ThinTargets, weight: float
    ) -> dict[str, tuple[float, Tensor]]:
        """Return the terms for thin structures. weight: of all losses of the output."""
        loss, terms = self.loss, {}
        channels = [value if self.mask_classes > 1 else 0 for value in self.thin_classes]
        probs = torch.stack([losses.mask_probs(logits)[:, channel] for channel in channels], dim=1)
        if loss.cldice > 0:
            cldice = losses.cldice_loss(probs, thin, valid, loss.cldice_iterations)
            terms["cldice"] = (weight * loss.cldice, cldice)
        if loss.skeleton_recall > 0:
            recall = losses.skeleton_recall_loss(probs, thin, valid)
            terms["skeleton_recall"] = (weight * loss.skeleton_recall, recall)
        if loss.centerline > 0:
            entropy = losses.centerline_loss(logits, targets, valid, thin)
            terms["centerline"] = (weight * loss.centerline, entropy)
        return terms


def pad_batch(batch: Batch) -> Batch:
    """Pad images and masks to sides that are multiples of 32. The padding is ignored in the losses."""
    images, masks = pad_to_stride(batch.images), pad_to_stride(batch.masks, IGNORE_INDEX)
    lines = None if batch.centerlines is None else pad_to_stride(batch.centerlines)
    shares = None if batch.mask_shares is None else pad_to_stride(batch.mask_shares)
    return replace(batch, images=images, masks=masks, centerlines=lines, mask_shares=shares)


def _build_optimizer(network: Network, stage: StageConfig) -> Optimizer:
    backbone = [p for p in network.backbone.parameters() if p.requires_grad]
    others = [p for name, p in network.named_parameters() if p.requires_grad and not name.startswith("backbone.")]
    groups = [{"params": others, "lr": stage.lr}, {"params": backbone, "lr": stage.backbone_lr or stage.lr}]
    groups = [group for group in groups if group["params"]]
    # fused: one pass over weights, gradients and momenta instead of one per term of the update
    if stage.optimizer == "sgd":
        return ChannelsLastSGD(groups, lr=stage.lr, momentum=0.9, weight_decay=stage.weight_decay, fused=True)
    return ChannelsLastAdamW(groups, lr=stage.lr, weight_decay=stage.weight_decay, fused=True)


def _lr_factor(step: int, steps: int, warmup: int, schedule: str) -> float:
    """Compute the factor of the learning rate: linear warm-up from 1 / warmup to 1, then constant or a cosine to 0."""
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
