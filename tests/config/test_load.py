"""Configs are loaded with their bases and overrides, or refused with the key and the fix."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from mnsa.config import Config, ModelConfig, dump_config, load_config, parse_config, select_tasks
from mnsa.errors import ConfigError

WriteConfig = Callable[[str, str], Path]

ROOT = Path(__file__).parents[2]
STAGE = {
    "name": "joint",
    "tasks": ["classification"],
    "trainable": ["backbone"],
    "epochs": 2,
    "batch_size": 4,
    "lr": 0.1,
}

SEGMENT = {**STAGE, "name": "segment", "tasks": ["segmentation"], "trainable": ["enhancer", "decoder"]}


def minimal(**sections: object) -> dict[str, object]:
    return {"stages": [STAGE], **sections}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (minimal(model={"atention": "mean"}), "unknown key 'model.atention'; did you mean 'attention'"),
        (minimal(trian={}), "unknown key 'trian'; did you mean 'train'"),
        ({"stages": [{**STAGE, "epoch": 3}]}, "unknown key 'stages.0.epoch'; did you mean 'epochs'"),
        (minimal(model={"zzz": 1}), "valid keys are preset"),
        (minimal(data={"crops_per_epoch": 20}), "crops_per_epoch above 1 needs data.resize_mode = 'crop'"),
        ({"stages": []}, "stages"),
        ({}, "'stages' is missing"),
        (minimal(train={"seed": -1}), "'train.seed' is -1"),
        ({"stages": [{**STAGE, "trainable": ["decoder"]}]}, "which only segmentation uses"),
        (minimal(data={"size": [16, 256]}), "'data.size.0' is 16"),
        ({"stages": [STAGE, STAGE]}, "lab.toml: stage names must differ, got joint, joint."),
        (
            {"stages": [SEGMENT], "model": {"decoder": "unet"}},
            "stage 'segment' trains 'enhancer', which model.decoder = 'unet' doesn't have",
        ),
        (
            minimal(model={"attention": "none"}, loss={"mask_guidance": 0.1}),
            "loss.mask_guidance trains the attention, but model.attention is 'none'; choose 'mean' or 'mean_max'",
        ),
        *(
            (minimal(loss={term: 0.5, "segmentation": 0, "dice": 0}), "set loss.segmentation or loss.dice above 0")
            for term in ("cldice", "skeleton_recall", "centerline")
        ),
    ],
)
def test_an_invalid_config_is_refused_with_the_name_of_its_key(tree: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=r"lab\.toml") as refusal:
        parse_config(tree, source="lab.toml")
    assert message in str(refusal.value)


def test_a_dumped_config_is_parsed_to_the_same_config() -> None:
    for model in ({}, {"preset": "paper"}, {"widths": [[0.25] * 5] * 5}):
        config = parse_config(minimal(model=model), source="test")
        assert parse_config(tomllib.loads(dump_config(config)), source="dump") == config


def test_explicit_keys_replace_those_of_the_preset() -> None:
    paper = ModelConfig(preset="paper", skip_ratio=0.5)
    assert (paper.backbone, paper.mask_resolution, paper.skip_ratio) == ("densenet161", "half", 0.5)
    assert ModelConfig().backbone == "tf_efficientnet_lite0"


def test_a_decoder_without_enhancer_can_be_trained() -> None:
    for decoder in ("unet", "unet3plus"):
        tree = {"stages": [{**SEGMENT, "trainable": ["decoder"]}], "model": {"decoder": decoder}}
        assert parse_config(tree, source="test").model.decoder == decoder


@pytest.mark.parametrize("attention", ["mean", "mean_max"])
def test_mask_guidance_works_with_both_kinds_of_attention(attention: str) -> None:
    tree = minimal(model={"attention": attention}, loss={"mask_guidance": 0.1})
    assert parse_config(tree, source="test").loss.mask_guidance == 0.1


@pytest.mark.parametrize("company", ["segmentation", "dice"])
def test_losses_of_thin_structures_work_beside_one_loss_of_the_whole_mask(company: str) -> None:
    tree = minimal(loss={"cldice": 0.5, "segmentation": 0, "dice": 0, company: 1})
    assert parse_config(tree, source="test").loss.needs_centerlines
    assert not parse_config(minimal(), source="test").loss.needs_centerlines


def test_overrides_change_sections_and_named_stages() -> None:
    config = load_config(
        ROOT / "configs" / "paper.toml",
        ["train.seed=7", "stages.segmentation.epochs=3", "model.attention=mean", "data.size=[64, 96]"],
    )
    assert (config.train.seed, config.stages[1].epochs, config.stages[0].epochs) == (7, 3, 150)
    assert (config.model.attention, config.data.size) == ("mean", (64, 96))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.seed", "section.key=value"),
        ("seed=3", "section.key=value"),
        ("stages.third.lr=1", "the stages are classification, segmentation"),
        ("train.seed.deep=1", "'seed' is a value"),
        ("data.size.0.x=64", "'size' is a value"),
        ("stages.segmentation=1", "stages.segmentation.epochs=3"),
        ("train.sed=1", "did you mean 'seed'"),
    ],
)
def test_an_invalid_override_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_config(ROOT / "configs" / "paper.toml", ["train.seed=1", override])
    assert message in str(refusal.value)


def test_a_missing_file_and_invalid_toml_are_refused_with_the_file_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no config file"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(ConfigError, match=r"bad\.toml can't be read as TOML"):
        load_config(tmp_path / "bad.toml")


BASE = """
[train]
seed = 7
workers = 2

