"""Progress shows images per second and the time left, on a terminal and elsewhere."""

import io
from typing import Any

import pytest
from rich.console import Console

from mnsa.cli.shared import format_speed, image_progress


def test_speed_has_images_per_second_and_the_time_left() -> None:
    assert format_speed(remaining=100, finished=50, seconds=10.0) == "5 images/s, 0:00:20 left"
    assert format_speed(remaining=36_000, finished=20, seconds=10.0) == "2 images/s, 5:00:00 left"
    assert format_speed(remaining=7, finished=0, seconds=3.0) == ""


def shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> Any:
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr("mnsa.cli.shared.time.monotonic", lambda: float(next(clock)))
    text = io.StringIO()
    with image_progress(Console(file=text, force_terminal=terminal, width=100)) as show:
        for finished in (10, 20, 30, 40):
            show(finished, 40, finished)
    return text.getvalue()


def test_without_a_terminal_a_line_is_printed_every_30_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, terminal=False).splitlines()
    assert 1 <= len(lines) < 4
    assert lines[0].startswith("20 of 40 images, 0.")
    assert lines[0].endswith(" left")


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "40/40" in shown(monkeypatch, terminal=True)
