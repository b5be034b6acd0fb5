"""The columns and rows of predictions.csv."""

from collections.abc import Mapping
from pathlib import Path

from mnsa.inference.predictor import Predictor
from mnsa.structures import Prediction


def prediction_columns(predictor: Predictor, traits: list[str]) -> list[str]:
    """The table's columns, in order. traits: the names of a measurer's."""
    classes = ["class", "probability", "top5"] if predictor.classes else []
    return ["image", *classes, *(f"area_fraction_{name}" for name in predictor.mask_classes), *traits, "error"]


def prediction_row(predictor: Predictor, prediction: Prediction) -> dict[str, str]:
    """Class (or `unknown`), the likeliest ones by name, and the share of each mask class, by column."""
    row = {"image": prediction.path}
    if prediction.class_probs is not None:
        best = prediction.class_probs.argsort()[::-1][:5]
        row["class"] = predictor.class_name(prediction.class_probs)
        row["probability"] = f"{prediction.class_probs[best[0]]:.4f}"
        row["top5"] = "; ".join(f"{predictor.classes[k]} {prediction.class_probs[k]:.4f}" for k in best)
    if prediction.mask is not None:
        first = 1 if len(predictor.mask_classes) == 1 else 0
        for index, name in enumerate(predictor.mask_classes, start=first):
            row[f"area_fraction_{name}"] = f"{float((prediction.mask == index).mean()):.6f}"
    return row


def prediction_caption(row: Mapping[str, str]) -> str:
    """What is written below an image's picture: its class, or its name where there are no classes."""
    if not row.get("class"):
        return Path(row["image"]).stem
    return f"{row['class']} {float(row['probability']):.0%}"
