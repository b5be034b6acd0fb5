"""The files of a run. `mnsa.model_folder` reads and writes the network; nothing here needs torch.

config.toml        the complete config, with every field
provenance.json    versions, seed, git commit, command, data set and its digest
dataset_files.json  SHA-256 of each image and mask of train and val
metrics.csv        one row per epoch
logs/              logs for TensorBoard, MLflow and W&B, if `train.loggers` names them
checkpoints/       training state to resume from, a folder per stage (`mnsa.training.checkpoint`)
model/             model.safetensors, its SHA-256, config.json and README.md (the model card)
calibration.json   temperature and threshold of the classes, written by `mnsa calibrate`
postprocessing.json  how masks are made, written at the end of training and by `mnsa calibrate`
evaluation.json    scores per split, written by `mnsa evaluate`; `test/trees` has those of boosted trees
predictions/       a folder per evaluated split: a row per image, plots of the worst and the best images
report.html        the results on one page, written by `mnsa report`
exports/           exported networks for other engines, written by `mnsa export`
trees/             boosted trees in the format of XGBoost, and their spec, written by `mnsa fit-trees`
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mnsa.config import Config, DataConfig, ModelConfig, dump_config, load_config
from mnsa.data.manifest import Manifest
from mnsa.errors import RunError
from mnsa.io import atomic_write_text, new_folder, read_json, sha256_file, write_json


class BelongsToWeights(Protocol):
    """The content of a file that was fitted for certain weights."""

    @property
    def weights_sha256(self) -> str:
        """Of those weights."""


Fitted = TypeVar("Fitted", bound=BelongsToWeights)

_RECORDED_PACKAGES = ("mnsa", "torch", "torchvision", "timm", "lightning", "numpy", "pillow")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The content of model/config.json: architecture, input and class names of a network."""

    model: ModelConfig
    data: DataConfig
    classes: tuple[str, ...]
    mask_classes: tuple[str, ...]

    def to_json(self) -> str:
        """Return the text of model/config.json."""
        tree = {**asdict(self), "model": self.model.model_dump(), "data": self.data.model_dump()}
        return json.dumps(tree, indent=2) + "\n"

    @classmethod
    def from_dict(cls, tree: Any) -> "ModelSpec":
        """Make a spec from parsed JSON. Raises: ValueError, KeyError or TypeError if it is not valid."""
        model, data = ModelConfig(**tree["model"]), DataConfig(**tree["data"])
        return cls(model, data, tuple(tree["classes"]), tuple(tree["mask_classes"]))


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The paths of one run."""

    path: Path

    @property
    def config_file(self) -> Path:
        return self.path / "config.toml"

    @property
    def provenance_file(self) -> Path:
        return self.path / "provenance.json"

    @property
    def dataset_files_file(self) -> Path:
        return self.path / "dataset_files.json"

    @property
    def training_lock_file(self) -> Path:
        """The lock of the process that trains the run."""
        return self.path / ".training.lock"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def logs_folder(self) -> Path:
        return self.path / "logs"

    @property
    def evaluation_file(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def evaluation_lock_file(self) -> Path:
        """The lock of evaluation.json."""
        return self.path / ".evaluation.lock"

    @property
    def predictions_folder(self) -> Path:
        return self.path / "predictions"

    @property
    def report_file(self) -> Path:
        return self.path / "report.html"

    @property
    def model_folder(self) -> Path:
        return self.path / "model"

    @property
    def trees_folder(self) -> Path:
        return self.path / "trees"

    @property
    def exports_folder(self) -> Path:
        return self.path / "exports"

    def checkpoint_folder(self, stage: str) -> Path:
        """The folder of a stage with last.ckpt, step.ckpt (to resume from) and best.ckpt (the input of the next stage).

        initial.ckpt is the network before the first epoch, of a stage that starts with a linear probe.
        """
        return self.path / "checkpoints" / stage


def create_run_folder(path: Path, config: Config, origin: Mapping[str, str], contents: str = "") -> RunFolder:
    """Create a run folder with its config and provenance.

    origin: the source of the network, such as `dataset_provenance`. contents: text of dataset_files.json; empty: none.
    Raises: RunError if `path` exists or can't be
    written.
    """
    provenance = {
        "command": sys.argv,
        **origin,
        "seed": config.train.seed,
        "versions": {name: package_version(name) for name in _RECORDED_PACKAGES},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "git_commit": _git_commit(),
    }
    try:
        with new_folder(path) as folder:
            run = RunFolder(folder)
            atomic_write_text(run.config_file, dump_config(config))
            write_json(run.provenance_file, provenance)
            if contents:
                atomic_write_text(run.dataset_files_file, contents)
    except FileExistsError:
        raise RunError(
            f"{path} exists and was not changed. Choose another --out, or continue it: mnsa train --resume {path}"
        ) from None
    except OSError as error:
        raise RunError(f"{path} can't be written: {error.strerror}. Choose another --out.") from None
    return RunFolder(path)


def dataset_provenance(manifest: Manifest, dataset: Path) -> dict[str, str]:
    """Return the folder of the training data set, and its digest."""
    return {"dataset": str(dataset.resolve()), "dataset_digest": manifest.digest()}


def open_run_folder(path: Path) -> RunFolder:
    """Open an existing run folder. Raises: RunError if it is none."""
    run = RunFolder(path)
    for file in (run.config_file, run.provenance_file):
        if not file.is_file():
            raise RunError(f"{path} is no run folder: {file.name} is missing. Expected a folder of `mnsa train --out`.")
    return run


def read_run_config(run: RunFolder) -> Config:
    """Read the config of a run. Raises: ConfigError."""
    return load_config(run.config_file)


def read_run_dataset(run: RunFolder) -> tuple[Path, str]:
    """Read the folder of the training data set, and its digest at training time. Raises: RunError."""
    try:
        provenance = read_json(run.provenance_file)
        if "checkpoint" in provenance:
            raise RunError(f"{run.path} was imported, not trained, so it has no data set. Give --data.")
        return Path(provenance["dataset"]), str(provenance["dataset_digest"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{run.provenance_file} can't be read ({error!r}). Restore it, or train again.") from None


def find_run_dataset(run: RunFolder, dataset: Path | None = None) -> Path:
    """Return the data set `dataset`, or that of the training. Raises: RunError when the latter has moved."""
    if dataset is not None:
        return dataset
    known, _ = read_run_dataset(run)
    if not known.exists():
        raise RunError(f"{known}, the data set of {run.path}, does not exist. If it has moved, add --data FOLDER.")
    return known


def weights_digest(run: Path) -> str:
    """Compute the SHA-256 of the weights of a run folder (or of its model/ folder), as hexadecimal digits."""
    folder = run / "model" if (run / "model").is_dir() else run
    return sha256_file(folder / "model.safetensors")


def read_fitted(file: Path, parse: Callable[[Any], Fitted], fix: str) -> Fitted | None:
    """Read a JSON file that was fitted for the weights of the run in its folder. Returns: None when there is none.

    parse: makes the content of the parsed JSON. fix: last sentence of the errors.
    Raises: RunError when the file is damaged, or was fitted for other weights than the run has now.
    """
    if not file.exists():
        return None
    try:
        found = parse(read_json(file))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{file} is damaged ({error!r}). {fix}") from None
    if found.weights_sha256 != weights_digest(file.parent):
        raise RunError(f"{file} was fitted for other weights than {file.parent} has now. {fix}")
    return found


def package_version(package: str) -> str:
    """Return the installed version of a package, or `not installed`."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _git_commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
