"""The whole network: number of parameters, one backbone pass, parts, and errors."""

import pytest
import torch
from torch import nn

from mnsa.config import ModelConfig
from mnsa.errors import ModelError
from mnsa.model.network import Network, build_network, pad_to_stride
from narrowing import some

TINY = ModelConfig(
    backbone="resnet18",
    pretrained="none",
    widths=(0.05,) * 5,
    offset_channels=4,
    bridge_channels=8,
    decoder_channels=(6, 6, 8, 8, 8),
)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("widths", "skip_ratio", "expected"),
    [
        ((1 / 8, 1 / 16, 1 / 4, 1 / 4, 1 / 8), 0.0, 438_263_116),
        ((1 / 8, 1 / 16, 1 / 4, 1 / 4, 1 / 8), 0.25, 451_995_427),
        ((1 / 8, 1 / 16, 1 / 4, 1 / 4, 1 / 8), 0.5, 465_785_117),
        ((1 / 16, 1 / 4, 1 / 16, 1 / 8, 1 / 4), 0.0, 445_027_204),
    ],
)
def test_the_paper_network_has_the_published_number_of_parameters(
    widths: tuple[float, float, float, float, float], skip_ratio: float, expected: int
) -> None:
    config = ModelConfig(preset="paper", pretrained="none", widths=widths, skip_ratio=skip_ratio)
    with torch.device("meta"):
        assert parameters(build_network(config, classes=200, mask_classes=1)) == expected


def test_the_paper_classifier_has_the_published_number_of_parameters() -> None:
    config = ModelConfig(preset="paper", pretrained="none")
    with torch.device("meta"):
        assert parameters(build_network(config, classes=200, mask_classes=0)) == 26_913_802


def test_the_small_preset_has_less_than_8_million_parameters() -> None:
    with torch.device("meta"):
        network = build_network(ModelConfig(pretrained="none"), classes=200, mask_classes=1)
    assert parameters(network) <= 8_000_000


def test_the_backbone_runs_once_per_forward() -> None:
    network = build_network(TINY, classes=3, mask_classes=1).eval()
    runs = []
    network.backbone.register_forward_hook(lambda *_: runs.append(1))
    network(torch.randn(1, 3, 64, 64))
    assert runs == [1]


def test_building_a_network_changes_no_batchnorm_statistics() -> None:
    for module in build_network(TINY, classes=3, mask_classes=1).modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.num_batches_tracked == 0
            assert some(module.running_mean).abs().max() == 0
            assert (some(module.running_var) == 1).all()


def test_a_half_resolution_head_is_resized_to_the_image() -> None:
    network = build_network(TINY.model_copy(update={"mask_resolution": "half"}), classes=0, mask_classes=2).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        assert network.segment(network.features(images), images).shape == (1, 2, 32, 48)
        assert network(images).mask_logits.shape == (1, 2, 64, 96)


def test_the_decoder_reads_features_without_attention() -> None:
    torch.manual_seed(0)
    network = build_network(TINY, classes=3, mask_classes=1).eval()
    images = torch.randn(1, 3, 64, 64)
    before = network(images)
    nn.init.constant_(some(some(network.attention).score).weight, 5.0)
    after = network(images)
    assert torch.equal(before.mask_logits, after.mask_logits)
    assert not torch.equal(before.class_logits, after.class_logits)


def test_a_network_for_one_task_has_only_the_parts_of_that_task() -> None:
    images = torch.randn(1, 3, 32, 32)
    classifier = build_network(TINY, classes=3, mask_classes=0).eval()
    segmenter = build_network(TINY, classes=0, mask_classes=1).eval()
    assert list(classifier.parts()) == ["backbone", "attention", "class_head"]
    assert list(segmenter.parts()) == ["backbone", "enhancer", "decoder"]
    assert classifier(images).mask_logits is None
    assert segmenter(images).class_logits is None
    assert segmenter(images).attention is None
    with pytest.raises(ModelError, match="no decoder"):
        classifier.segment(classifier.features(images), images)
    with pytest.raises(ModelError, match="no class head"):
        segmenter.classify(segmenter.features(images))


def test_every_parameter_belongs_to_exactly_one_part() -> None:
    network = build_network(TINY, classes=3, mask_classes=1)
    in_parts = [id(p) for part in network.parts().values() for p in part.parameters()]
    assert sorted(in_parts) == sorted(id(p) for p in network.parameters())


@pytest.mark.parametrize(
    ("backbone", "relu", "dropout"),
    [("densenet121", True, 0.0), ("mobilenet_v2", False, 0.2), ("resnet18", False, 0.0)],
)
def test_the_class_head_depends_on_the_backbone_family(backbone: str, relu: bool, dropout: float) -> None:
    with torch.device("meta"):
        network = build_network(TINY.model_copy(update={"backbone": backbone}), classes=3, mask_classes=0)
    head = some(network.class_head)
    assert isinstance(head.activation, nn.ReLU) is relu
    assert head.dropout.p == dropout


def test_a_network_without_a_task_is_an_error() -> None:
    with pytest.raises(ModelError, match="neither classes nor masks"):
        build_network(TINY, classes=0, mask_classes=0)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 70), (33, 95)])
def test_an_image_of_any_size_is_padded_with_zeros(height: int, width: int) -> None:
    network: Network = build_network(TINY, classes=3, mask_classes=2).eval()
    images = torch.randn(1, 3, height, width)
    bordered = torch.zeros(1, 3, -(-height // 32) * 32, -(-width // 32) * 32)
    bordered[..., :height, :width] = images
    with torch.inference_mode():
        found, expected = network(images), network(bordered)
    assert torch.equal(found.class_logits, expected.class_logits)
    assert torch.equal(found.mask_logits, expected.mask_logits[..., :height, :width])


def test_the_backbone_accepts_only_multiples_of_32() -> None:
    network: Network = build_network(TINY, classes=3, mask_classes=0)
    with pytest.raises(ModelError, match="31 x 64 px: both sides must be multiples of 32"):
        network.features(torch.randn(1, 3, 31, 64))


def test_masks_are_padded_with_the_given_value() -> None:
    masks = torch.ones(2, 30, 64, dtype=torch.long)
    assert pad_to_stride(masks, 255).shape == (2, 32, 64)
    assert (pad_to_stride(masks, 255)[:, 30:] == 255).all()


def test_bfloat16_gives_nearly_the_same_outputs() -> None:
    torch.manual_seed(0)
    network = build_network(TINY, classes=3, mask_classes=1).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        exact = network(images).mask_logits
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = network(images).mask_logits
    assert (rough.float() - exact).abs().max() < 0.1 * exact.std() + 0.02
