"""Narrower networks as slices of the weights of the widest one: the networks that a supernet holds.

A slice takes the first channels of every branch of the enhancer, of every skip and of every level of the decoder, and
the inputs that come from them. It computes what a network of these widths computes with the same weights. Backbone,
attention and class head are the same for all widths.

B batch; H, W image size; M mask classes; D_l, O_l channels of the enhancer's details and of the decoder's level l.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mnsa.config import ModelConfig
from mnsa.errors import ModelError
from mnsa.model.decoder import EnhancedDecoder
from mnsa.model.enhancer import Enhancer, detail_indices, enhancer_levels, slice_weights
from mnsa.model.heads import FullMaskHead
from mnsa.model.network import Network, add_mask_parts
from mnsa.structures import FeaturePyramid

MASK_PARTS = ("enhancer", "decoder", "mask_head")  # the parts with widths


class SubNetwork:
    """A narrower network that runs with slices of the widest one's weights: gradients go to those.

    It owns nothing but the BatchNorm statistics of its decoder and mask head, which are new. momentum: of these
    statistics; None: a cumulative average. Raises: ModelError when a part is wider than in the widest network.
    """

    def __init__(
        self, widest: Network, config: ModelConfig, mask_classes: int, *, momentum: float | None = 0.1
    ) -> None:
        narrow = Network(widest.backbone, attention=widest.attention, class_head=widest.class_head)
        with torch.device("meta"):  # shapes, no weights
            add_mask_parts(narrow, config, mask_classes)
        self._widest, self._segmenter = widest, _Segmenter(narrow)
        slice_mask_parts(widest, narrow)  # raises now if it doesn't fit
        device = next(widest.parameters()).device
        self.statistics: dict[str, Tensor] = {}
        for name, module in [item for part in MASK_PARTS for item in getattr(narrow, part).named_modules(prefix=part)]:
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum
                new = nn.BatchNorm2d(module.num_features, device=device)
                self.statistics |= {f"{name}.{buffer}": value for buffer, value in new.named_buffers()}

    def train(self, mode: bool = True) -> None:
        """Use the statistics of each batch, or those that were collected. Backbone and class head keep their mode."""
        for name in MASK_PARTS:
            getattr(self._segmenter.network, name).train(mode)

    def segment(
        self, pyramid: FeaturePyramid, images: Tensor, *, sides: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return mask_logits (B, M, h, w) of images (B, 3, H, W), and the side logits of deep supervision if asked."""
        tensors = {f"network.{name}": value for name, value in self._tensors().items()}
        outputs: tuple[Tensor, tuple[Tensor, ...]] = functional_call(self._segmenter, tensors, (pyramid, images, sides))
        return outputs

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the state dict of the whole narrow network."""
        shared = {k: v for k, v in self._widest.state_dict().items() if not k.startswith(MASK_PARTS)}
        return {name: value.detach().clone() for name, value in {**shared, **self._tensors()}.items()}

    def _tensors(self) -> dict[str, Tensor]:
        return slice_mask_parts(self._widest, self._segmenter.network) | self.statistics


class _Segmenter(nn.Module):
    """The second part of a network's forward pass as a module, for `functional_call`."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, pyramid: FeaturePyramid, images: Tensor, sides: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return mask_logits (B, M, h, w), and the side logits or nothing."""
        if sides:
            return self.network.segment_with_side_logits(pyramid, images)
        return self.network.segment(pyramid, images), ()


def slice_mask_parts(widest: Network, narrow: Network) -> dict[str, Tensor]:
    """Slice the parameters of enhancer, decoder and mask head to the names and shapes of `narrow`, as views or copies.

    Raises: ModelError when a part of `narrow` is wider, or when a network has no enhancer.
    """
    if widest.enhancer is None or narrow.enhancer is None:
        raise ModelError("only a network with model.decoder = 'enhanced' has slices of other widths.")
    slices = {f"enhancer.{name}": value for name, value in slice_weights(widest.enhancer, narrow.enhancer).items()}
    _require_narrower(widest, narrow)
    inputs = _kernel_inputs(widest, narrow)
    for part in MASK_PARTS[1:]:
        weights = dict(getattr(widest, part).named_parameters(prefix=part))
        slots = getattr(narrow, part).named_parameters(prefix=part)
        slices |= {name: _slice_outputs_and_inputs(weights[name], slot, inputs.get(name, [])) for name, slot in slots}
    return slices


def _slice_outputs_and_inputs(weight: Tensor, slot: Tensor, inputs: list[int]) -> Tensor:
    """Take the first outputs of a weight, and `inputs` of a kernel (O, C, k, k): the shape of the slot."""
    weight = weight[: len(slot)]
    if slot.dim() < 4 or weight.shape == slot.shape:
        return weight
    # in the memory format of a whole network, so that the same operations compute the same numbers
    chosen = weight.index_select(1, torch.tensor(inputs, device=weight.device))
    return chosen.contiguous(memory_format=torch.channels_last)


def _require_narrower(widest: Network, narrow: Network) -> None:
    """Raise ModelError for a decoder level or a skip that is wider. `slice_weights` does so for the branches."""
    channels = [
        (cast("EnhancedDecoder", network.decoder).out_channels, cast("Enhancer", network.enhancer).skip_channels)
        for network in (widest, narrow)
    ]
    for what, wide, slim in zip(("decoder", "skip"), *channels, strict=True):
        for level, (available, needed) in enumerate(zip(wide, slim, strict=True), start=1):
            if needed > available:
                raise ModelError(
                    f"the {what} of level {level} has {available} channels, so no slice of it has {needed}."
                )


def _kernel_inputs(widest: Network, narrow: Network) -> Mapping[str, list[int]]:
    """Return the input channels of each kernel of decoder and mask head that the narrow network keeps, by name."""
    wide, slim = (cast("EnhancedDecoder", network.decoder) for network in (widest, narrow))
    enhancers = [cast("Enhancer", network.enhancer) for network in (widest, narrow)]
    inputs: dict[str, list[int]] = {}
    coarse = (*slim.out_channels[1:], cast("nn.Conv2d", wide.bridge[0]).out_channels)
    for i, channels in enumerate(enhancers[0].in_channels):
        details = detail_indices(*(enhancer_levels(enhancer)[i] for enhancer in enhancers))
        enhanced = [*range(channels), *(channels + index for index in details)]  # [F_l ; D_l]
        start = channels + enhancers[0].channels[i]
        inputs[f"decoder.levels.{i}.mix.0.weight"] = [*enhanced, *range(start, start + coarse[i])]
        skip = range(wide.out_channels[i], wide.out_channels[i] + enhancers[1].skip_channels[i])
        inputs[f"decoder.levels.{i}.refine.0.weight"] = [*range(slim.out_channels[i]), *skip]
        inputs["decoder.bridge.0.weight"] = enhanced  # in the end that of level 5
    if isinstance(narrow.mask_head, FullMaskHead):
        hidden = narrow.mask_head.conv.in_channels
        phases = range(wide.out_channels[0], wide.out_channels[0] + 12)
        inputs["mask_head.mix.0.weight"] = [*range(slim.out_channels[0]), *phases]
        inputs |= {name: list(range(hidden)) for name in ("mask_head.refine.0.weight", "mask_head.conv.weight")}
    else:
        inputs["mask_head.conv.weight"] = list(range(slim.out_channels[0]))
    return inputs
