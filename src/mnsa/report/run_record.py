"""A run as plain records, read from its folder alone. What is missing there is empty or None."""

import csv
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnsa.errors import RunError
from mnsa.inference.calibration_file import Calibration, load_calibration
from mnsa.io import read_json, read_text
from mnsa.metrics.evaluation_files import EvaluationFolder, evaluation_folder, read_evaluations, read_image_rows
from mnsa.metrics.scores import Evaluation
from mnsa.run_folder import RunFolder, open_run_folder, read_run_config

_SPLIT_ORDER = ("test", "val", "train")

_MAX_BYTES = 1 << 26  # of metrics.csv: a million epochs


@dataclass(frozen=True, slots=True)
class SplitScores:
    """One entry of evaluation.json under `key` (`test`, `test/trees`), and a row per image, if the table is there."""

    key: str
    evaluation: Evaluation
    folder: EvaluationFolder
    rows: list[Mapping[str, str]]

    @property
    def split(self) -> str:
        return self.key.partition("/")[0]

    @property
    def head(self) -> str:
        """The class head: `network` or `trees`."""
        return "trees" if "trees" in self.key.split("/") else "network"

    @property
    def title(self) -> str:
        """The split in words: `test`, `test, classes by boosted trees`, or `test, flips`."""
        return ", ".join("classes by boosted trees" if part == "trees" else part for part in self.key.split("/"))

    def command(self, run: "RunRecord", *options: str) -> str:
        """The command that evaluates the split again."""
        split = [] if self.split == "test" else ["--split", self.split]
        head = [] if self.head == "network" else ["--head", self.head]
        measured = any(name.startswith("true_") and name != "true_probability" for name in self.columns)
        traits = ["--traits"] if measured and "--traits" not in options else []
        others = [option for part in self.key.split("/")[1:] for option in _key_options(part)]
        return run.command("evaluate", *split, *head, *others, *traits, *options)

    @property
    def columns(self) -> Sequence[str]:
        """The columns of the table of images; none if it is missing."""
        return list(self.rows[0]) if self.rows else ()


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run at one moment.

    trained: whether there is a finished network. spec: model/config.json. stale_calibration: why calibration.json can't
    be used, or empty. epochs: rows of metrics.csv as text. postprocessing: postprocessing.json, or empty.
    """

    run: RunFolder
    name: str
    trained: bool
    spec: Mapping[str, Any]
    config: str
    provenance: Mapping[str, Any]
    epochs: list[dict[str, str]]
    evaluated: list[SplitScores]
    calibration: Calibration | None
    stale_calibration: str
    postprocessing: Mapping[str, Any]

    def command(self, verb: str, *options: str) -> str:
        """A command of mnsa on this run."""
        return shlex.join(["mnsa", verb, str(self.run.path), *options])

    @property
    def resume_command(self) -> str:
        """The command that continues the training."""
        return shlex.join(["mnsa", "train", "--resume", str(self.run.path)])


def read_run_record(run: RunFolder) -> RunRecord:
    """Read the folder of a run. Raises: RunError, ConfigError or DataError naming the file that is damaged."""
    open_run_folder(run.path)
    read_run_config(run)  # raises for an invalid config
    trained = (run.model_folder / "model.safetensors").is_file()
    calibration, stale = _read_calibration(run) if trained else (None, "")
    return RunRecord(
        run=run,
        name=run.path.resolve().name,
        trained=trained,
        spec=_read_table(run, "model/config.json") if trained else {},
        config=read_text(run.config_file, max_bytes=_MAX_BYTES),
        provenance=_read_table(run, "provenance.json"),
        epochs=_read_epochs(run),
        evaluated=_read_evaluated(run),
        calibration=calibration,
        stale_calibration=stale,
        postprocessing=_read_table(run, "postprocessing.json") if _has_postprocessing(run) else {},
    )


def _key_options(part: str) -> list[str]:
    """The options of `mnsa evaluate` that a part of a key after the split stands for; see `evaluation_key`."""
    if part in ("trees", ""):
        return []
    if part in ("repair", "no repair"):
        return [f"--{part.replace(' ', '-')}"]
    if part.startswith("mask threshold "):
        return ["--mask-threshold", part.removeprefix("mask threshold ")]
    return [word for view in part.split("+") for word in ("--tta", view)]


def _has_postprocessing(run: RunFolder) -> bool:
    return (run.path / "postprocessing.json").is_file()


def _read_evaluated(run: RunFolder) -> list[SplitScores]:
    entries = read_evaluations(run)
    keys = sorted(entries, key=lambda key: (_split_rank(key.partition("/")[0]), key))
    folders = {key: evaluation_folder(run, key) for key in keys}
    return [
        SplitScores(key, entries[key], folder, read_image_rows(folder) if folder.table.is_file() else [])
        for key, folder in folders.items()
    ]


def _split_rank(split: str) -> int:
    return _SPLIT_ORDER.index(split) if split in _SPLIT_ORDER else len(_SPLIT_ORDER)


def _read_calibration(run: RunFolder) -> tuple[Calibration | None, str]:
    try:
        return load_calibration(run.path), ""
    except RunError as error:
        return None, str(error)


def _read_epochs(run: RunFolder) -> list[dict[str, str]]:
    if not run.metrics_file.is_file():
        return []
    try:
        return list(csv.DictReader(read_text(run.metrics_file, max_bytes=_MAX_BYTES).splitlines()))
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"{run.metrics_file} can't be read: {error}. Restore it, or move it away.") from None


def _read_table(run: RunFolder, name: str) -> Mapping[str, Any]:
    file = run.path / name
    try:
        tree = read_json(file)
    except (OSError, ValueError) as error:
        raise RunError(f"{file} can't be read: {error}. Restore it, or train again.") from None
    if not isinstance(tree, dict):
        raise RunError(f"{file} holds no table. Restore it, or train again.")
    return tree
