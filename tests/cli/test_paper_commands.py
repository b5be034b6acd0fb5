"""Train.py accepts the commands of the paper: its options set the config, and both stages run on a small data set."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import mnsa
from miniature_datasets import make_mganet, make_ufg
from mnsa.config import Config, load_config
from mnsa.run_folder import open_run_folder, read_run_config

ROOT = Path(__file__).parents[2]
CLS = ["--mmanet", "--cls_ild", "--dataparallel", "--data_dir", "./data", "--backbone_class", "densenet161"]
SEG = [
    "--mmanet", "--seg_ild", "--freeze_all", "--dataparallel", "--data_dir", "./data",
    "--backbone_class", "densenet161", "--model_path", "./best_model.pth", "--unet", "--transfer_to", "0.250",
]  # fmt: skip
QUICK = ["--max_epoch", "1", "--seg_size", "64", "--batch_size", "4", "--pretrained", "none"]


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT))
    import Train

    yield Train
    sys.path.remove(str(ROOT))


@pytest.fixture
def settings(script: Any) -> Callable[..., Config]:
    """Return a function that parses options of Train.py into the config of `mnsa train`."""

    def read(*arguments: Any, gpus: int = 0, processes: int = 1) -> Any:
        options = script.parse(list(arguments))
        given = script.to_overrides(options, gpus=gpus, processes=processes)
        overrides = [f"{key}={script.to_toml(value)}" for key, value in given.items()]
        return load_config(ROOT / "configs" / "paper" / f"{script.find_task(options)}.toml", overrides)

    return read


@pytest.fixture
def train_py(tmp_path: Path) -> Callable[..., Any]:
    """Return a function that runs Train.py or a shell script as a process in a folder with ./data."""
    make_mganet(tmp_path / "data", classes=3, per_class=6, size_px=64)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(*arguments: Any, program: str = "Train.py") -> Any:
        command = [sys.executable, "-u"] if program == "Train.py" else []
        return subprocess.run(
            [*command, str(ROOT / program), *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    return run


def test_the_first_command_is_stage_1_of_the_paper(settings: Callable[..., Config]) -> None:
    config = settings(*CLS)
    assert (config.model.backbone, config.model.attention, config.model.pretrained) == (
        "densenet161",
        "mean_max",
        "imagenet",
    )
    (stage,) = config.stages
    assert (stage.tasks, stage.epochs, stage.batch_size, stage.lr) == (("classification",), 150, 32, 0.05)
    assert (stage.optimizer, stage.weight_decay, stage.frozen_bn) == ("sgd", 5e-4, "train")
    assert config.data.size == (448, 448)


def test_the_second_command_is_stage_2_of_the_paper(settings: Callable[..., Config]) -> None:
    config = settings(*SEG)
    assert (config.train.init_from, config.model.decoder, config.model.skip_ratio) == (
        "./best_model.pth",
        "enhanced",
        0.25,
    )
    (stage,) = config.stages
    assert (stage.tasks, stage.batch_size, stage.lr) == (("segmentation",), 8, 0.05)
    assert set(stage.trainable) == {"enhancer", "decoder"}


@pytest.mark.parametrize(
    ("options", "where", "value"),
    [
        (["--cls_ild", "--manet"], "model.attention", "mean"),
        (["--cls_ild"], "model.attention", "none"),
        (["--cls_ild", "--mmanet", "--maskguided"], "loss.mask_guidance", 0.1),
        (["--cls_ild", "--num_classes", "80"], "model.classes", 80),
        (["--cls_ild", "--amp"], "train.precision", "bfloat16"),
        (["--cls_ild", "--pretrained", "none"], "model.pretrained", "none"),
        (["--cls_ild", "--seg_size", "224"], "data.size", (224, 224)),
        ([*SEG, "--fsds"], "loss.deep_supervision", True),
        ([*SEG, "--transfer_to", "0.5"], "model.skip_ratio", 0.5),
        ([option for option in SEG if option != "--unet"], "model.decoder", "unet3plus"),
        (["--backbone_class", "resnet18"], "model.backbone", "resnet18"),
    ],
)
def test_options_set_the_config(settings: Callable[..., Config], options: list[Any], where: str, value: Any) -> None:
    section, key = where.split(".")
    assert getattr(getattr(settings(*options), section), key) == value


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        (["--cls_ild", "--lr", "0.01"], "lr", 0.01),
        (["--cls_ild", "--max_epoch", "3"], "epochs", 3),
        (["--cls_ild", "--batch_size", "16"], "batch_size", 16),
        ([option for option in SEG if option != "--unet"], "lr", 0.02),
        ([option for option in SEG if option != "--unet"], "trainable", ("decoder",)),
        (["--unet"], "tasks", ("classification", "segmentation")),
    ],
)
def test_options_set_the_stage(settings: Callable[..., Config], options: list[Any], key: str, value: Any) -> None:
    assert getattr(settings(*options).stages[0], key) == value


def test_the_batch_is_divided_among_the_gpus(settings: Callable[..., Config]) -> None:
    config = settings(*CLS, "--amp", gpus=4, processes=4)
    assert (config.stages[0].batch_size, config.train.precision) == (8, "float16")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["--cls_il"], "unrecognized arguments"),
        (["--deform_expan", "1.5"], "model.widths"),
        (["--att_from", "3"], "deepest level"),
        (["--local_train", "1"], "--data_dir"),
        (["--mmanet", "--manet"], "give one"),
        (["--cls_ild", "--maskguided"], "--mmanet or --manet"),
        (["--mmanet", "--seg_ild", "--freeze_all"], "--model_path ./best_model.pth"),
        (["--mmanet", "--seg_ild", "--model_path", "x"], "--freeze_all"),
        (["--cls_ild", "--freeze_all"], "--seg_ild"),
    ],
)
def test_options_without_an_equivalent_are_errors_with_a_reason(
    script: Any, capsys: pytest.CaptureFixture[str], options: list[Any], reason: str
) -> None:
    with pytest.raises(SystemExit) as refusal:
        script.parse(options)
    assert refusal.value.code == 2
    assert reason in capsys.readouterr().err


def test_ufg_data_sets_are_recognized(script: Any, tmp_path: Path) -> None:
    assert script.find_format(make_ufg(tmp_path)) == "ufg"
    assert script.find_format(make_mganet(tmp_path)) == "mganet"


@pytest.mark.parametrize("number", ["", "0", "9", "x"])
@pytest.mark.parametrize("program", ["train_model_cls.sh", "train_model_seg.sh"])
def test_the_shell_scripts_explain_their_numbers(program: str, number: Any) -> None:
    refused = subprocess.run([ROOT / program, number], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "usage:" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2"])
def test_both_commands_run_in_sequence(train_py: Callable[..., Any], tmp_path: Path, backbone: str) -> None:
    first = train_py(*CLS[:-1], backbone, *QUICK)
    assert first.returncode == 0, first.stderr
    assert f"+ mnsa train {ROOT}/configs/paper/classification.toml" in first.stdout
    assert torch.load(tmp_path / "best_model.pth", weights_only=True)["net"]

    second = train_py(*SEG[:7], backbone, *SEG[8:], *QUICK)
    assert second.returncode == 0, second.stderr
    assert "Loaded from ./best_model.pth: backbone, attention, class_head; new: enhancer, decoder" in second.stdout
    run = tmp_path / "runs" / f"soybean_2_1-{backbone}-segmentation"
    outputs = mnsa.load(run)(torch.randn(1, 3, 64, 64))
    assert outputs.class_logits is not None
    assert outputs.mask_logits is not None
    assert (outputs.class_logits.shape, outputs.mask_logits.shape) == ((1, 3), (1, 1, 64, 64))
    assert read_run_config(open_run_folder(run)).model.backbone == backbone

    again = train_py(*CLS[:-1], backbone, *QUICK)
    assert again.returncode == 2
    assert "Nothing was changed" in again.stderr


@pytest.mark.slow
def test_the_shell_scripts_run(train_py: Callable[..., Any], tmp_path: Path) -> None:
    guided = train_py("5", "resnet18", *QUICK, program="train_model_cls.sh")
    assert guided.returncode == 0, guided.stderr
    assert "loss.mask_guidance=0.1" in guided.stdout
    deep = train_py("8", "resnet18", *QUICK, program="train_model_seg.sh")
    assert deep.returncode == 0, deep.stderr
    assert "loss.deep_supervision=true" in deep.stdout
