"""Shared fixtures: a synthetic data set, a small network, a finished run, and the command line."""

import gc
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
import torch
from hypothesis import settings

from mnsa.cli import main
from mnsa.config import Config, dump_config, parse_config
from mnsa.data.synthetic import synthesize
from mnsa.run_folder import RunFolder

if TYPE_CHECKING:
    from mnsa.inference.predictor import Predictor

# The tests' tensors are tiny: a second thread would mostly wait, also in the processes that tests start.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Kernels for GPUs run in Triton's interpreter. It has to know before torchvision imports Triton.
os.environ.setdefault("TRITON_INTERPRET", "1")

# The imports of all test files make millions of objects that stay: the garbage collector looks at them no more.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()


# A busy machine may need any time for an example, so there is no limit.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

BOTH = ("classification", "segmentation")
ALL_PARTS = ("backbone", "attention", "class_head", "enhancer", "decoder")
STAGE = {"name": "joint", "tasks": BOTH, "trainable": ALL_PARTS, "epochs": 2, "batch_size": 4, "lr": 0.01}
SECTIONS: dict[str, dict[str, object]] = {
    "data": {"size": (64, 64)},
    "model": {
        "backbone": "test_efficientnet",  # timm's own test network: five levels, BatchNorm, 0.1 million parameters
        "pretrained": "none",
        "widths": (0.125, 0.0, 0.125, 0.0, 0.125),
        "offset_channels": 4,
        "bridge_channels": 8,
        "decoder_channels": (8, 8, 8, 8, 8),
        "dropout": 0.2,
    },
}


class Finished(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    """Undo what a command of the test did to the package's logger: its handler prints, which other tests forbid."""
    logger = logging.getLogger("mnsa")
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drawn cultivars, 64 px: 12 leaves to learn from, 3 to choose by, 3 to test with. For reading only."""
    folder = tmp_path_factory.mktemp("data") / "leaves"
    synthesize(folder, cultivars=3, per_cultivar=6, size_px=64, seed=5, workers=1)
    return folder


@pytest.fixture
def own_dataset(dataset: Path, tmp_path: Path) -> Path:
    """A copy of the data set that a test may break."""
    return shutil.copytree(dataset, tmp_path / "leaves")


@pytest.fixture(scope="session")
def make_config() -> Callable[..., Config]:
    """A config of the small network; sections and stages are given as the keys that differ."""

    def make(*stages: dict[str, object], **sections: dict[str, object]) -> Config:
        tree = {name: {**SECTIONS.get(name, {}), **sections.get(name, {})} for name in {*SECTIONS, *sections}}
        return parse_config({**tree, "stages": [{**STAGE, **stage} for stage in stages or ({},)]}, source="test")

    return make


@pytest.fixture
def config_file(make_config: Callable[..., Config], tmp_path: Path) -> Path:
    """The default of `make_config`, as a file."""
    path = tmp_path / "small.toml"
    path.write_text(dump_config(make_config()), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def finished(dataset: Path, make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of both tasks, trained to its end. For reading only."""
    from mnsa.training.fit import train

    return train(make_config(), dataset, tmp_path_factory.mktemp("runs") / "finished")


@pytest.fixture(scope="session")
def predictor(finished: RunFolder) -> "Predictor":
    """The finished run, ready to answer."""
    from mnsa.inference.predictor import load

    return load(finished.path)


@pytest.fixture(scope="session")
def fitted_trees(finished: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The finished run with boosted trees. For reading only."""
    from mnsa.workflows.fit_trees import fit_trees

    run = RunFolder(shutil.copytree(finished.path, tmp_path_factory.mktemp("runs") / "fitted_trees"))
    fit_trees(run.path, trials=2)
    return run


@pytest.fixture
def own_run(finished: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the finished run that a test may break."""
    return RunFolder(shutil.copytree(finished.path, tmp_path / "run"))


@pytest.fixture
def bundled_veins(make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of `mnsa.weights`, with a tiny untrained network for `veins`, in float16; its model folder."""
    import mnsa.weights
    from mnsa.config import DataConfig
    from mnsa.model.network import build_network
    from mnsa.model_folder import save_network
    from mnsa.run_folder import ModelSpec

    torch.manual_seed(3)
    folder, model = tmp_path / "weights" / "veins", make_config().model
    network = build_network(model, classes=0, mask_classes=1)
    for name, tensor in network.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            tensor.mul_(1.5)  # another value than that of a new network
    spec = ModelSpec(model, DataConfig(size=(64, 64), resize_mode="crop"), (), ("vein",))
    save_network(folder, network.half(), spec)
    monkeypatch.setattr(mnsa.weights, "FOLDER", folder.parent)
    return folder


@pytest.fixture
def mnsa(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """The `mnsa` command, run in this process as a shell would run it."""

    def run(*arguments: object) -> Finished:
        monkeypatch.setattr(sys, "argv", ["mnsa", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ending:
            main()
        return Finished(int(ending.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def refused(mnsa: Callable[..., Finished]) -> Callable[..., str]:
    """Run a command that must be refused; the paragraph it ends with."""

    def run(*arguments: object) -> str:
        ending = mnsa(*arguments)
        assert ending.code == 2
        assert ending.err.startswith("Error: ")
        assert "Traceback" not in ending.err
        return ending.err

    return run
