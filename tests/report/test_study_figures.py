"""The figures of a study show its trials, its best choices, and spaces of any size."""

from dataclasses import replace
from typing import Any

from mnsa.report.study_figures import plot_history, plot_importances, study_plots
from mnsa.study_folder import StudyRecord
from narrowing import some


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
    assert [label.get_text() for label in bars.get_yticklabels()] == sorted(
        study.importances, key=study.importances.__getitem__
    )


def test_a_space_with_a_choice_for_each_branch_of_each_level_can_be_drawn(study: StudyRecord) -> None:
    point: dict[str, float | str] = {
        f"level{level}_{name}": 0.25 for level in range(1, 6) for name in study.importances
    }
    point |= {"attention": "mean", "lr": 0.1}
    other = {**point, "attention": "none", "lr": 0.2, "level1_deform3": 0.0}
    trials = tuple(replace(t, point=point if t.number % 2 else other) for t in study.trials)
    figure = study_plots(replace(study, trials=trials))["slices"]()
    assert sum(axes.get_visible() for axes in figure.axes) == len(point)
