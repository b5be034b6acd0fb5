"""The report of a study: one page that holds everything, made from the folder alone."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mnsa.report.study_figures import study_plots
from mnsa.report.study_page import render_study_page, write_study_report
from mnsa.study_folder import StudyFolder, StudyRecord, read_study_record, write_study_record
from narrowing import some


class Page(HTMLParser):
    """What a page refers to, its texts, and the cells of its table."""

    def __init__(self, text: Any) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: Any, attrs: Any) -> None:
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, data: Any) -> None:
        self.texts.append(data.strip())
        if self.rows and self.tags[-1] in ("td", "th") and data.strip():
            self.rows[-1].append(data.strip())


def test_the_records_come_back_from_the_folder_as_they_were(study: StudyRecord, tmp_path: Path) -> None:
    write_study_record(StudyFolder(tmp_path), study)
    assert read_study_record(StudyFolder(tmp_path)) == study


@pytest.mark.slow
def test_a_report_is_a_picture_per_figure_and_a_page_that_holds_them_all(study: StudyRecord, tmp_path: Path) -> None:
    write_study_report(StudyFolder(tmp_path), study)
    names = {"history", "front", "importances", "parallel", "slices", "curves"}
    files = {path.stem: path for path in (tmp_path / "report").iterdir()}
    assert files.keys() == names
    for path in files.values():
        with Image.open(path) as image:
            assert image.size[0] > 400
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert page.tags.count("svg") == len(names)
    assert all(f'id="{name}-' in text for name in names)
    assert all(source.startswith("#") for source in page.sources)  # it needs no other file
    assert not {"script", "link", "iframe", "img"} & set(page.tags)
    write_study_report(StudyFolder(tmp_path), study)  # a second one replaces the first


def test_the_page_has_the_style_of_a_run_with_parts_letters_as_text_and_dark_mode(study: StudyRecord) -> None:
    text = render_study_page(study)
    page = Page(text)
    ids = re.findall(r'<h2 id="(\w+)"', text)
    assert ids == ["summary", "trials", "choices", "failed"]
    assert [source for source in page.sources if source.removeprefix("#") in ids] == [f"#{name}" for name in ids]
    assert "prefers-color-scheme: dark" in text
    assert "currentColor" in text  # the letters of figures follow the mode
    assert {"validation IoU", "best so far", "deform3"} <= set(page.texts)
    selected = study.trials[some(study.selected)]
    assert f"<b>{selected.iou:.3f}</b>" in text


def test_the_selected_trial_comes_first_and_then_the_others_by_iou_with_their_costs(study: StudyRecord) -> None:
    head, first, *others = Page(render_study_page(study)).rows
    assert head[:3] == ["trial", "validation IoU", "GMACs"]
    selected = study.trials[some(study.selected)]
    assert first[0] == f"{selected.number} (selected: best)"
    gmacs, millions = some(selected.macs) / 1e9, some(selected.parameters) / 1e6
    assert first[1:4] == [f"{selected.iou:.4f}", f"{gmacs:.3f}", f"{millions:.2f}"]
    assert "deform3 0.25" in first[-1]
    assert not [name for name in head if "latency" in name or "own training" in name]  # no trial has them
    scores = [float(row[1]) for row in others]
    assert scores == sorted(scores, reverse=True)
    assert len(others) == 10


def test_names_and_reasons_are_escaped(study: StudyRecord) -> None:
    text = render_study_page(study)
    assert "leaves &amp; &lt;veins&gt;" in text
    assert "OutOfMemoryError: &lt;3 GiB&gt;" in text
    assert not re.search(r"<(veins|3 GiB)>", text)


@pytest.mark.parametrize("state", ["running", "failed", "pruned"])
def test_a_study_without_a_complete_trial_has_a_report_too(study: StudyRecord, state: Any, tmp_path: Path) -> None:
    trials = tuple(replace(trial, state=state) for trial in study.trials)
    bare = replace(study, trials=trials, importances={}, front=(), selected=None)
    assert study_plots(bare).keys() == {"history", "curves"}
    write_study_report(StudyFolder(tmp_path), bare)
    assert "No trial is complete yet" in (tmp_path / "report.html").read_text()


def test_a_study_of_one_training_compares_its_slices_with_what_was_retrained(study: StudyRecord) -> None:
    complete = [trial for trial in study.trials if trial.state == "complete"]
    ranked = sorted(complete, key=lambda trial: some(trial.iou))[:4]
    scores = dict(zip([trial.number for trial in ranked], (0.1, 0.3, 0.2, 0.4), strict=True))
    trials = tuple(replace(t, retrained_iou=scores.get(t.number)) for t in study.trials)
    one_training = replace(study, trials=trials, method="supernet")
    assert "curves" not in study_plots(one_training)
    text = render_study_page(one_training)
    assert "Kendall's tau of both: 0.67 (4 networks)" in text
    head, _selected, *others = Page(text).rows
    assert head[-2] == "IoU after its own training"
    assert {row[-2] for row in others[:4]} == {"0.1000", "0.2000", "0.3000", "0.4000"}
    few = replace(one_training, trials=tuple(replace(t, retrained_iou=None) for t in trials))
    assert "tau" not in render_study_page(few)
