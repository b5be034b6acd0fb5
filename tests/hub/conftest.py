"""A hub without a network: what is asked of it, and a folder that it gives."""

import huggingface_hub
import pytest


@pytest.fixture
def hub(monkeypatch, finished, tmp_path):
    """`hub.gives`: the folder behind every name, or an error to raise; `hub.asked`: what it was asked for."""

    class Hub:
        gives = finished.model_folder

        def __init__(self):
            self.asked = []

        def snapshot(self, name, **options):
            self.asked.append((name, options))
            if isinstance(self.gives, Exception):
                raise self.gives
            return str(self.gives)

    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot)
    monkeypatch.chdir(tmp_path)
    return hub