[[stages]]
name = "first"
tasks = ["classification"]
trainable = ["backbone"]
epochs = 2
batch_size = 4
lr = 0.1

[[stages]]
name = "second"
tasks = ["segmentation"]
trainable = ["decoder"]
epochs = 3
batch_size = 4
lr = 0.2
"""


@pytest.fixture
def write(tmp_path: Path) -> WriteConfig:
    """Write a config file. Its name may contain a folder."""

    def to_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return to_file


def test_a_file_with_a_base_contains_only_differences(write: WriteConfig) -> None:
    write("paper.toml", BASE)
    path = write("paper/variant.toml", 'base = "../paper.toml"\n[train]\nseed = 8\n[loss]\ndice = 0.0')
    plain, variant = load_config(path.parents[1] / "paper.toml"), load_config(path)
    assert (variant.train.seed, variant.train.workers, variant.loss.dice) == (8, 2, 0)
    assert variant.stages == plain.stages


def test_the_stages_of_a_file_are_merged_with_those_of_its_base_by_name(write: WriteConfig) -> None:
    write("paper.toml", BASE)
    stages = '[[stages]]\nname = "second"\nlr = 0.02\n[[stages]]\nname = "first"'
    config = load_config(write("variant.toml", 'base = "paper.toml"\n' + stages))
    assert [(stage.name, stage.lr, stage.epochs) for stage in config.stages] == [("second", 0.02, 3), ("first", 0.1, 2)]
    alone = load_config(write("alone.toml", 'base = "variant.toml"\n[[stages]]\nname = "second"\nepochs = 9'))
    assert [(stage.name, stage.lr, stage.epochs) for stage in alone.stages] == [("second", 0.02, 9)]


def test_overrides_replace_values_of_the_file_and_of_its_base(write: WriteConfig) -> None:
    write("paper.toml", BASE)
    path = write("variant.toml", 'base = "paper.toml"\n[train]\nseed = 8')
    config = load_config(path, ["train.seed=9", "stages.first.lr=0.3"])
    assert (config.train.seed, config.stages[0].lr) == (9, 0.3)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ('"gone.toml"', r"There is no config file .*gone\.toml, the base of .*a\.toml"),
        ('"a.toml"', r"a\.toml, based on .*a\.toml: these files form a circle"),
        ('"b.toml"', r"a\.toml, based on .*b\.toml, based on .*a\.toml: these files form a circle"),
        ("3", r"a\.toml: base is 3; expected the path"),
        ('"odd.toml"', r"odd\.toml can't be read as TOML"),
        ('"misspelt.toml"', r"a\.toml, based on .*misspelt\.toml: unknown key 'trian'"),
    ],
)
def test_an_invalid_base_is_refused_with_the_names_of_both_files(write: WriteConfig, base: str, message: str) -> None:
    write("b.toml", 'base = "a.toml"')
    write("odd.toml", "a = = 1")
    write("misspelt.toml", BASE + "[trian]")
    with pytest.raises(ConfigError, match=message):
        load_config(write("a.toml", f"base = {base}"))


def leaf_fields(model: type[BaseModel]) -> set[str]:
    names: set[str] = set()
    for name, field in model.model_fields.items():
        nested = field.annotation
        names |= leaf_fields(nested) if isinstance(nested, type) and issubclass(nested, BaseModel) else {name}
    return names


def test_every_field_is_read_somewhere_in_the_package() -> None:
    from mnsa.config import StageConfig

    code = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py") if path.parent.name != "config"
    )
    fields = leaf_fields(Config) | leaf_fields(StageConfig) - {"preset"}
    unread = sorted(name for name in fields - {"preset"} if f".{name}" not in code)
    assert not unread


@pytest.mark.parametrize(
    ("tasks", "stages"),
    [
        ("classification", {"classification": ["attention", "backbone_deep", "class_head"]}),
        ("segmentation", {"segmentation": ["decoder", "enhancer"]}),
    ],
)
def test_selected_tasks_leave_their_stages_and_parts(tasks: Any, stages: dict[str, list[str]]) -> None:
    config = select_tasks(load_config("paper"), tasks)
    assert {stage.name: sorted(stage.trainable) for stage in config.stages} == stages
    assert config.tasks == {tasks}
    assert config.model == load_config("paper").model


def test_a_stage_of_both_tasks_keeps_the_selected_one() -> None:
    (stage,) = select_tasks(load_config("small"), "segmentation").stages
    assert stage.tasks == ("segmentation",)
    assert not {"attention", "class_head"} & set(stage.trainable)
    assert (
        select_tasks(load_config("small"), "both") == load_config("small") == select_tasks(load_config("small"), None)
    )


def test_tasks_that_no_stage_trains_are_refused() -> None:
    with pytest.raises(ConfigError, match="--tasks asks for segmentation, which no stage of the config trains"):
        select_tasks(load_config("paper/classification"), "both")
