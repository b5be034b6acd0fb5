"""RUN/model: the weights and the spec of a network. The weights are a safetensors file, never a pickle."""

import html
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from mnsa.checked_files import require_whole, write_checked
from mnsa.errors import ModelError, RunError
from mnsa.io import atomic_write_text, read_json
from mnsa.model.network import Network, build_network
from mnsa.model.weights import find_not_finite
from mnsa.run_folder import ModelSpec


def save_network(folder: Path, network: Network, spec: ModelSpec) -> None:
    """Write the weights with their SHA-256, the spec and a short README.md into `folder`.

    Each file is replaced in one step. Raises: ModelError for weights that are not finite; OSError.
    """
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    if (name := find_not_finite(weights)) is not None:
        raise ModelError(f"{name} has values that are not finite (NaN), so the network is not saved. Train again.")
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(folder / "config.json", spec.to_json())
    digest = write_checked(folder / "model.safetensors", lambda file: file.write(save(weights)))
    atomic_write_text(folder / "README.md", _short_card(spec, digest))


def load_network(run: Path) -> tuple[Network, ModelSpec]:
    """Load the network of a run folder (or of its model/ folder), in eval mode, and its spec. Raises: RunError."""
    if not run.is_dir():
        raise RunError(f"{run} has no finished network: there is no such folder. Give a run of `mnsa train --out`.")
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
        require_whole(files[1])
        weights = load_file(files[1])
        # The file has all weights, so no pretrained backbone is downloaded.
        config = spec.model.model_copy(update={"pretrained": "none"})
        with torch.device("meta"):  # only shapes: a spec must not allocate more memory than its weights need
            expected = build_network(config, len(spec.classes), len(spec.mask_classes)).state_dict()
        if {name: value.shape for name, value in expected.items()} != {name: w.shape for name, w in weights.items()}:
            raise ValueError("config.json and model.safetensors belong to different networks")
        network = build_network(config, len(spec.classes), len(spec.mask_classes))
        network.load_state_dict(weights, strict=True)
        if (name := find_not_finite(weights)) is not None:
            raise ValueError(f"{name} has values that are not finite (NaN), so every answer would be wrong")
    except PermissionError as error:
        raise RunError(
            f"{error.filename or folder} can't be read: permission denied. Ask its owner for read permission."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, ModelError) as error:
        raise RunError(f"{folder} is damaged: {error}. Copy it again, or train again.") from None
    return network.eval(), spec


def network_table(spec: ModelSpec, weights_digest: str) -> str:
    """Return a Markdown table that describes a network. weights_digest: SHA-256 of model.safetensors."""
    cells = {
        "backbone": escape_markdown(spec.model.backbone),
        "attention": spec.model.attention,
        "decoder": spec.model.decoder if spec.mask_classes else "none",
        "classes": f"{len(spec.classes)}: {', '.join(map(escape_markdown, spec.classes)) or 'none'}",
        "mask classes": f"{len(spec.mask_classes)}: {', '.join(map(escape_markdown, spec.mask_classes)) or 'none'}",
        "training input": f"{spec.data.size[0]} x {spec.data.size[1]} px, {spec.data.resize_mode}",
        "sha256 of model.safetensors": weights_digest,
    }
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in cells.items())


def escape_markdown(text: str) -> str:
    """Escape untrusted text for one line of Markdown: no markup, no link, no line break."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return "".join(f"\\{character}" if character in "\\`*[]|#~" else character for character in escaped)


def _short_card(spec: ModelSpec, weights_digest: str) -> str:
    """Return the README.md of RUN/model; `mnsa.hub.model_card` writes the full one."""
    return (
        "---\nlibrary_name: mnsa\ntags: [leaf, fine-grained-classification, segmentation]\n---\n"
        "# A leaf network\n\nIt classifies and segments images of leaves. Use it with\n\n"
        "    import mnsa\n    prediction = mnsa.load(FOLDER).predict('leaf.jpg')\n\n"
        f"{network_table(spec, weights_digest)}\n\n"
        "It knows only the classes above: every image gets one of them.\n"
    )
