"""The counts of injected faults, printed at the end; and a training to compare with."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from fault_runs import Faults, Reference, equal, run, weights
from mnsa.config import Config, dump_config

_counts: Counter[str] = Counter()


@pytest.fixture
def count() -> Callable[[str], None]:
    """Count injected faults, for the summary."""

    def add(name: str) -> None:
        _counts[name] += 1

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, number in _counts.items():
        terminalreporter.write_line(f"{number:5} {name}")
    if _counts:
        terminalreporter.write_line(f"{sum(_counts.values()):5} faults injected")


@pytest.fixture(scope="session")
def references(
    dataset: Path, make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[int, Reference]:
    """The same training with 0 and with 2 processes that load images."""
    folder, found = tmp_path_factory.mktemp("reference"), {}
    for workers in (0, 2):
        options: dict[str, dict[str, object]] = {
            "train": {"workers": workers, "ema_decay": 0.9, "postprocessing": False, "checkpoint_minutes": 1e-9},
            "augment": {"vertical_flip": 0.5, "random_erasing": 0.5},
        }
        config, out = folder / f"{workers}.toml", folder / str(workers)
        config.write_text(dump_config(make_config({"epochs": 3}, **options)))
        arguments = ("train", config, "--data", dataset)
        ended = run([*arguments, "--out", out], folder / "log", Faults(steps_file=folder / "steps"))
        assert ended.code == 0, ended.text
        found[workers] = Reference(arguments, int((folder / "steps").read_text()), weights(out))
    assert equal(found[0].weights, found[2].weights)
    return found
