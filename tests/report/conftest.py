"""Runs and a study with everything that a page can show, and a reader of pages."""

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mnsa.config import Config
from mnsa.data.manifest import read_manifest, write_manifest
from mnsa.metrics.evaluation_files import read_evaluations
from mnsa.metrics.scores import Evaluation
from mnsa.model.network import build_network
from mnsa.model_folder import save_network
from mnsa.run_folder import ModelSpec, RunFolder, create_run_folder, dataset_provenance
from mnsa.search.selection import pareto_front
from mnsa.study_folder import StudyRecord, TrialRecord, TrialStatus
from mnsa.workflows.calibrate import calibrate_run
from mnsa.workflows.evaluate import evaluate_run

VOID = {"meta", "img", "br", "link", "input", "image", "use", "path", "rect"}
STUDY_CHOICES = ("deform3", "deform5", "atrous2", "atrous3", "context")
NO_NAMES = {"vein": (), "leaf": (), "lesion": ()}


class Page(HTMLParser):
    """A page as a tree was read: links, pictures, ids, tables, and the text below each h2."""

    def __init__(self, text: Any) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.alts: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.sections = {"": ""}
        self.feed(text)
        self.close()
        assert self.open == [], "tags that were never closed"

    def handle_starttag(self, tag: Any, attrs: Any) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[name] for name in ("href", "src", "xlink:href") if name in found]
        self.alts += [found["alt"]] if tag == "img" else []
        if tag not in VOID or tag in ("image", "use", "path", "rect"):
            self.open.append(tag)
        if tag == "h2":
            self.sections["h2"] = ""
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: Any, attrs: Any) -> None:
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag: Any) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag
        if tag == "h2":
            self.sections[self.sections.pop("h2")] = ""

    def handle_data(self, data: Any) -> None:
        where = list(self.sections)[-1]
        self.sections[where] += data
        if self.tables and self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def table(self, *head: Any) -> Any:
        """The rows of the first table with this head."""
        return next(table[1:] for table in self.tables if tuple(table[0]) == head)


@pytest.fixture(scope="session")
def read_page() -> Callable[..., Any]:
    return Page


@pytest.fixture(scope="session")
def reported(finished: RunFolder, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A calibrated run, scored with traits on its training split and plainly on test. For reading only."""
    folder = tmp_path_factory.mktemp("reported")
    run = RunFolder(shutil.copytree(finished.path, folder / "first"))
    manifest = read_manifest(dataset)
    rows = tuple(replace(row, split="val" if row.split == "train" else row.split) for row in manifest.rows)
    write_manifest(replace(manifest, rows=rows), folder / "more")
    calibrate_run(run.path, dataset=folder / "more")
    evaluate_run(run.path, split="train", traits=NO_NAMES)
    evaluate_run(run.path)
    return run


@pytest.fixture
def own_reported(reported: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy that a test may break."""
    return RunFolder(shutil.copytree(reported.path, tmp_path / "first"))


@pytest.fixture
def one_task(dataset: Path, make_config: Callable[..., Config], tmp_path: Path) -> Callable[..., RunFolder]:
    """A run of one task, `classes` or `masks`, with weights of chance, and its data set."""

    def make(task: str) -> RunFolder:
        kept: dict[str, Any]
        manifest = read_manifest(dataset)
        if task == "classes":
            rows, kept = [replace(row, mask="") for row in manifest.rows], {"mask_classes": ()}
        else:
            rows, kept = [replace(row, label="") for row in manifest.rows], {"classes": ()}
        manifest = replace(manifest, rows=tuple(rows), **kept)
        write_manifest(manifest, tmp_path / "one-task")
        config = make_config()
        run = create_run_folder(tmp_path / "run", config, dataset_provenance(manifest, tmp_path / "one-task"))
        card = ModelSpec(config.model, config.data, manifest.classes, manifest.mask_classes)
        network = build_network(config.model, len(card.classes), len(card.mask_classes))
        save_network(run.model_folder, network, card)
        return run

    return make


@pytest.fixture(scope="session")
def evaluation(reported: RunFolder) -> dict[str, Evaluation]:
    return read_evaluations(reported)


@pytest.fixture(scope="session")
def study() -> StudyRecord:
    """Twenty trials: complete, pruned, and one that failed."""
    rng, trials = random.Random(4), []
    for number in range(20):
        point = {name: rng.choice((1 / 16, 1 / 8, 1 / 4)) for name in STUDY_CHOICES}
        macs = int(1e9 * (1 + sum(point.values())))
        iou = 0.4 + 0.2 * point["deform3"] + 0.05 * rng.random()
        epochs = 2 if number % 3 == 1 else 6
        curve = tuple(iou * (1 - 0.5**epoch) for epoch in range(1, epochs + 1))
        state: TrialStatus = "pruned" if epochs == 2 else "complete"
        facts: dict[str, Any] = {"parameters": macs // 300, "macs": macs, "peak_memory_mib": 900.0, "seconds": 60.0}
        trials.append(TrialRecord(number, number, state, point, curve[-1], curve, **facts))
    trials[5] = TrialRecord(5, 5, "failed", trials[5].point, reason="OutOfMemoryError: <3 GiB>")
    front = tuple(trial.number for trial in pareto_front(trials, "macs"))
    shares = {name: 1 / 2**place for place, name in enumerate(STUDY_CHOICES, start=1)}
    return StudyRecord(
        "leaves & <veins>", "tpe", "median", 20, "macs", (256, 256), tuple(trials), shares, front, front[-1], "best"
    )
