"""Runs with everything that a page can show, and a reader of pages."""

import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from mnsa.data.manifest import read_manifest, write_manifest
from mnsa.metrics.evaluation_files import read_evaluations
from mnsa.model.network import build_network
from mnsa.model_folder import save_network
from mnsa.run_folder import ModelSpec, RunFolder, create_run_folder, dataset_provenance
from mnsa.workflows.calibrate import calibrate_run
from mnsa.workflows.evaluate import evaluate_run

VOID = {"meta", "img", "br", "link", "input", "image", "use", "path", "rect"}
NO_NAMES = {"vein": (), "leaf": (), "lesion": ()}


class Page(HTMLParser):
    """A page as a tree was read: links, pictures, ids, tables, and the text below each h2."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.links, self.ids, self.tags = [], [], [], []
        self.sections, self.tables, self.alts = {"": ""}, [], []
        self.feed(text)
        self.close()
        assert self.open == [], "tags that were never closed"

    def handle_starttag(self, tag, attrs):
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

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag
        if tag == "h2":
            self.sections[self.sections.pop("h2")] = ""

    def handle_data(self, data):
        where = list(self.sections)[-1]
        self.sections[where] += data
        if self.tables and self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def table(self, *head):
        """The rows of the first table with this head."""
        return next(table[1:] for table in self.tables if tuple(table[0]) == head)


@pytest.fixture(scope="session")
def read_page():
    return Page


@pytest.fixture(scope="session")
def reported(finished, dataset, tmp_path_factory):
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
def own_reported(reported, tmp_path):
    """A copy that a test may break."""
    return RunFolder(shutil.copytree(reported.path, tmp_path / "first"))


@pytest.fixture
def one_task(dataset, make_config, tmp_path):
    """A run of one task, `classes` or `masks`, with weights of chance, and its data set."""

    def make(task):
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
def evaluation(reported):
    return read_evaluations(reported)
