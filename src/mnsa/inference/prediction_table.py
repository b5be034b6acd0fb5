"""What the table says of an image."""

from collections.abc import Mapping
from pathlib import Path

from mnsa.inference.predictor import Predictor
from mnsa.records import Prediction


def columns_of(predictor: Predictor, traits: list[str]) -> list[str]:
    """The table's columns, in order. traits: the names of a ruler's."""
    classes = ["class", "probability", "top5"] if predictor.classes else []
    return ["image", *classes, *(f"share_{name}" for name in predictor.mask_classes), *traits, "error"]


def row_of(predictor: Predictor, answer: Prediction) -> dict[str, str]:
    """Class (or `unknown`), the likeliest ones by name, and the share of each mask class, by column."""
    row = {"image": answer.path}
    if answer.class_probs is not None:
        best = answer.class_probs.argsort()[::-1][:5]
        row["class"] = predictor.class_name(answer.class_probs)
        row["probability"] = f"{answer.class_probs[best[0]]:.4f}"
        row["top5"] = "; ".join(f"{predictor.classes[k]} {answer.class_probs[k]:.4f}" for k in best)
    if answer.mask is not None:
        first = 1 if len(predictor.mask_classes) == 1 else 0
        for index, name in enumerate(predictor.mask_classes, start=first):
            row[f"share_{name}"] = f"{float((answer.mask == index).mean()):.6f}"
    return row


def caption_of(row: Mapping[str, str]) -> str:
    """What is written below an image's picture: its class, or its name where there are no classes."""
    if not row.get("class"):
        return Path(row["image"]).stem
    return f"{row['class']} {float(row['probability']):.0%}"
