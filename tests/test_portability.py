"""The package works without the modules of the standard library that only Unix has, and with spawned processes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mnsa.config import Config, dump_config
from mnsa.run_folder import RunFolder

WITHOUT_UNIX = """
import sys

for name in ("fcntl", "grp", "pwd", "resource", "termios"):  # also in the spawned processes, which import this file
    sys.modules[name] = None

import importlib, multiprocessing, pkgutil
from pathlib import Path


def main():
    run, dataset, config, out = map(Path, sys.argv[1:])
    multiprocessing.set_start_method("spawn", force=True)
    import mnsa

    for module in pkgutil.walk_packages(mnsa.__path__, "mnsa."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    predictor = mnsa.load(run)
    manifest = mnsa.read_manifest(dataset)
    images = [manifest.image_path(row) for row in manifest.rows[:3]]
    assert predictor.predict(images[0]).mask is not None
    summary = mnsa.predict_files(predictor, images, out / "predictions")
    assert summary.done == len(images)
    trained = mnsa.train(config, dataset, out / "run")
    mnsa.evaluate(trained, split="test")
    assert trained.evaluation_file.is_file()
    assert not any(sys.modules.get(name) for name in ("fcntl", "grp", "pwd", "resource", "termios"))


if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_loads_predicts_trains_and_evaluates_without_unix_modules(
    finished: RunFolder, dataset: Path, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    script, config = tmp_path / "without_unix.py", tmp_path / "small.toml"
    script.write_text(WITHOUT_UNIX, encoding="utf-8")
    config.write_text(dump_config(make_config({"epochs": 1}, train={"workers": 1})), encoding="utf-8")
    paths = (finished.path, dataset, config, tmp_path / "out")
    (tmp_path / "out").mkdir()
    process = subprocess.run([sys.executable, script, *paths], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-3000:]
