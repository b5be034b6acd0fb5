"""The slow side of the benchmarks is the upstream network: its parameters, its numbers, and mnsa's answers."""

import numpy as np
import pytest
import torch

from mnsa.model.network import build_network
from mnsa.model.upstream import convert_upstream
from parity_weights import PARITY, TOLERANCE, images, relative_errors, upstream_checkpoint
from upstream_network import UpstreamNetwork, second_stage

TINY = "test_efficientnet"  # timm's own test network


def test_it_has_the_parameters_of_the_released_network() -> None:
    with torch.device("meta"):
        network = UpstreamNetwork("densenet161", classes=200)
    assert sum(p.numel() for p in network.parameters()) == 451_995_427


@torch.inference_mode()
def test_it_answers_as_mnsa_does_with_the_same_weights() -> None:
    torch.manual_seed(0)
    theirs = UpstreamNetwork("resnet18", classes=7).eval()
    found = convert_upstream(theirs.checkpoint())
    ours = build_network(found.model, found.classes, found.mask_classes).eval()
    ours.load_state_dict(found.state)
    x = torch.randn(2, 3, 64, 96)
    expected, pyramid = theirs(x), ours.features(x)
    mask_logits, sides = ours.segment_with_side_logits(pyramid, x)
    torch.testing.assert_close(ours.classify(pyramid)[0], expected.class_logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mask_logits, expected.mask_logits, rtol=1e-4, atol=1e-5)
    for side, output in zip(sides, expected.outputs[1:], strict=True):
        torch.testing.assert_close(side, output.mean(dim=1, keepdim=True), rtol=1e-4, atol=1e-5)


def test_a_forward_runs_the_backbone_twice() -> None:
    network, calls = UpstreamNetwork(TINY, classes=2).eval(), []
    network.features.register_forward_hook(lambda *_: calls.append(1))
    network(torch.randn(1, 3, 32, 32))
    assert len(calls) == 2


def test_its_second_stage_moves_enhancer_and_decoder_alone() -> None:
    torch.manual_seed(0)
    trainee = second_stage(UpstreamNetwork(TINY, classes=2))
    before = {key: value.clone() for key, value in trainee.network.state_dict().items()}
    trainee.step(torch.randn(2, 3, 64, 64), (torch.rand(2, 64, 64) > 0.9).long())
    moved = {
        key.partition(".")[0] for key, value in trainee.network.state_dict().items() if (value != before[key]).any()
    }
    branches = {"deconv_layers_3", "deconv_layers_5", "atrous_conv_layers_2", "atrous_conv_layers_3"}
    assert moved == branches | {"max_min_expan_layers", "tranformers", "center", "center2", "decoder_layers"}


@pytest.mark.slow
@torch.inference_mode()
def test_it_computes_what_the_released_code_computes() -> None:
    if not PARITY.is_dir():
        pytest.skip(f"the upstream code's numbers are not at {PARITY}")
    with torch.device("meta"):
        network = UpstreamNetwork("densenet161", classes=200).eval()
    network.load_checkpoint(upstream_checkpoint(classification_only=False))
    answers = network(images())
    found = {"class_logits": answers.class_logits, "mask_logits": answers.mask_logits}
    found |= {f"decoder_{level}": answers.outputs[level - 1].mean(dim=1, keepdim=True) for level in (2, 3, 4, 5)}
    assert set(found) == set(np.load(PARITY / "expected.npz"))
    for name, error in relative_errors(found).items():
        assert error < TOLERANCE, f"{name} is off by {error:.1e} standard deviations"
