"""The trainer shows a progress bar where someone looks at it, and hides Lightning's messages."""

import logging
import sys
from types import ModuleType

import pytest

from mnsa.training import trainer


@pytest.mark.parametrize(("terminal", "notebook"), [(False, False), (True, False), (False, True)])
def test_the_default_is_a_progress_bar_on_a_terminal_and_in_a_notebook(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, notebook: bool
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    if notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    assert trainer._shows_progress_bar(None) == (terminal or notebook)
    assert trainer._shows_progress_bar(True)
    assert not trainer._shows_progress_bar(False)


def test_lightnings_messages_are_hidden_only_during_training() -> None:
    lightning_logger = logging.getLogger("lightning.pytorch")
    level = lightning_logger.level
    with trainer.quiet_lightning():
        assert not lightning_logger.isEnabledFor(logging.WARNING)
    assert lightning_logger.level == level
