"""Lightning trains exactly the parts of a stage; all other tensors stay equal bit for bit."""

from collections.abc import Callable
from pathlib import Path

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from mnsa.config import Config
from mnsa.errors import ConfigError
from mnsa.model.network import Network, build_network
from mnsa.structures import Batch
from mnsa.training.module import StageModule
from mnsa.training.stages import set_train_modes, set_trainable_parts

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start"),
]
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.fixture
def network(make_config: Callable[..., Config]) -> Network:
    torch.manual_seed(4)
    return build_network(make_config().model, 3, 1)


@pytest.fixture
def changed(network: Network, make_config: Callable[..., Config], tmp_path: Path) -> Callable[..., set[str]]:
    """Train a stage for two short epochs with validation, and return the names of the changed tensors."""

    def fit(**stage: str | tuple[str, ...]) -> set[str]:
        config = make_config(stage)
        module = StageModule(network, config.stages[0], config.loss, mask_classes=1, class_weights=None)
        trainer = lightning.Trainer(
            max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=tmp_path, num_sanity_val_steps=0, log_every_n_steps=1,
        )  # fmt: skip
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        masks, labels = torch.randint(0, 2, (4, 64, 64)), torch.tensor([0, 1, 2, 0])
        loader = DataLoader([Batch(torch.randn(4, 3, 64, 64), masks, labels)] * 2, batch_size=None)  # type: ignore[arg-type, var-annotated]
        trainer.fit(module, loader, loader)
        return {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}

    return fit


def parts_of(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def test_all_parts_of_a_joint_stage_are_trained(network: Network, changed: Callable[..., set[str]]) -> None:
    names = changed()
    assert names >= {name for name, _ in network.named_parameters() if name.endswith("weight")}
    assert parts_of(names) == {"backbone", "attention", "class_head", "enhancer", "decoder", "mask_head"}


@pytest.mark.parametrize(
    ("task", "trainable", "parts"),
    [
        ("classification", ("attention", "class_head"), {"attention", "class_head"}),
        ("segmentation", ("enhancer", "decoder"), {"enhancer", "decoder", "mask_head"}),
        ("segmentation", ("decoder",), {"decoder", "mask_head"}),
    ],
)
def test_frozen_parts_and_their_statistics_stay_equal_bit_for_bit(
    changed: Callable[..., set[str]], task: str, trainable: tuple[str, ...], parts: set[str]
) -> None:
    assert parts_of(changed(tasks=(task,), trainable=trainable)) == parts


def test_frozen_bn_train_updates_the_statistics_of_a_frozen_backbone(changed: Callable[..., set[str]]) -> None:
    names = changed(tasks=("classification",), trainable=("class_head",), frozen_bn="train")
    in_backbone = {name for name in names if name.startswith("backbone.")}
    assert {name.rsplit(".", 1)[1] for name in in_backbone} == set(STATISTICS)


@pytest.mark.parametrize("statistics", ["eval", "train"])
def test_backbone_deep_does_not_train_the_shallow_modules(
    network: Network, changed: Callable[..., set[str]], statistics: str
) -> None:
    shallow = {id(t) for module in network.backbone.shallow_modules() for t in module.parameters()}
    frozen = {name for name, tensor in network.named_parameters() if id(tensor) in shallow}
    names = changed(trainable=("backbone_deep", "class_head"), frozen_bn=statistics)
    deep = {name for name, _ in network.backbone.named_parameters(prefix="backbone")} - frozen
    assert frozen.isdisjoint(names)
    assert deep & names
    shallow_statistics = {n for n in names if n.endswith(STATISTICS) and n.rsplit(".", 1)[0] + ".weight" in frozen}
    assert bool(shallow_statistics) == (statistics == "train")


def test_a_second_stage_unfreezes_parts_that_the_first_has_frozen(changed: Callable[..., set[str]]) -> None:
    assert "decoder" not in parts_of(changed(tasks=("classification",), trainable=("class_head",)))
    assert parts_of(changed(tasks=("segmentation",), trainable=("decoder",))) == {"decoder", "mask_head"}


def test_frozen_parts_stay_in_eval_mode_after_train(network: Network, make_config: Callable[..., Config]) -> None:
    config = make_config({"tasks": ("classification",), "trainable": ("class_head",)})
    module = StageModule(network, config.stages[0], config.loss, mask_classes=1, class_weights=None)
    module.eval()
    module.train()
    assert network.class_head.training
    assert not any(part.training for part in network.backbone.modules())


def test_a_missing_part_is_an_error_that_names_the_parts_of_the_network(make_config: Callable[..., Config]) -> None:
    classifier = build_network(make_config().model, 3, 0)
    stage = make_config().stages[0]
    for use in (set_trainable_parts, set_train_modes):
        with pytest.raises(ConfigError, match=r"'enhancer', which this network lacks\. It has backbone, attention"):
            use(classifier, stage)
