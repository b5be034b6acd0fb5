"""mnsa: which cultivar is this leaf, and where are its veins. One network for both.

Every public name is imported when it is first used, so `import mnsa` loads no PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from mnsa.config import Config, load_config
from mnsa.errors import ConfigError, DataError, MnsaError, ModelError, RunError

if TYPE_CHECKING:
    from mnsa.api import (
        calibrate,
        evaluate,
        export,
        import_folders,
        plan,
        predict_files,
        probe,
        resume,
        synthesize,
        train,
        write_report,
    )
    from mnsa.data.manifest import Manifest, read_manifest
    from mnsa.inference.prediction import NamedPrediction
    from mnsa.inference.predictor import Predictor, load
    from mnsa.metrics.scores import Evaluation
    from mnsa.model.network import Network, build_network
    from mnsa.run_folder import RunFolder
    from mnsa.traits import TraitMeasurer, find_roles
    from mnsa.visualize.drawing import draw_overlay

__version__ = "0.1.0"

_MODULES = {
    "mnsa.api": (
        "calibrate",
        "evaluate",
        "export",
        "import_folders",
        "plan",
        "predict_files",
        "probe",
        "resume",
        "synthesize",
        "train",
        "write_report",
    ),
    "mnsa.data.manifest": ("Manifest", "read_manifest"),
    "mnsa.inference.prediction": ("NamedPrediction",),
    "mnsa.inference.predictor": ("Predictor", "load"),
    "mnsa.metrics.scores": ("Evaluation",),
    "mnsa.model.network": ("Network", "build_network"),
    "mnsa.run_folder": ("RunFolder",),
    "mnsa.traits": ("TraitMeasurer", "find_roles"),
    "mnsa.visualize.drawing": ("draw_overlay",),
}
_LAZY = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Config",
    "ConfigError",
    "DataError",
    "Evaluation",
    "Manifest",
    "MnsaError",
    "ModelError",
    "NamedPrediction",
    "Network",
    "Predictor",
    "RunError",
    "RunFolder",
    "TraitMeasurer",
    "build_network",
    "calibrate",
    "draw_overlay",
    "evaluate",
    "export",
    "find_roles",
    "import_folders",
    "load",
    "load_config",
    "plan",
    "predict_files",
    "probe",
    "read_manifest",
    "resume",
    "synthesize",
    "train",
    "write_report",
]


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'mnsa' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
