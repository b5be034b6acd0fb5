"""Is an exported network the eager one? On random images and on validation images; never on test ones.

B batch; h, w network input size; M mask classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnsa.data.dataset import read_sample
from mnsa.data.manifest import Manifest
from mnsa.engines.kinds import Precision
from mnsa.errors import ModelError
from mnsa.evaluation.evaluate import evaluate
from mnsa.evaluation.metrics import mask_counts, pooled_iou
from mnsa.inference.predictor import Predictor
from mnsa.records import Outputs, Prediction, Sample

TOLERANCE = 1e-4  # float32: largest difference of an output, in units of its standard deviation where that is above 1
AGREEMENT = {"bfloat16": 0.97, "int8": 0.9}  # least share of equal labels, and least IoU of the two masks
RANDOM_SIZES = ((1, 64, 64), (2, 45, 71), (3, 33, 96))  # batch, height, width
_REAL_IMAGES = 8


def compare(
    eager: Predictor, exported: Predictor, precision: Precision, validation: Manifest | None, *,
    agreement: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Compare an exported network with the eager one and say what was found.

    validation: rows to compare on; None: random images alone. agreement: in place of AGREEMENT, for bfloat16 and int8.
    Returns: `differences` by kind of image and output, and for bfloat16 and int8 `labels` and `mask_iou` (how far the
    two agree) and `scores` of both. Raises: ModelError when they differ by more than is allowed.
    """
    rows = None if validation is None or not validation.rows else validation
    found: dict[str, Any] = {
        "differences": {"random": _differences(eager, exported, _random_batches())},
        "real_images": 0 if rows is None else len(rows.rows),
    }
    if precision == "float32":
        if rows is not None:
            found["real_images"] = min(_REAL_IMAGES, len(rows.rows))
            found["differences"]["real"] = _differences(eager, exported, _real_batches(eager, rows))
        _require_equal(found["differences"])
        return found
    least = AGREEMENT[precision] if agreement is None else agreement
    meeting = Meeting(eager, exported)
    if rows is None:
        for image in _random_batches():
            meeting.answer((image[0] * 50 + 128).clamp(0, 255).to(torch.uint8))
    else:
        named = eager.classes, eager.mask_classes
        mine = ((sample, eager.predict_image(sample.image)) for sample in _samples(rows))
        theirs = ((sample, meeting.answer(sample.image)) for sample in _samples(rows))
        found["scores"] = {"eager": evaluate(mine, *named), "exported": evaluate(theirs, *named)}
    found |= meeting.agreement()
    _require_agreement(found, least)
    return found


@dataclass(slots=True)
class Meeting:
    """Two predictors that answer for the same images, and how far they agree."""

    eager: Predictor
    exported: Predictor
    images: int = 0
    same_labels: int = 0
    counts: Tensor | None = None  # of the masks, the eager one as truth: int64 (1, M, 3)

    def answer(self, image: Tensor) -> Prediction:
        """What the exported network says of an image uint8 (3, H, W)."""
        mine, theirs = self.eager.predict_image(image), self.exported.predict_image(image)
        self.images += 1
        if mine.class_probs is not None and theirs.class_probs is not None:
            self.same_labels += int(mine.class_probs.argmax() == theirs.class_probs.argmax())
        if mine.mask is not None and theirs.mask is not None:
            said, true = (torch.from_numpy(mask)[None] for mask in (theirs.mask, mine.mask))
            counts = mask_counts(said, true, len(self.eager.mask_classes))
            self.counts = counts if self.counts is None else self.counts + counts
        return theirs

    def agreement(self) -> dict[str, Any]:
        """`labels`: [equal, all], None without classes; `mask_iou`: mean over mask classes that either has seen."""
        labels = [self.same_labels, self.images] if self.eager.classes else None
        iou = None if self.counts is None else float(pooled_iou(self.counts).nanmean().nan_to_num(1.0))
        return {"labels": labels, "mask_iou": iou}


def _differences(eager: Predictor, exported: Predictor, batches: Iterator[Tensor]) -> dict[str, float]:
    """By output, the largest absolute difference over the batches, in units of max(1, the eager output's deviation)."""
    largest: dict[str, float] = {}
    for images in batches:
        for name, mine, theirs in zip(Outputs._fields, eager(images), exported(images), strict=True):
            if mine is None and theirs is None:
                continue
            if mine is None or theirs is None or mine.shape != theirs.shape:
                raise ModelError(
                    f"The exported network's {name} has another shape than the eager one's. It isn't kept."
                )
            scale = max(1.0, float(mine.std(correction=0)))
            difference = float((mine - theirs).abs().max()) / scale
            largest[name] = max(largest.get(name, 0.0), difference if np.isfinite(difference) else float("inf"))
    return largest


def _random_batches() -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(batch, 3, height, width, generator=generator) for batch, height, width in RANDOM_SIZES)


def _real_batches(predictor: Predictor, manifest: Manifest) -> Iterator[Tensor]:
    step = -(-len(manifest.rows) // _REAL_IMAGES)
    for row in manifest.rows[::step]:
        inputs, _ = predictor.transform(read_sample(manifest, row).image)
        yield inputs[None]


def _samples(manifest: Manifest) -> Iterator[Sample]:
    return (read_sample(manifest, row) for row in manifest.rows)


def _require_equal(differences: dict[str, dict[str, float]]) -> None:
    for kind, by_output in differences.items():
        for name, difference in by_output.items():
            if difference > TOLERANCE:
                raise ModelError(
                    f"The exported network differs from the eager one: {name} by {difference:.1e} on {kind} images, "
                    f"where {TOLERANCE:.0e} is allowed. It isn't kept. Try another engine with --to."
                )


def _require_agreement(found: dict[str, Any], least: float) -> None:
    """At least one label may flip, so that a small validation split doesn't ask for more than it can tell."""
    labels, iou = found["labels"], found["mask_iou"]
    flips = 0 if labels is None else labels[1] - labels[0]
    allowed = 0 if labels is None else max(1, int((1 - least) * labels[1]))
    if flips > allowed or (iou is not None and iou < least):
        said = "" if labels is None else f"{labels[0]} of {labels[1]} labels are the same"
        masks = "" if iou is None else f"the masks' IoU is {iou:.3f}"
        raise ModelError(
            f"The exported network is too far from the eager one: {' and '.join(filter(None, (said, masks)))}, where "
            f"{least:.2f} is asked for. It isn't kept. Choose another --precision, or a lower --agreement."
        )
