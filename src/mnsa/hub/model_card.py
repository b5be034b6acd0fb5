"""The model card: what the network is, its training data, its scores and its limits. All numbers are read from the run."""

import html
from collections import Counter
from pathlib import Path
from typing import Any

from mnsa.data.manifest import SPLITS, Manifest, read_manifest
from mnsa.errors import DataError, MnsaError, RunError
from mnsa.io import read_json, sha256_file
from mnsa.metrics.evaluation_files import read_evaluations
from mnsa.metrics.scores import Evaluation, format_interval, format_score
from mnsa.run_folder import ModelSpec, RunFolder, read_run_dataset


def escape_markdown(text: str) -> str:
    """A stranger's name, as text in a table: no markup, no link, no line of its own."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return "".join(f"\\{character}" if character in "\\`*[]|#~" else character for character in escaped)


def score_table(run: RunFolder | None) -> str:
    """A table of the scores of the network's own class head, with split and interval. Raises: RunError for a damaged file."""
    if run is None or not run.evaluation_file.exists():
        return "Not evaluated yet: `mnsa evaluate RUN` scores it on its test images."
    # `test/trees` are scores with boosted trees as class head, which are no part of the saved network.
    entries = {key: entry for key, entry in read_evaluations(run).items() if "/" not in key}
    table = ["| data set | split | images | score | value | interval |", "|---|---|---|---|---|---|"]
    table += [row for split, entry in entries.items() for row in _score_rows(split, entry)]
    return "\n".join(table) + "\n\nMeasured at the original image size."


def _score_rows(split: str, entry: Evaluation) -> list[str]:
    where = f"{escape_markdown(entry.dataset)} | {escape_markdown(split)}"
    rows = []
    for score in entry.scores:
        if score.headline:
            size = entry.sizes[score.group]
            interval = f"{format_interval(score.interval)} ({size.interval_text})" if score.interval else ""
            value = format_score(score.value, score.unit)
            rows.append(f"| {where} | {size.images} | {escape_markdown(score.title)} | {value} | {interval} |")
    return rows


_MAX_CLASS_ROWS = 60  # rows of a table that somebody reads

_LIMITS_TEXT = """- It knows only the classes above: any image, also of another plant or of none, is given one of them.
- Its probabilities say how it weighs its own classes; they are not calibrated, and a high one is no proof.
- It has seen the cameras, backgrounds, light, plant ages and scales of its data set alone. Score it on photos of your
  own before you rely on it: `mnsa evaluate RUN --data DATASET`.
- What is finer than a pixel of its input is lost: thin veins are missed or too wide, and traits measured on its masks
  inherit that.
- Images of one plant in both training and test flatter the scores; `mnsa check` finds copies, only you know the
  plants."""

_USAGE_TEXT = """```python
import mnsa

predictor = mnsa.load("OWNER/MODEL")  # this model's name on the hub, or a folder
answer = predictor.predict("leaf.jpg")
```"""


def render_model_card(model: Path, run: RunFolder | None, license: str | None) -> str:
    """The text of README.md for a model's folder, with what its run knows. Raises: RunError when either is damaged."""
    try:
        card = ModelSpec.from_dict(read_json(model / "config.json"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{model / 'config.json'} is damaged: {error}. Copy it again, or train again.") from None
    does = [*(["tells classes apart"] if card.classes else []), *(["segments"] if card.mask_classes else [])]
    parts = {
        "": f"A network that {' and '.join(does)}, made with mnsa.\n\n{_network_section(model, card)}",
        "Data": _data_section(run),
        "Scores": score_table(run),
        "Limits": _LIMITS_TEXT,
        "Usage": _USAGE_TEXT,
        "License": _license_section(license),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" if title else text for title, text in parts.items())
    return f"{_front_matter(card, license)}\n# A leaf network\n\n{body}\n"


def _front_matter(card: ModelSpec, license: str | None) -> str:
    tags = ["mnsa", "leaf", "plant-phenotyping"]
    tags += ["image-classification"] if card.classes else []
    tags += ["image-segmentation"] if card.mask_classes else []
    lines = [f"library_name: mnsa\ntags: [{', '.join(tags)}]\nlicense: {license or 'unknown'}"]
    if card.classes or card.mask_classes:
        lines.append(f"pipeline_tag: {'image-classification' if card.classes else 'image-segmentation'}")
    return "\n".join(["---", *lines, "---"])


def _network_section(model: Path, card: ModelSpec) -> str:
    facts = {
        "backbone": escape_markdown(card.model.backbone),
        "attention": card.model.attention,
        "decoder": card.model.decoder if card.mask_classes else "none",
        "classes": f"{len(card.classes)}: {', '.join(map(escape_markdown, card.classes)) or 'none'}",
        "mask classes": f"{len(card.mask_classes)}: {', '.join(map(escape_markdown, card.mask_classes)) or 'none'}",
        "training input": f"{card.data.size[0]} x {card.data.size[1]} px, {card.data.resize_mode}",
        "sha256 of model.safetensors": sha256_file(model / "model.safetensors"),
    }
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in facts.items())


def _data_section(run: RunFolder | None) -> str:
    if run is None:
        return "Unknown: there was no run beside this model."
    try:
        folder, digest = read_run_dataset(run)
    except MnsaError:
        return _checkpoint_origin(run)
    try:
        manifest = read_manifest(folder)
    except DataError:
        manifest = None
    if manifest is None or manifest.digest() != digest:
        return (
            f"{escape_markdown(folder.name)} (sha256 of its manifest {digest}). Images per class are unknown, as the data set "
            "was not at hand, or not as it was."
        )
    return f"{escape_markdown(manifest.name)} (sha256 of its manifest {digest}).\n\n{_count_table(manifest)}"


def _checkpoint_origin(run: RunFolder) -> str:
    """What is known of a network that was imported."""
    try:
        provenance: dict[str, Any] = read_json(run.provenance_file)
        return f"Unknown: it was imported from a checkpoint, sha256 {provenance['checkpoint_sha256']}."
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{run.provenance_file} can't be read ({error!r}). Restore it, or train again.") from None


def _count_table(manifest: Manifest) -> str:
    """Images per class and split; those without a label in a line of their own."""
    counts = Counter((row.label, row.split) for row in manifest.rows)
    lines = [f"| images | {' | '.join(SPLITS)} |", "|---|" + "---|" * len(SPLITS)]

    def line(name: str, labels: set[str]) -> str:
        numbers = (sum(counts[label, split] for label in labels) for split in SPLITS)
        return f"| {name} | {' | '.join(map(str, numbers))} |"

    if len(manifest.classes) <= _MAX_CLASS_ROWS:
        lines += [line(escape_markdown(name), {name}) for name in manifest.classes]
    if any(not row.label for row in manifest.rows):
        lines.append(line("without a class", {""}))
    lines.append(line("all", {"", *manifest.classes}))
    masks = sum(bool(row.mask) for row in manifest.rows if row.split)
    return "\n".join(lines) + f"\n\n{masks} of them have a mask."


def _license_section(license: str | None) -> str:
    if license is None:
        return (
            "Nobody has named a license for these weights. Ask whoever gave them to you; the data set and the "
            "backbone's own weights may bind them too. mnsa itself is Apache-2.0."
        )
    return f"These weights: {license}. The data set has its own license. mnsa itself is Apache-2.0."
