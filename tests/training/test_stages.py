"""Lightning trains exactly the parts of a stage; all other tensors stay equal bit for bit."""

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from torch.utils.data import DataLoader

from mnsa.config import Config, ModelConfig, TrainConfig
from mnsa.data.manifest import read_manifest
from mnsa.errors import ConfigError, MnsaError, ModelError, RunError
from mnsa.model.network import Network, build_network
from mnsa.model_folder import load_network
from mnsa.run_folder import RunFolder
from mnsa.structures import Batch
from mnsa.training.fit import train
from mnsa.training.module import StageModule
from mnsa.training.stages import (
    load_matching_parts,
    read_init_weights,
    read_teacher,
    set_train_modes,
    set_trainable_parts,
)
from narrowing import instance_of, some
from upstream_names import upstream_state

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start"),
]
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

SEGMENTATION = {"tasks": ("segmentation",), "trainable": ("enhancer", "decoder"), "epochs": 1}


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
        batches: Any = [Batch(torch.randn(4, 3, 64, 64), masks, labels)] * 2
        loader: DataLoader[Batch] = DataLoader(batches, batch_size=None)
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
    assert some(network.class_head).training
    assert not any(part.training for part in network.backbone.modules())


def test_a_missing_part_is_an_error_that_names_the_parts_of_the_network(make_config: Callable[..., Config]) -> None:
    classifier = build_network(make_config().model, 3, 0)
    stage = make_config().stages[0]
    for use in (set_trainable_parts, set_train_modes):
        with pytest.raises(ConfigError, match=r"'enhancer', which this network lacks\. It has backbone, attention"):
            use(classifier, stage)


def equal_parts(state: dict[str, Any], other: Any, *prefixes: str) -> bool:
    keys = [key for key in state if key.startswith(prefixes)]
    return bool(keys) and all(torch.equal(state[key], other[key]) for key in keys)


def test_a_segmentation_stage_keeps_the_class_head_of_the_initial_weights(
    finished: RunFolder,
    dataset: Path,
    make_config: Callable[..., Config],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO, logger="mnsa")
    config = make_config(SEGMENTATION, train={"init_from": str(finished.path)})
    run = train(config, dataset, tmp_path / "second")
    before, after = (load_file(folder / "model.safetensors") for folder in (finished.model_folder, run.model_folder))
    assert equal_parts(before, after, "backbone.", "attention.", "class_head.")
    assert not equal_parts(before, after, "decoder.")
    assert f"Loaded from {finished.path}: backbone, attention, class_head, enhancer, decoder" in caplog.messages
    assert capsys.readouterr().out == ""


