"""The networks that come with the package: a model folder each, like RUN/model, with weights in float16.

`benchmarks/veins_in_the_box.py` makes them from a finished run. Nothing here needs torch.
"""

from pathlib import Path

from mnsa.errors import ModelError

FOLDER = Path(__file__).parent

VEINS = "veins"  # the name of the network of `mnsa veins`; one mask class, `vein`

NAMES = (VEINS,)

WEIGHTS_FILE = "model.safetensors"

_OWN_MODEL = ("model", "config.json", "config.toml")  # one of them is in a run folder or a model folder


def is_bundled(source: str | Path) -> bool:
    """Whether `source` names a bundled network. A folder of this name that holds a run or a model comes first."""
    return str(source) in NAMES and not any((Path(source) / name).exists() for name in _OWN_MODEL)


def bundled_folder(name: str) -> Path:
    """Return the model folder of a bundled network. Raises: ModelError when this installation has no weights of it."""
    folder = FOLDER / name
    if not (folder / WEIGHTS_FILE).is_file():
        raise ModelError(
            f"This installation of mnsa comes without the weights of {name!r}, and there is no run folder of this "
            "name. Install a version that has them, or train a network: mnsa train configs/veins_pretrain.toml"
        )
    return folder
