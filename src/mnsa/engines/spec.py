"""What an exported network carries with it, so that it can be used alone.

B batch; H, W image size in pixels; K classes; M mask classes.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from mnsa.engines.kinds import EngineName, Precision

CARD_KEY = "mnsa"  # the card's name among a file's metadata
INPUT = "images"
MIN_SIDE_PX = 33  # torch.export tells a deepest level of one pixel, as 32 px have, from all others
SHAPES = {
    INPUT: ["B", "3", "H", "W"],
    "class_logits": ["B", "K"],
    "mask_logits": ["B", "M", "H", "W"],
    "attention": ["B", "1", "H/32", "W/32"],
}


@dataclass(frozen=True, slots=True)
class EngineCard:
    """The card of one exported network.

    outputs: names in the file's order. mean, std: per channel, for RGB values in 0..1. size: (height, width) of a
    training input. fit: `stretch` (resize to `size`, bilinear with antialiasing) or `crop` (the image at its own size).
    mask_classes: one name: a sigmoid's sign decides; more: the largest logit. weights_sha256: of the run's
    model.safetensors. provenance: the run's. comparison: with the eager network, beside the file alone.
    """

    engine: EngineName
    precision: Precision
    outputs: tuple[str, ...]
    classes: tuple[str, ...]
    mask_classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int]
    fit: str
    weights_sha256: str
    provenance: dict[str, Any]
    versions: dict[str, str]
    comparison: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The card as text; shapes are spelled out for who reads it without mnsa."""
        shapes = {name: SHAPES[name] for name in (INPUT, *self.outputs)}
        return json.dumps({**asdict(self), "min_side_px": MIN_SIDE_PX, "shapes": shapes}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "EngineCard":
        """Read it back. Raises: ValueError, KeyError or TypeError when `text` is no card."""
        tree = json.loads(text)
        known = {name: tree[name] for name in cls.__dataclass_fields__}
        lists = ("outputs", "classes", "mask_classes", "mean", "std", "size")
        return cls(**{**known, **{name: tuple(tree[name]) for name in lists}})
