"""RUN/model: the weights and the spec of a network. The weights are a safetensors file, never a pickle."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mnsa.errors import ModelError, RunError
from mnsa.io import atomic_path, atomic_write_text, read_json, sha256_file
from mnsa.model.network import Network, build_network
from mnsa.run_folder import ModelSpec


def save_network(folder: Path, network: Network, spec: ModelSpec) -> None:
    """Write weights, config and card into `folder`; an interrupted call leaves the old files or the new ones."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    with atomic_path(folder / "model.safetensors") as temporary:
        save_file(weights, temporary)
        digest = sha256_file(temporary)
        atomic_write_text(folder / "config.json", spec.to_json())
        atomic_write_text(folder / "README.md", _model_card(network, spec, digest))


def load_network(run: Path) -> tuple[Network, ModelSpec]:
    """The network of a run folder (or of its model/ folder), in eval mode, and its spec. Raises: RunError."""
    folder = run / "model" if (run / "model").is_dir() else run
    files = folder / "config.json", folder / "model.safetensors"
    for file in files:
        if not file.is_file():
            raise RunError(
                f"{run} has no finished network: {file.relative_to(run)} is missing. "
                f"If training was interrupted, continue it: mnsa train --resume {run}"
            )
    try:
        spec = ModelSpec.from_dict(read_json(files[0]))
        weights = load_file(files[1])
        # The weights come from the file, so nothing is fetched for the backbone.
        blank = spec.model.model_copy(update={"pretrained": "none"})
        with torch.device("meta"):  # first as shapes alone: a card must not ask for more than its weights bring
            expected = build_network(blank, len(spec.classes), len(spec.mask_classes)).state_dict()
        if {name: value.shape for name, value in expected.items()} != {name: w.shape for name, w in weights.items()}:
            raise ValueError("config.json describes another network than model.safetensors holds")
        network = build_network(blank, len(spec.classes), len(spec.mask_classes))
        network.load_state_dict(weights, strict=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, ModelError) as error:
        raise RunError(f"{folder} is damaged: {error}. Copy it again, or train again.") from None
    return network.eval(), spec


def _model_card(network: Network, spec: ModelSpec, digest: str) -> str:
    parameters = sum(p.numel() for p in network.parameters())
    facts: dict[str, Any] = {
        "backbone": spec.model.backbone,
        "attention": spec.model.attention,
        "parameters": f"{parameters:,}",
        "classes": f"{len(spec.classes)}: {', '.join(spec.classes) or 'none'}",
        "mask classes": f"{len(spec.mask_classes)}: {', '.join(spec.mask_classes) or 'none'}",
        "training input": f"{spec.data.size[0]} x {spec.data.size[1]} px, {spec.data.resize_mode}",
        "sha256 of model.safetensors": digest,
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return (
        "---\nlibrary_name: mnsa\ntags: [leaf, fine-grained-classification, segmentation]\n---\n"
        "# A leaf network\n\nClassifies a leaf image and segments it, in one pass. Use it with\n\n"
        "    import mnsa\n    prediction = mnsa.load(FOLDER).predict('leaf.jpg')\n\n"
        f"| | |\n|---|---|\n{table}\n\nIt knows only the classes above: any image is given one of them.\n"
    )
