"""mnsa: which cultivar is this leaf, and where are its veins - one network for both."""

from importlib import import_module
from typing import TYPE_CHECKING

from mnsa.config import Config, load_config
from mnsa.errors import ConfigError, DataError, MnsaError, ModelError, RunError

if TYPE_CHECKING:
    from mnsa.data.manifest import Manifest, read_manifest
    from mnsa.inference.predictor import Predictor, load
    from mnsa.model.network import Network, build_network
    from mnsa.training.fit import train

__version__ = "0.1.0"

# Imported on first use, so that `import mnsa` and the command line's help don't wait for torch.
_LAZY = {
    "Manifest": "mnsa.data.manifest",
    "read_manifest": "mnsa.data.manifest",
    "Network": "mnsa.model.network",
    "build_network": "mnsa.model.network",
    "Predictor": "mnsa.inference.predictor",
    "load": "mnsa.inference.predictor",
    "train": "mnsa.training.fit",
}

__all__ = [
    "Config",
    "ConfigError",
    "DataError",
    "Manifest",
    "MnsaError",
    "ModelError",
    "Network",
    "Predictor",
    "RunError",
    "build_network",
    "load",
    "load_config",
    "read_manifest",
    "train",
]


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'mnsa' has no attribute {name!r}")
