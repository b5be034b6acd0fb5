"""A new metric is one entry in `mnsa.metrics.scoring`: table, report and model card show it without a change."""

import io
from typing import Any

import pytest
from rich.console import Console

from mnsa.cli.tables import score_tables
from mnsa.hub.model_card import score_table
from mnsa.metrics import scoring
from mnsa.metrics.evaluation_files import read_evaluations
from mnsa.metrics.scoring import Metric
from mnsa.report.run_page import render_run_page
from mnsa.report.run_record import read_run_record
from mnsa.run_folder import RunFolder
from mnsa.workflows.evaluate import evaluate_run


@pytest.mark.parametrize(
    ("group", "title", "in_table"),
    [
        ("CLASS_METRICS", "dummy score", "dummy score (95 % interval)"),
        ("MASK_METRICS", "dummy score of vein", "dummy score (95 % interval)"),
        ("TOPOLOGY_METRICS", "dummy score of vein", "topology (95 % interval)"),
    ],
)
def test_a_new_metric_is_in_table_report_and_model_card(
    own_run: RunFolder, monkeypatch: pytest.MonkeyPatch, group: Any, title: str, in_table: str
) -> None:
    dummy: Metric[Any] = Metric("dummy", "dummy score", lambda results: 0.123, interval=True, headline=True, share=True)
    monkeypatch.setattr(scoring, group, [*getattr(scoring, group), dummy])
    evaluation = evaluate_run(own_run.path)
    text_file = io.StringIO()
    console = Console(width=200, file=text_file)
    for table in score_tables(evaluation, "test"):
        console.print(table)
    assert in_table in text_file.getvalue()
    assert "dummy score" in text_file.getvalue()
    interval = next(score.interval_text for score in evaluation.scores if score.name == "dummy")
    assert interval.endswith(", Wilson")
    assert f"0.123 ({interval})" in text_file.getvalue()
    assert f"| {title} | 0.123 | {interval}" in score_table(own_run)
    page = render_run_page(read_run_record(own_run))
    assert f"<span>{title}</span><b>0.123</b>" in page
    assert f'<td class="text">{title}</td><td>0.123</td><td>{interval}</td>' in page
    assert read_evaluations(own_run)["test"] == evaluation
