"""The model card: what a network is, what it learned from, how well it does, what it can't do. No number of its own."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from mnsa.data.manifest import SPLITS, Manifest, read_manifest
from mnsa.errors import DataError, MnsaError, RunError
from mnsa.hub.plain import plain
from mnsa.hub.scores import score_lines
from mnsa.run_folder import ModelCard, RunFolder, run_dataset
from mnsa.text_files import read_json

_MOST_CLASSES = 60  # rows of a table that somebody reads
_LIMITS = """- It knows only the classes above: any image, also of another plant or of none, is given one of them.
- Its probabilities say how it weighs its own classes; they are not calibrated, and a high one is no proof.
- It has seen the cameras, backgrounds, light, plant ages and scales of its data set alone. Score it on photos of your
  own before you rely on it: `mnsa evaluate RUN --data DATASET`.
- What is finer than a pixel of its input is lost: thin veins are missed or too wide, and traits measured on its masks
  inherit that.
- Images of one plant in both training and test flatter the scores; `mnsa check` finds copies, only you know the
  plants."""
_USE = """```python
import mnsa

predictor = mnsa.load("OWNER/MODEL")  # this model's name on the hub, or a folder
answer = predictor.predict("leaf.jpg")
```"""


def model_card(model: Path, run: RunFolder | None, licence: str | None) -> str:
    """The text of README.md for a model's folder, with what its run knows. Raises: RunError when either is damaged."""
    try:
        card = ModelCard.from_tree(read_json(model / "config.json"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{model / 'config.json'} is damaged: {error}. Copy it again, or train again.") from None
    does = [*(["tells classes apart"] if card.classes else []), *(["segments"] if card.mask_classes else [])]
    parts = {
        "": f"A network that {' and '.join(does)}, made with mnsa.\n\n{_facts(model, card)}",
        "Data": _data(run),
        "Scores": score_lines(run),
        "Limits": _LIMITS,
        "Use": _USE,
        "Licence": _licence(licence),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" if title else text for title, text in parts.items())
    return f"{_header(card, licence)}\n# A leaf network\n\n{body}\n"


def _header(card: ModelCard, licence: str | None) -> str:
    tags = ["mnsa", "leaf", "plant-phenotyping"]
    tags += ["image-classification"] if card.classes else []
    tags += ["image-segmentation"] if card.mask_classes else []
    lines = [f"library_name: mnsa\ntags: [{', '.join(tags)}]\nlicense: {licence or 'unknown'}"]
    if card.classes or card.mask_classes:
        lines.append(f"pipeline_tag: {'image-classification' if card.classes else 'image-segmentation'}")
    return "\n".join(["---", *lines, "---"])


def _facts(model: Path, card: ModelCard) -> str:
    with (model / "model.safetensors").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    facts = {
        "backbone": plain(card.model.backbone),
        "attention": card.model.attention,
        "decoder": card.model.decoder if card.mask_classes else "none",
        "classes": f"{len(card.classes)}: {', '.join(map(plain, card.classes)) or 'none'}",
        "mask classes": f"{len(card.mask_classes)}: {', '.join(map(plain, card.mask_classes)) or 'none'}",
        "training input": f"{card.data.size[0]} x {card.data.size[1]} px, {card.data.fit}",
        "sha256 of model.safetensors": digest,
    }
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in facts.items())


def _data(run: RunFolder | None) -> str:
    if run is None:
        return "Unknown: there was no run beside this model."
    try:
        folder, digest = run_dataset(run)
    except MnsaError:
        return _origin(run)
    try:
        manifest = read_manifest(folder)
    except DataError:
        manifest = None
    if manifest is None or manifest.digest() != digest:
        return (
            f"{plain(folder.name)} (sha256 of its manifest {digest}). Images per class are unknown, as the data set "
            "was not at hand, or not as it was."
        )
    return f"{plain(manifest.name)} (sha256 of its manifest {digest}).\n\n{_counts(manifest)}"


def _origin(run: RunFolder) -> str:
    """What is known of a network that was imported."""
    try:
        provenance: dict[str, Any] = read_json(run.provenance_file)
        return f"Unknown: it was imported from a checkpoint, sha256 {provenance['checkpoint_sha256']}."
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{run.provenance_file} can't be read ({error!r}). Restore it, or train again.") from None


def _counts(manifest: Manifest) -> str:
    """Images per class and split; those without a label in a line of their own."""
    counts = Counter((row.label, row.split) for row in manifest.rows)
    lines = [f"| images | {' | '.join(SPLITS)} |", "|---|" + "---|" * len(SPLITS)]

    def line(name: str, labels: set[str]) -> str:
        numbers = (sum(counts[label, split] for label in labels) for split in SPLITS)
        return f"| {name} | {' | '.join(map(str, numbers))} |"

    if len(manifest.classes) <= _MOST_CLASSES:
        lines += [line(plain(name), {name}) for name in manifest.classes]
    if any(not row.label for row in manifest.rows):
        lines.append(line("without a class", {""}))
    lines.append(line("all", {"", *manifest.classes}))
    masks = sum(bool(row.mask) for row in manifest.rows if row.split)
    return "\n".join(lines) + f"\n\n{masks} of them have a mask."


def _licence(licence: str | None) -> str:
    if licence is None:
        return (
            "Nobody has named a licence for these weights. Ask whoever gave them to you; the data set and the "
            "backbone's own weights may bind them too. mnsa itself is Apache-2.0."
        )
    return f"These weights: {licence}. The data set has its own licence. mnsa itself is Apache-2.0."
