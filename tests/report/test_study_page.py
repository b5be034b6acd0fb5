"""The report of a study: one page that holds everything, made from the folder alone."""

import base64
import random
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mnsa.report.study_page import plot_history, plot_importances, plot_study, render_study_page, write_study_report
from mnsa.search.selection import pareto_front
from mnsa.study_folder import StudyFolder, StudyRecord, TrialRecord, TrialStatus, read_study_record, write_study_record
from narrowing import some

CHOICES = ("deform3", "deform5", "atrous2", "atrous3", "context")


@pytest.fixture(scope="module")
def study() -> StudyRecord:
    """Twenty trials: complete, pruned, and one that failed."""
    rng, trials = random.Random(4), []
    for number in range(20):
        point = {name: rng.choice((1 / 16, 1 / 8, 1 / 4)) for name in CHOICES}
        macs = int(1e9 * (1 + sum(point.values())))
        iou = 0.4 + 0.2 * point["deform3"] + 0.05 * rng.random()
        epochs = 2 if number % 3 == 1 else 6
        curve = tuple(iou * (1 - 0.5**epoch) for epoch in range(1, epochs + 1))
        state: TrialStatus = "pruned" if epochs == 2 else "complete"
        facts: dict[str, Any] = {"parameters": macs // 300, "macs": macs, "peak_memory_mib": 900.0, "seconds": 60.0}
        trials.append(TrialRecord(number, number, state, point, curve[-1], curve, **facts))
    trials[5] = TrialRecord(5, 5, "failed", trials[5].point, reason="OutOfMemoryError: <3 GiB>")
    front = tuple(trial.number for trial in pareto_front(trials, "macs"))
    shares = {name: 1 / 2**place for place, name in enumerate(CHOICES, start=1)}
    return StudyRecord(
        "leaves & <veins>", "tpe", "median", 20, "macs", (256, 256), tuple(trials), shares, front, front[-1], "best"
    )


class Page(HTMLParser):
    """What a page refers to, and the text of its table."""

    def __init__(self, text: Any) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: Any, attrs: Any) -> None:
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, data: Any) -> None:
        if self.rows and self.tags[-1] in ("td", "th") and data.strip():
            self.rows[-1].append(data.strip())


def test_the_records_come_back_from_the_folder_as_they_were(study: StudyRecord, tmp_path: Path) -> None:
    write_study_record(StudyFolder(tmp_path), study)
    assert read_study_record(StudyFolder(tmp_path)) == study


def test_a_report_is_a_picture_per_figure_and_a_page_that_holds_them_all(study: StudyRecord, tmp_path: Path) -> None:
    write_study_report(StudyFolder(tmp_path), study)
    names = {"history", "front", "importances", "parallel", "slices", "curves"}
    files = {path.stem: path for path in (tmp_path / "report").iterdir()}
    assert files.keys() == names
    for path in files.values():
        with Image.open(path) as image:
            assert image.size[0] > 400
    page = Page((tmp_path / "report.html").read_text())
    held = [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in page.sources]
    assert sorted(held) == sorted(path.read_bytes() for path in files.values())
    assert not {"script", "link", "iframe"} & set(page.tags)
    write_study_report(StudyFolder(tmp_path), study)  # a second one replaces the first


def test_the_selected_trial_comes_first_and_then_the_others_by_iou_with_their_costs(study: StudyRecord) -> None:
    head, first, *others = Page(render_study_page(study, {})).rows
    assert head[:3] == ["trial", "validation IoU", "GMACs"]
    selected = study.trials[some(study.selected)]
    assert first[0] == f"{selected.number} (selected: best)"
    gmacs, millions = some(selected.macs) / 1e9, some(selected.parameters) / 1e6
    assert first[1:4] == [f"{selected.iou:.4f}", f"{gmacs:.3f}", f"{millions:.2f}"]
    assert "deform3 0.25" in first[-1]
    scores = [float(row[1]) for row in others]
    assert scores == sorted(scores, reverse=True)
    assert len(others) == 10


def test_names_and_reasons_are_escaped(study: StudyRecord) -> None:
    text = render_study_page(study, {})
    assert "leaves &amp; &lt;veins&gt;" in text
    assert "OutOfMemoryError: &lt;3 GiB&gt;" in text
    assert not re.search(r"<(veins|3 GiB)>", text)


def test_the_history_shows_each_status_and_the_best_so_far(study: StudyRecord) -> None:
    axes = plot_history(study).axes[0]
    shown: dict[object, Any] = {line.get_label(): line for line in axes.lines}
    complete = [trial for trial in study.trials if trial.state == "complete"]
    assert list(shown["complete"].get_ydata()) == [trial.iou for trial in complete]
    best = list(shown["best so far"].get_ydata())
    assert best == sorted(best)
    assert best[-1] == max(some(trial.iou) for trial in complete)
    assert list(shown["failed"].get_xdata()) == [5]


def test_the_most_important_choice_is_on_top(study: StudyRecord) -> None:
    bars = plot_importances(study).axes[0]
    assert [label.get_text() for label in bars.get_yticklabels()] == list(reversed(CHOICES))


@pytest.mark.parametrize("state", ["running", "failed", "pruned"])
def test_a_study_without_a_complete_trial_has_a_report_too(study: StudyRecord, state: Any, tmp_path: Path) -> None:
    trials = tuple(replace(trial, state=state) for trial in study.trials)
    bare = replace(study, trials=trials, importances={}, front=(), selected=None)
    assert plot_study(bare).keys() == {"history", "curves"}
    write_study_report(StudyFolder(tmp_path), bare)
    assert "No trial is complete yet" in (tmp_path / "report.html").read_text()


def test_a_space_with_a_choice_for_each_branch_of_each_level_can_be_drawn(study: StudyRecord) -> None:
    point: dict[str, float | str] = {f"level{level}_{name}": 0.25 for level in range(1, 6) for name in CHOICES}
    point |= {"attention": "mean", "lr": 0.1}
    other = {**point, "attention": "none", "lr": 0.2, "level1_deform3": 0.0}
    trials = tuple(replace(t, point=point if t.number % 2 else other) for t in study.trials)
    figures = plot_study(replace(study, trials=trials))
    assert sum(axes.get_visible() for axes in figures["slices"].axes) == len(point)


def test_a_study_of_one_training_compares_its_slices_with_what_was_retrained(study: StudyRecord) -> None:
    complete = [trial for trial in study.trials if trial.state == "complete"]
    ranked = sorted(complete, key=lambda trial: some(trial.iou))[:4]
    scores = dict(zip([trial.number for trial in ranked], (0.1, 0.3, 0.2, 0.4), strict=True))
    trials = tuple(replace(t, retrained_iou=scores.get(t.number)) for t in study.trials)
    one_training = replace(study, trials=trials, method="supernet")
    assert "curves" not in plot_study(one_training)
    text = render_study_page(one_training, {})
    assert "Kendall's tau of both: 0.67 (4 networks)" in text
    head, _selected, *others = Page(text).rows
    assert head[-2] == "IoU after its own training"
    assert {row[-2] for row in others[:4]} == {"0.1000", "0.2000", "0.3000", "0.4000"}
    few = replace(one_training, trials=tuple(replace(t, retrained_iou=None) for t in trials))
    assert "tau" not in render_study_page(few, {})
