"""The schemas of the REST API, and the parts of openapi.json that FastAPI can't derive from them."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

IMAGES_FIELD = "images"
MULTIPART_TYPE = "multipart/form-data"
JSON_TYPE = "application/json"

Base64Text = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]
PredictedClass = Annotated[
    str, Field(description="Most probable class, or `unknown` if its probability is below the calibrated threshold.")
]
PreviewImage = Annotated[Base64Text, Field(description="The image as a JPEG with sides of at most 1280 px.")]
PxPerMm = Annotated[
    Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None,
    Field(description="Scale in pixels per millimeter. Without it traits are in pixels."),
]
TraitValues = Annotated[
    dict[str, float | str | None],
    Field(description="The names end with the unit. A value that doesn't exist is null, such as the width of no vein."),
]
TableRow = Annotated[
    dict[str, str], Field(description="Row of predictions.csv as text by column, with traits in pixels.")
]


class OutputKind(StrEnum):
    """Parts of a result."""

    classes = "classes"
    mask = "mask"
    attention = "attention"
    traits = "traits"
    preview = "preview"
    row = "row"


class PredictQuery(BaseModel):
    """Query parameters of /v1/predict."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    include: list[OutputKind] = Field(
        [OutputKind.classes, OutputKind.mask, OutputKind.attention, OutputKind.traits],
        description="Parts of the JSON result. Repeat it. Parts that the network can't predict are null.",
        max_length=len(OutputKind),
    )
    top_k: int = Field(5, ge=1, le=10_000, description="Number of classes in the JSON result, most probable first.")
    px_per_mm: PxPerMm = None
    response_format: Literal["json", "csv", "zip"] = Field(
        "json", alias="format", description="`csv`: the table of predictions. `zip`: the table, masks and overlays."
    )


class ExportQuery(BaseModel):
    """Query parameters of /v1/export."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    px_per_mm: PxPerMm = None
    response_format: Literal["csv", "zip"] = Field("csv", alias="format", description="As in /v1/predict.")


class ClassProbability(BaseModel):
    """A class and its calibrated probability."""

    name: str
    probability: float


class MaskArea(BaseModel):
    """A mask class: its pixel value, and its fraction of the image area."""

    name: str
    value: int
    fraction: float


class MaskResult(BaseModel):
    """The mask at the original image size: an indexed PNG whose pixels are class values."""

    png: Base64Text
    areas: list[MaskArea]


class AttentionResult(BaseModel):
    """The attention map over the whole image: a gray PNG, where 255 means 1."""

    png: Base64Text
    width: int
    height: int


class ImageResult(BaseModel):
    """The result for one image. A part is null if it was not requested or the network can't predict it."""

    image: str = Field(description="File name of the upload.")
    width: int
    height: int
    predicted: PredictedClass | None = None
    classes: list[ClassProbability] | None = None
    mask: MaskResult | None = None
    attention: AttentionResult | None = None
    traits: TraitValues | None = None
    preview: PreviewImage | None = None
    row: TableRow | None = None
    seconds: float = Field(description="Time for decoding, prediction and measurement, without the queue.")


class PredictResponse(BaseModel):
    """The results, in the order of the images."""

    results: list[ImageResult]


class ExportItem(BaseModel):
    """One image of a CSV or ZIP file: its table row, and for a ZIP file its mask and preview."""

    model_config = ConfigDict(extra="forbid")

    row: TableRow
    mask: Base64Text | None = None
    preview: PreviewImage | None = None


class ExportRequest(BaseModel):
    """Parts of earlier results of /v1/predict."""

    model_config = ConfigDict(extra="forbid")

    items: list[ExportItem] = Field(min_length=1)


class MaskClassInfo(BaseModel):
    """A mask class: its pixel value, and its color in masks and overlays (null: transparent)."""

    name: str
    value: int
    color: str | None


class LimitsInfo(BaseModel):
    """The limits of a request, set by options of `mnsa serve`. Sizes in bytes and pixels, times in seconds."""

    max_bytes: int
    max_pixels: int
    max_images: int
    queue_size: int
    upload_timeout_s: float
    timeout_s: float


class ModelInfo(BaseModel):
    """The network of this server. An empty list means that the network has no such output."""

    name: str = Field(description="Name of the run folder.")
    version: str = Field(description="Version of mnsa.")
    classes: list[str]
    threshold: float | None = Field(description="Below this probability the class is `unknown`; null: never.")
    mask_classes: list[MaskClassInfo]
    traits: list[str] = Field(description="Columns of the traits in pixels. With px_per_mm they are in millimeters.")
    limits: LimitsInfo


class ErrorResponse(BaseModel):
    """Why a request was refused."""

    detail: str
