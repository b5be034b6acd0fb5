"""The configs that come with the project: each names its command, can be built and trained, and varies what it says."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mnsa.config import Config, load_config
from mnsa.model.network import build_network
from mnsa.search.space import build_search_space
from mnsa.training.stages import set_trainable_parts

CONFIGS = Path(__file__).parents[1] / "configs"
ALL = sorted(CONFIGS.rglob("*.toml"))

# Where each variant of the study differs from paper.toml, and in nothing else.
VARIANTS = {
    "attention_none": {"model.attention": "none", "stages": ["classification"]},
    "attention_mean": {"model.attention": "mean", "stages": ["classification"]},
    "mask_guided": {
        "loss.mask_guidance": 0.1,
        "augment.random_erasing": 0.5,
        "train.seed": 213,
        "stages": ["classification"],
    },
    "unet": {"model.decoder": "unet", "segmentation.trainable": ("decoder",)},
    "unet3plus": {"model.decoder": "unet3plus", "segmentation.trainable": ("decoder",), "segmentation.lr": 0.02},
    "skip_0": {"model.skip_ratio": 0.0},
    "skip_0125": {"model.skip_ratio": 0.125},
    "skip_05": {"model.skip_ratio": 0.5},
    "deep_supervision": {"loss.deep_supervision": True},
}


def named(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


def flat(config: Config) -> dict[str, Any]:
    """section.key -> value, the stages as sections of their own."""
    tree = config.model_dump()
    stages = tree.pop("stages")
    tree |= {stage["name"]: stage for stage in stages}
    fields = {f"{section}.{key}": value for section, keys in tree.items() for key, value in keys.items()}
    return {**fields, "stages": [stage["name"] for stage in stages]}


@pytest.mark.parametrize("path", ALL, ids=named)
def test_every_config_is_valid_and_opens_with_its_command(path: Path) -> None:
    load_config(path)
    first_line = path.read_text(encoding="utf-8").splitlines()[0]
    verb = "search" if path.stem.startswith("search") else "train"
    assert first_line.startswith(f"# mnsa {verb} configs/{named(path)} ")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("search*.toml")), ids=named)
def test_every_search_config_describes_the_papers_space(path: Path) -> None:
    assert build_search_space(load_config(path)).num_points == 243


@pytest.mark.slow
@pytest.mark.parametrize("path", ALL, ids=named)
def test_every_config_can_be_built_and_its_stages_opened(path: Path) -> None:
    config = load_config(path)
    with torch.device("meta"):
        network = build_network(config.model.model_copy(update={"pretrained": "none"}), classes=200, mask_classes=1)
    for stage in config.stages:
        set_trainable_parts(network, stage)
        assert any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_differs_from_the_papers_config_in_what_it_is_named_after_alone(name: str) -> None:
    paper, variant = flat(load_config(CONFIGS / "paper.toml")), flat(load_config(CONFIGS / "paper" / f"{name}.toml"))
    assert {key: value for key, value in variant.items() if value != paper[key]} == VARIANTS[name]
