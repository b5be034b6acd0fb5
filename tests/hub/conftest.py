"""A hub without a network: what is asked of it, and a folder that it gives."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from mnsa.run_folder import RunFolder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, finished: RunFolder, tmp_path: Path) -> Any:
    """`hub.gives`: the folder behind every name, or an error to raise; `hub.asked`: what it was asked for."""

    class Hub:
        gives = finished.model_folder

        def __init__(self) -> None:
            self.asked: list[Any] = []

        def snapshot(self, name: str, **options: Any) -> str:
            self.asked.append((name, options))
            if isinstance(self.gives, Exception):
                raise self.gives
            return str(self.gives)

    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot)
    monkeypatch.chdir(tmp_path)
    return hub