def test_both_kinds_of_weights_files_can_be_read(
    finished: RunFolder, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    state = load_file(finished.model_folder / "model.safetensors")
    save_file(state, tmp_path / "ours.safetensors")
    torch.save({"net": state}, tmp_path / "ours.pth")
    assert (
        read_init_weights(tmp_path / "ours.pth", "mean_max").keys()
        == read_init_weights(tmp_path / "ours.safetensors", "mean_max").keys()
    )


def test_an_upstream_checkpoint_can_be_read(tmp_path: Path) -> None:
    config = ModelConfig(preset="paper", backbone="resnet18", pretrained="none", attention="mean")
    network, other = (build_network(config, 3, 0) for _ in range(2))
    torch.save(upstream_state(network), tmp_path / "upstream.pth")
    load_matching_parts(other, read_init_weights(tmp_path / "upstream.pth", "mean"), "upstream.pth")
    assert equal_parts(network.state_dict(), other.state_dict(), "backbone.", "class_head.")


def test_a_head_for_other_classes_keeps_its_new_weights(
    finished: RunFolder, dataset: Path, make_config: Callable[..., Config]
) -> None:
    weights = read_init_weights(finished.path, "mean_max")
    network = build_network(make_config().model, len(read_manifest(dataset).classes) + 1, 0)
    classifier = instance_of(torch.nn.Linear, some(network.class_head).classifier)
    head = classifier.weight.clone()
    message = load_matching_parts(network, weights, "a run")
    assert message == "Loaded from a run: backbone, attention; new: class_head"
    assert torch.equal(classifier.weight, head)


def test_another_backbone_is_an_error(finished: RunFolder) -> None:
    network = build_network(ModelConfig(preset="paper", backbone="resnet18", pretrained="none"), 3, 0)
    with pytest.raises(ModelError, match="no weights of the backbone resnet18"):
        load_matching_parts(network, read_init_weights(finished.path, "mean_max"), "a run")


def test_a_missing_weights_file_is_an_error_before_the_run_folder_is_created(
    dataset: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    with pytest.raises(MnsaError, match=r"gone\.pth"):
        train(make_config(train={"init_from": str(tmp_path / "gone.pth")}), dataset, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_teacher_gives_its_share_of_the_targets(finished: RunFolder, network: Network) -> None:
    images, targets = torch.randn(2, 3, 64, 64), torch.rand(2, 1, 32, 32)
    probs = load_network(finished.path)[0](images).mask_logits.sigmoid().detach()
    for weight in (0.0, 0.3, 1.0):
        config = TrainConfig(distill=str(finished.path), distill_weight=weight)
        teacher = some(read_teacher(config, network, ("vein",)))
        full = F.interpolate(targets, (64, 64))
        torch.testing.assert_close(teacher.soften(full, images), (1 - weight) * full + weight * probs)
        half = teacher.soften(targets, images)  # the student's logits are smaller
        torch.testing.assert_close(half, (1 - weight) * targets + weight * F.avg_pool2d(probs, 2), atol=0.02, rtol=0)
        assert not half.requires_grad


def test_a_teacher_is_not_part_of_the_module_that_it_teaches(
    finished: RunFolder, network: Network, make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(SEGMENTATION)
    teacher = some(read_teacher(TrainConfig(distill=str(finished.path)), network, ("vein",)))
    before = {name: tensor.clone() for name, tensor in teacher.network.state_dict().items()}
    module, alone = (
        StageModule(network, config.stages[0], config.loss, mask_classes=1, class_weights=None, teacher=given)
        for given in (teacher, None)
    )
    assert module.state_dict().keys() == alone.state_dict().keys()
    assert len(list(module.parameters())) == len(list(alone.parameters()))
    assert copy.deepcopy(module).teacher is teacher  # the moving average copies the module
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    masks = torch.randint(0, 2, (4, 64, 64))
    module.train().training_step(Batch(torch.randn(4, 3, 64, 64), masks, torch.tensor([0, 1, 2, 0])), 0).backward()
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.network.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.network.parameters())


@pytest.mark.slow
def test_a_teacher_changes_the_training_and_leaves_no_trace_in_the_files(
    finished: RunFolder, dataset: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    plain, taught, nothing = (
        train(make_config(SEGMENTATION, train={"ema_decay": 0.9, **distill}), dataset, tmp_path / name)
        for name, distill in (
            ("plain", {}),
            ("taught", {"distill": str(finished.path)}),
            ("nothing", {"distill": str(finished.path), "distill_weight": 0}),
        )
    )
    weights = [load_file(run.model_folder / "model.safetensors") for run in (plain, taught, nothing)]
    assert weights[0].keys() == weights[1].keys()
    assert equal_parts(weights[0], weights[2], "decoder.")
    assert not equal_parts(weights[0], weights[1], "decoder.")
    checkpoints = [
        torch.load(run.checkpoint_folder("joint") / "last.ckpt", weights_only=True) for run in (plain, taught)
    ]
    assert checkpoints[0]["state_dict"].keys() == checkpoints[1]["state_dict"].keys()


def test_a_teacher_that_does_not_fit_is_an_error(
    finished: RunFolder, network: Network, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    distill = TrainConfig(distill=str(finished.path))
    assert read_teacher(TrainConfig(), network, ("vein",)) is None
    with pytest.raises(ConfigError, match="has the mask classes vein, but the data set has background, vein"):
        read_teacher(distill, network, ("background", "vein"))
    with pytest.raises(ConfigError, match="no stage trains segmentation"):
        read_teacher(distill, build_network(make_config().model, 3, 0), ("vein",))
    with pytest.raises(RunError, match="has no finished network"):
        read_teacher(TrainConfig(distill=str(tmp_path / "gone")), network, ("vein",))
    network.backbone.mean = (0.1, 0.2, 0.3)
    with pytest.raises(ConfigError, match="needs other pixel values than test_efficientnet"):
        read_teacher(distill, network, ("vein",))
