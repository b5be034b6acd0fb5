"""The LightningModule of a supernet: a step trains the widest network, the smallest and two random ones.

Sources: J. Yu and T. Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019, for the
sandwich rule and in-place distillation.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mnsa.config import Config, ModelConfig
from mnsa.model.ops.recompute import recomputing
from mnsa.search.slices import SubNetwork
from mnsa.search.space import SearchSpace, apply_point, random_point, smallest_point
from mnsa.structures import Batch
from mnsa.training import losses
from mnsa.training.module import StageModule, StageOutputs, pad_batch

RANDOM_NETWORKS = 2  # of a step


@dataclass(frozen=True)
class WidthSampler:
    """Draws the networks of a training step. They depend on the seed, the stage and the step alone.

    So a training that was continued draws what an uninterrupted one draws.
    """

    config: Config
    space: SearchSpace

    def narrow_models(self, stage: str, step: int) -> Iterator[ModelConfig]:
        """Yield the configs of the smallest network, then of the random ones."""
        rng = random.Random(f"{self.config.train.seed}/{stage}/{step}")  # noqa: S311 - widths, not secrets
        yield apply_point(self.config, smallest_point(self.space)).model
        for _ in range(RANDOM_NETWORKS):
            yield apply_point(self.config, random_point(self.space, rng)).model


@dataclass(frozen=True)
class InPlaceTeacher:
    """The widest network's answer for a batch as the mask targets of the narrower ones.

    probs: (B, M, h, w), detached: the widest network learns from the masks alone.
    """

    probs: Tensor

    def soften(self, targets: Tensor, images: Tensor) -> Tensor:  # noqa: ARG002 - of the batch that probs are for
        """Return the probabilities in place of `targets`."""
        return self.probs


class SupernetModule(StageModule):
    """Train all widths of a space at once: the mean loss of the widest, the smallest and two random networks.

    The widest network learns from the masks, and the others its answers. Class logits do not depend on widths, so their
    loss counts once. Validation scores are those of the widest network. widths: draws the others.
    """

    def __init__(self, *arguments: Any, widths: WidthSampler, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.widths = widths

    def compute_loss(self, batch: Batch) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        if "segmentation" not in self.stage.tasks:
            return super().compute_loss(batch)
        with recomputing(self.recompute):
            return self._compute_mean_loss(pad_batch(batch))

    def _compute_mean_loss(self, batch: Batch) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
        pyramid = self.compute_pyramid(batch.images)
        outputs = self.compute_outputs(pyramid, batch.images)
        assert outputs.mask_logits is not None  # noqa: S101 - the stage has the task
        terms = self.loss_terms(batch, outputs, self.teacher)
        teacher = InPlaceTeacher(losses.mask_probs(outputs.mask_logits.float()).detach())
        values = {name: [value] for name, (_, value) in terms.items()}
        for model in self.widths.narrow_models(self.stage.name, self.global_step):
            network = SubNetwork(self.network, model, self.mask_classes)
            network.train(self.network.decoder.training)  # type: ignore[union-attr]
            logits, sides = network.segment(pyramid, batch.images, sides=self.loss.deep_supervision)
            narrow = self.loss_terms(batch, StageOutputs(mask_logits=logits, side_logits=sides), teacher)
            for name, (_, value) in narrow.items():
                values[name].append(value)
        means = {name: (weight, torch.stack(values[name]).mean()) for name, (weight, _) in terms.items()}
        return losses.weighted_sum(means), means
