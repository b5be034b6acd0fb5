"""One artefact on disk.

model.pt2 | model.onnx | model.xml + model.bin    the network, its card inside
model.onnx.data                                   its weights, when they are too large for model.onnx
export.json                                       the card again, with the comparison with the eager network
"""

import hashlib
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np

from mnsa.engines.card import EngineCard
from mnsa.engines.kinds import FILES, EngineName, Precision, require_engine, require_precision
from mnsa.engines.program import explained, trace
from mnsa.engines.session import Session
from mnsa.errors import RunError
from mnsa.model.folded import fold_norms
from mnsa.model.network import Network
from mnsa.run_folder import RunFolder, write_text

CARD_FILE = "export.json"


def export_folder(run: Path, engine: EngineName, precision: Precision) -> Path:
    """Where a run keeps its artefact of one kind."""
    return RunFolder(run).exports_folder / f"{engine}-{precision}"


def weights_digest(run: Path) -> str:
    """SHA-256 of the weights of a run folder (or of its model/ folder), hex."""
    folder = run / "model" if (run / "model").is_dir() else run
    with (folder / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_artefact(folder: Path, network: Network, card: EngineCard, calibration: Iterable[np.ndarray]) -> None:
    """Write a network's file into `folder`. calibration: normalised images (1, 3, h, w), read for int8 alone.

    Raises: ModelError when the network can't be exported.
    """
    folded, target, text = deepcopy(network).eval().requires_grad_(False), folder / FILES[card.engine], card.to_json()
    fold_norms(folded)
    program = trace(folded)
    if card.engine == "torch":
        from mnsa.engines.torch_file import write_torch

        write_torch(program, target, text)
        return
    from mnsa.engines.onnx_file import quantise, remove_onnx, set_card, write_onnx

    onnx_file = folder / FILES["onnx"]
    with explained(card.engine, network):
        write_onnx(program, onnx_file, card.outputs)
        if card.precision == "int8":
            quantise(onnx_file, calibration)
        set_card(onnx_file, text)
        if card.engine == "openvino":
            from mnsa.engines.openvino_file import write_openvino

            write_openvino(onnx_file, target, text, card.precision)
            remove_onnx(onnx_file)


def keep_comparison(folder: Path, card: EngineCard, comparison: dict[str, object]) -> EngineCard:
    """Write the card beside the artefact, with what the comparison has found."""
    card = replace(card, comparison=comparison)
    write_text(folder / CARD_FILE, card.to_json())
    return card


def open_artefact(folder: Path, engine: EngineName) -> Session:
    """Load an artefact. Raises: RunError when it is damaged; ModelError without the extra `export`."""
    require_engine(engine)
    path = folder / FILES[engine]
    try:
        if engine == "torch":
            from mnsa.engines.torch_file import open_torch as open_file
        elif engine == "onnx":
            from mnsa.engines.onnx_file import open_onnx as open_file
        else:
            from mnsa.engines.openvino_file import open_openvino as open_file
        run, text = open_file(path)
        return Session(EngineCard.from_json(text), run)
    except Exception as error:  # three libraries, each with its own ways to fail
        reason = str(error).strip().partition("\n")[0]
        raise RunError(f"{path} can't be used: {reason}. Remove {folder} and export again.") from error


def open_export(run: Path, engine: EngineName, precision: Precision) -> Session:
    """The artefact that `mnsa export` wrote into a run folder.

    Raises: RunError when there is none, or when it was made from other weights than the run has now.
    """
    require_precision(engine, precision)
    folder = export_folder(run, engine, precision)
    command = f"mnsa export {run} --to {engine}" + ("" if precision == "float32" else f" --precision {precision}")
    if not (folder / FILES[engine]).is_file():
        raise RunError(f"{run} has no {engine} network in {precision}. Make it: {command}")
    session = open_artefact(folder, engine)
    if session.card.weights_sha256 != weights_digest(run):
        raise RunError(
            f"{folder} was made from other weights than {run} has now. Remove it and make it anew: {command}"
        )
    return session
