"""What /v1/model says: what the network answers, and what may be asked of it."""

from collections.abc import Sequence
from dataclasses import asdict

from pydantic import BaseModel, Field

import mnsa
from mnsa.serving.desk import Names
from mnsa.serving.limits import Limits
from mnsa.serving.pictures import colour_of
from mnsa.traits import Ruler


class MaskClass(BaseModel):
    """A mask class: its name, its pixel value, and its colour in masks and overlays (null: see-through)."""

    name: str
    value: int
    colour: str | None


class LimitsAnswer(BaseModel):
    """As `mnsa serve` was started: bytes of a request, pixels of an image, images in a request; places in the queue."""

    max_bytes: int
    max_pixels: int
    max_images: int
    places: int
    upload_s: float
    answer_s: float


class ModelAnswer(BaseModel):
    """The network behind this server. Empty lists: not its task."""

    name: str = Field(description="The run folder's own name.")
    version: str = Field(description="The version of mnsa.")
    classes: list[str]
    mask_classes: list[MaskClass]
    traits: list[str] = Field(description="What is measured, in pixels; with px_per_mm, the same in millimetres.")
    limits: LimitsAnswer


def describe(name: str, names: Names, ruler: Ruler | None, limits: Limits) -> ModelAnswer:
    """Say it. ruler: None where there is nothing to measure."""
    masks = [MaskClass(name=name, value=value, colour=colour_of(value)) for value, name in names.mask_values()]
    columns: Sequence[str] = ruler.columns if ruler else ()
    return ModelAnswer(
        name=name,
        version=mnsa.__version__,
        classes=list(names.classes),
        mask_classes=masks,
        traits=list(columns),
        limits=LimitsAnswer(**asdict(limits)),
    )
