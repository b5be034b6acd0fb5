"""A config says exactly what was asked for, or why it can't."""

import tomllib
from pathlib import Path

import pytest

from mnsa.config import Config, ModelConfig, dump_config, load_config, parse_config
from mnsa.errors import ConfigError

ROOT = Path(__file__).parents[1]
STAGE = {"name": "joint", "tasks": ["classification"], "learns": ["backbone"], "epochs": 2, "batch_size": 4, "lr": 0.1}


def minimal(**sections: object) -> dict[str, object]:
    return {"stages": [STAGE], **sections}


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_config_is_valid_and_opens_with_its_command(path):
    load_config(path)
    first_line = path.read_text(encoding="utf-8").splitlines()[0]
    assert first_line.startswith("# mnsa ")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (minimal(model={"atention": "mean"}), "unknown key 'model.atention'; did you mean 'attention'"),
        (minimal(trian={}), "unknown key 'trian'; did you mean 'train'"),
        ({"stages": [{**STAGE, "epoch": 3}]}, "unknown key 'stages.0.epoch'; did you mean 'epochs'"),
        (minimal(model={"zzz": 1}), "valid keys are preset"),
        ({"stages": []}, "stages"),
        ({}, "'stages' is missing"),
        (minimal(train={"seed": -1}), "'train.seed' is -1"),
        ({"stages": [{**STAGE, "learns": ["decoder"]}]}, "which only segmentation uses"),
        (minimal(data={"size": [16, 256]}), "'data.size.0' is 16"),
        ({"stages": [STAGE, STAGE]}, "stage names must differ"),
    ],
)
def test_a_wrong_config_is_refused_by_the_name_of_its_key(tree, message):
    with pytest.raises(ConfigError, match=r"lab\.toml") as refusal:
        parse_config(tree, source="lab.toml")
    assert message in str(refusal.value)


def test_a_dumped_config_reads_back_equal():
    for model in ({}, {"preset": "paper"}, {"widths": [[0.25] * 5] * 5}):
        config = parse_config(minimal(model=model), source="test")
        assert parse_config(tomllib.loads(dump_config(config)), source="dump") == config


def test_a_preset_fills_in_and_explicit_keys_win():
    paper = ModelConfig(preset="paper", skip_ratio=0.5)
    assert (paper.backbone, paper.mask_resolution, paper.skip_ratio) == ("densenet161", "half", 0.5)
    assert ModelConfig().backbone == "tf_efficientnet_lite0"


def test_overrides_reach_sections_and_named_stages():
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
        ("train.sed=1", "did you mean 'seed'"),
    ],
)
def test_a_wrong_override_is_refused(override, message):
    with pytest.raises(ConfigError) as refusal:
        load_config(ROOT / "configs" / "paper.toml", ["train.seed=1", override])
    assert message in str(refusal.value)


def test_a_config_that_is_missing_or_no_toml_is_named(tmp_path):
    with pytest.raises(ConfigError, match="There is no config file"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(ConfigError, match=r"bad\.toml can't be read as TOML"):
        load_config(tmp_path / "bad.toml")


def leaf_fields(model: type) -> set[str]:
    names = set()
    for name, field in model.model_fields.items():
        nested = field.annotation
        names |= leaf_fields(nested) if hasattr(nested, "model_fields") else {name}
    return names


def test_every_config_field_is_read_by_some_code():
    from mnsa.config import StageConfig

    code = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py") if path.name != "config.py"
    )
    fields = leaf_fields(Config) | leaf_fields(StageConfig) - {"preset"}
    unread = sorted(name for name in fields - {"preset"} if f".{name}" not in code)
    assert not unread
