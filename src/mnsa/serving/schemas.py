"""What is answered: the records of the REST interface, which are also its documentation."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Base64 = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]


Traits = Annotated[
    dict[str, float | str | None], Field(description="Units are in the names; null where a number doesn't exist.")
]
Preview = Annotated[Base64, Field(description="The image as a JPEG of at most 1280 px a side.")]


class Part(StrEnum):
    """What can be asked for."""

    classes = "classes"
    mask = "mask"
    attention = "attention"
    traits = "traits"
    preview = "preview"


class Choices(BaseModel):
    """The query of /v1/predict."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    parts: list[Part] = Field(
        [Part.classes, Part.mask, Part.attention, Part.traits],
        description="What to answer with; repeat it. What the network can't do is null. `preview`: a small JPEG.",
        max_length=len(Part),
    )
    top_k: int = Field(5, ge=1, le=10_000, description="How many classes, the likeliest first.")
    px_per_mm: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = Field(
        None, description="Scale, in pixels per millimetre; without it traits are in pixels."
    )
    answer_as: Literal["json", "csv", "zip"] = Field(
        "json", alias="as", description="`csv`: a table. `zip`: that table, masks and overlays. Both hold every part."
    )


class ClassAnswer(BaseModel):
    """How likely a class is."""

    name: str
    probability: float


class MaskShare(BaseModel):
    """A mask class: its pixel value, and its share of the image's pixels."""

    name: str
    value: int
    share: float


class MaskAnswer(BaseModel):
    """The mask, at the image's own size: an indexed PNG whose pixels are the classes' values."""

    png: Base64
    shares: list[MaskShare]


class AttentionAnswer(BaseModel):
    """Where the classifier looked: a grey PNG, 255 is 1; it covers the whole image."""

    png: Base64
    width: int
    height: int


class Answer(BaseModel):
    """The answer for one image. Null: not asked for, or not the network's task."""

    image: str = Field(description="The file's name, as it was sent.")
    width: int
    height: int
    classes: list[ClassAnswer] | None = None
    mask: MaskAnswer | None = None
    attention: AttentionAnswer | None = None
    traits: Traits | None = None
    preview: Preview | None = None
    seconds: float = Field(description="Reading, computing and measuring; without the wait.")


class Answers(BaseModel):
    """The answers, in the order of the images."""

    answers: list[Answer]


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str
