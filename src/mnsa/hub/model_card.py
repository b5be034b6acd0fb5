"""The model card: network, training data, scores, limits. All numbers are read from the run folder."""

from collections import Counter
from pathlib import Path
from typing import Any

from mnsa.data.manifest import SPLITS, Manifest, read_manifest
from mnsa.errors import DataError, MnsaError, RunError
from mnsa.io import read_json
from mnsa.metrics.evaluation_files import read_evaluations
from mnsa.metrics.scores import Evaluation, format_score
from mnsa.model_folder import escape_markdown, network_table
from mnsa.run_folder import ModelSpec, RunFolder, read_run_dataset, weights_digest

_MAX_CLASS_ROWS = 60  # a longer table is not useful in a card

_LIMITS_TEXT = """- It knows only the classes above. Every image gets one of them, also an image of another plant or
  of no plant.
- Its probabilities are not calibrated. A high probability is no proof.
- It was trained with the cameras, backgrounds, light, plant ages and scales of its data set. Evaluate it on your own
  photos before you use it: `mnsa evaluate RUN --data DATASET`.
- Structures finer than a pixel of its input are lost. Thin veins are missed or too wide, and so are their traits.
- If images of one plant are in both training and test, the scores are too high. `mnsa check` finds copies of images,
  but it does not know which plants they show."""

_USAGE_TEXT = """```python
import mnsa

predictor = mnsa.load("OWNER/MODEL")  # name on the hub, or a folder
prediction = predictor.predict("leaf.jpg")
```"""


def render_model_card(model: Path, run: RunFolder | None, license: str | None) -> str:
    """Write the text of README.md for a model folder and its run, if there is one.

    license: of the weights, or None. Raises: RunError if the model or the run is damaged.
    """
    try:
        spec = ModelSpec.from_dict(read_json(model / "config.json"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{model / 'config.json'} is damaged: {error}. Copy it again, or train again.") from None
    tasks = [*(["classifies"] if spec.classes else []), *(["segments"] if spec.mask_classes else [])]
    sections = {
        "": f"A network that {' and '.join(tasks)} images of leaves, made with mnsa.\n\n"
        f"{network_table(spec, weights_digest(model))}",
        "Data": _data_section(run),
        "Scores": score_table(run),
        "Limits": _LIMITS_TEXT,
        "Usage": _USAGE_TEXT,
        "License": _license_section(license),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" if title else text for title, text in sections.items())
    return f"{_front_matter(spec, license)}\n# A leaf network\n\n{body}\n"


def score_table(run: RunFolder | None) -> str:
    """Return a Markdown table of the scores of the network, with split and interval.

    Raises: RunError if they are damaged.
    """
    if run is None or not run.evaluation_file.exists():
        return "Not evaluated yet: `mnsa evaluate RUN` evaluates it on its test images."
    # `test/trees` has the scores of boosted trees, which are not in the saved network.
    entries = {key: entry for key, entry in read_evaluations(run).items() if "/" not in key}
    table = ["| data set | split | images | score | value | interval |", "|---|---|---|---|---|---|"]
    table += [row for split, entry in entries.items() for row in _score_rows(split, entry)]
    return "\n".join(table) + "\n\nMeasured at the original image size."


def _front_matter(spec: ModelSpec, license: str | None) -> str:
    tags = ["mnsa", "leaf", "plant-phenotyping"]
    tags += ["image-classification"] if spec.classes else []
    tags += ["image-segmentation"] if spec.mask_classes else []
    lines = [f"library_name: mnsa\ntags: [{', '.join(tags)}]\nlicense: {license or 'unknown'}"]
    if spec.classes or spec.mask_classes:
        lines.append(f"pipeline_tag: {'image-classification' if spec.classes else 'image-segmentation'}")
    return "\n".join(["---", *lines, "---"])


def _data_section(run: RunFolder | None) -> str:
    if run is None:
        return "Unknown: the model has no run folder."
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
            f"{escape_markdown(folder.name)} (sha256 of its manifest {digest}). Images per class are unknown: the "
            "data set is missing or has changed."
        )
    return f"{escape_markdown(manifest.name)} (sha256 of its manifest {digest}).\n\n{_count_table(manifest)}"


def _checkpoint_origin(run: RunFolder) -> str:
    """Describe the origin of an imported network."""
    try:
        provenance: dict[str, Any] = read_json(run.provenance_file)
        return f"Unknown: it was imported from a checkpoint, sha256 {provenance['checkpoint_sha256']}."
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{run.provenance_file} can't be read ({error!r}). Restore it, or train again.") from None


def _count_table(manifest: Manifest) -> str:
    """Count images per class and split; images without a label have their own row."""
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
            "These weights have no named license. Ask their author. The licenses of the data set and of the pretrained "
            "backbone may also apply. mnsa itself is Apache-2.0."
        )
    return f"These weights: {license}. The data set has its own license. mnsa itself is Apache-2.0."


def _score_rows(split: str, entry: Evaluation) -> list[str]:
    where = f"{escape_markdown(entry.dataset)} | {escape_markdown(split)}"
    rows = []
    for score in entry.scores:
        if score.headline:
            size = entry.sizes[score.group]
            interval = f"{score.interval_text} ({size.interval_text})" if score.interval else ""
            value = format_score(score.value, score.unit)
            rows.append(f"| {where} | {size.images} | {escape_markdown(score.title)} | {value} | {interval} |")
    return rows
