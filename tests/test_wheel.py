"""The wheel, installed into an environment of its own, works outside of the clone: an empty folder is enough."""

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
# The training is made tiny; the rest is as a user has it.
TINY = (
    "--set", "data.size=[64, 64]", "--set", "model.backbone=test_efficientnet", "--set", "model.pretrained=none",
    "--set", "stages.joint.epochs=1",
)  # fmt: skip


def clean_environment() -> dict[str, str]:
    """The environment without what leads to the clone or to this Python's environment."""
    hidden = {"PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME"}
    return {name: text for name, text in os.environ.items() if name not in hidden} | {"OMP_NUM_THREADS": "1"}


def call(*command: object, folder: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env=clean_environment(), capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """A function that runs `mnsa` of the wheel in an empty folder. Its environment sees the packages that are here."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "work").mkdir()
    call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT, folder=folder)
    (wheel,) = folder.glob("mnsa-*.whl")
    venv.create(folder / "venv", symlinks=os.name != "nt")
    (binaries,) = (path for path in (folder / "venv").iterdir() if path.name.lower() in ("bin", "scripts"))
    python = next(path for path in binaries.iterdir() if path.stem.lower() == "python")
    pip = (sys.executable, "-m", "pip", "--python", python)
    call(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, folder=folder)
    own = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder).strip())
    # A .pth file adds a folder, but not what the .pth files in it add: the clone stays out.
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib"))

    def run(*arguments: object) -> str:
        return call(python, "-m", "mnsa", *arguments, folder=folder / "work")

    hint = call(python, "-c", "from mnsa.errors import install_command; print(install_command('serve'))", folder=folder)
    assert hint.strip() == f"pip install './{wheel.name}[serve]'"
    place = call(python, "-c", "import mnsa; print(mnsa.__file__)", folder=folder / "work")
    assert Path(place.strip()).is_relative_to(folder / "venv")
    return run


@pytest.mark.slow
def test_synth_train_predict_and_veins_work_from_an_empty_folder(installed: Callable[..., Any], tmp_path: Path) -> None:
    installed("synth", "--cultivars", 2, "--per-cultivar", 6, "--size", 64, "--workers", 1, "leaves")
    installed("train", "small", "--data", "leaves", "--out", "run", *TINY)
    installed("predict", "run", "leaves/images", "--traits", "--out", tmp_path / "answers")
    installed("veins", "leaves/images/cultivar_01_0000.jpg", "--scale", 1, "--out", tmp_path / "veins")
    for folder, count in (("answers", 12), ("veins", 1)):
        table = (tmp_path / folder / "predictions.csv").read_text(encoding="utf-8").splitlines()
        assert len(table) == count + 1
        assert len(list((tmp_path / folder / "masks").iterdir())) == count
