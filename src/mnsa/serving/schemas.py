"""The schemas of the REST API, and what FastAPI can't derive from them for openapi.json: examples and errors."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mnsa.data.rows import SCALES

IMAGES_FIELD = "images"

MULTIPART_TYPE = "multipart/form-data"

JSON_TYPE = "application/json"


Base64Text = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]

PredictedClass = Annotated[
    str, Field(description="Most probable class, or `unknown` if its probability is below the calibrated threshold.")
]

PreviewImage = Annotated[Base64Text, Field(description="The image as a JPEG with sides of at most 1280 px.")]

PxPerMm = Annotated[
    Annotated[float, Field(ge=SCALES[0], le=SCALES[1], allow_inf_nan=False)] | None,
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
    max_side_px: int | None = Field(
        None,
        ge=256,
        description="Shrink an image with a longer side to this many pixels before it is predicted, which saves time. "
        "Sizes, masks, traits and px_per_mm are still those of the upload. Without it images keep their size.",
    )
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
    confidence: float | None = Field(
        default=None, description="How sure a network of veins is of them, 0 to 1; null if it does not look at scales."
    )
    shrink_factor: float = Field(default=1.0, description="By which it was shrunk for the prediction (max_side_px).")
    warning: str = Field(
        default="",
        description="Why the veins of the image can't be trusted, and that further pages are not read; empty: neither.",
    )
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
    calibrated: bool = Field(description="Whether `mnsa calibrate` has corrected the probabilities.")
    threshold: float | None = Field(description="Below this probability the class is `unknown`; null: never.")
    mask_classes: list[MaskClassInfo]
    traits: list[str] = Field(description="Columns of the traits in pixels. With px_per_mm they are in millimeters.")
    page_max_side_px: int | None = Field(
        description="max_side_px of the page; null: images keep their size, as the network knows one width of veins."
    )
    limits: LimitsInfo


class ErrorResponse(BaseModel):
    """Why a request was refused."""

    detail: str


_EXAMPLE_PNG = "iVBORw0KGgo..."

_EXAMPLE_ROW = {"image": "leaf.jpg", "predicted": "Hutcheson", "probability": "0.9100"}

_EXAMPLE_RESULT = {
    "image": "leaf.jpg",
    "width": 3024,
    "height": 4032,
    "predicted": "Hutcheson",
    "classes": [{"name": "Hutcheson", "probability": 0.91}, {"name": "Williams", "probability": 0.06}],
    "mask": {"png": _EXAMPLE_PNG, "areas": [{"name": "vein", "value": 1, "fraction": 0.117}]},
    "attention": {"png": _EXAMPLE_PNG, "width": 8, "height": 8},
    "traits": {
        "vein_reference": "hull",
        "vein_length_mm": 1843.2,
        "vein_density_mm_per_mm2": 0.61,
        "areole_count": 212.0,
    },
    "preview": None,
    "row": None,
    "seconds": 0.42,
}

_BINARY_SCHEMA = {"type": "string", "format": "binary"}

_FILE_CONTENT = {
    "text/csv": {"schema": {"type": "string"}, "example": "image,class,probability\nleaf.jpg,Hutcheson,0.9100\n"},
    "application/zip": {"schema": _BINARY_SCHEMA},
}


PREDICT_REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            MULTIPART_TYPE: {
                "schema": {
                    "type": "object",
                    "properties": {IMAGES_FIELD: {"type": "array", "items": _BINARY_SCHEMA, "minItems": 1}},
                    "required": [IMAGES_FIELD],
                    "additionalProperties": False,
                },
                "encoding": {IMAGES_FIELD: {"contentType": "image/jpeg, image/png, image/tiff, image/webp, image/bmp"}},
            }
        },
    }
}

PREDICT_RESPONSE: dict[str, Any] = {
    "description": "The results in the requested format.",
    "content": {JSON_TYPE: {"example": {"results": [_EXAMPLE_RESULT]}}, **_FILE_CONTENT},
}

EXPORT_REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON_TYPE: {
                "schema": {
                    "type": "object",
                    "properties": {"items": {"type": "array", "items": ExportItem.model_json_schema(), "minItems": 1}},
                    "required": ["items"],
                    "additionalProperties": False,
                },
                "example": {"items": [{"row": _EXAMPLE_ROW, "mask": _EXAMPLE_PNG, "preview": "/9j/4AAQ..."}]},
            }
        },
    }
}

EXPORT_RESPONSE: dict[str, Any] = {"description": "The file in the requested format.", "content": _FILE_CONTENT}

METRICS_RESPONSE: dict[str, Any] = {
    "description": "Metrics in Prometheus's text format.",
    "content": {"text/plain": {"example": "mnsa_images_total 12.0\n"}},
}


_RETRY_HEADER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}

_STATUS_DESCRIPTIONS = {
    403: "The request comes from a page of another site.",
    408: "The upload took too long.",
    413: "Too many bytes, pixels or images.",
    415: "Wrong content type, or a file that is not a readable image.",
    421: "The host name of the request is not allowed.",
    422: "A field or parameter is unknown or out of range, or the network can't take the image.",
    429: "The queue is full.",
    503: "The server stops.",
    504: "The prediction took too long.",
}


def _error_responses(examples: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    """Describe error responses by status code, each with an example of its text."""
    return {
        status: {
            "model": ErrorResponse,
            "description": _STATUS_DESCRIPTIONS[status],
            "content": {JSON_TYPE: {"example": {"detail": detail}}},
            **({"headers": _RETRY_HEADER} if status == 429 else {}),
        }
        for status, detail in examples.items()
    }


COMMON_ERRORS = _error_responses(
    {421: "Unknown host name 'example.org'. Start the server with --allow-host and this name."}
)

UPLOAD_ERRORS = COMMON_ERRORS | _error_responses(
    {
        403: "Pages of other sites may not use this server.",
        408: "The upload did not finish within 60 seconds.",
        413: "leaf.tif has too many pixels. The maximum is 60,000,000.",
        415: "leaf.txt is not a readable image. Supported formats: JPEG, PNG, TIFF, WEBP, BMP.",
        422: "px_per_mm: Input should be greater than or equal to 0.000001.",
        429: "The queue is full (16 requests). Try again in 2 seconds.",
        503: "The server stops. Send the request again when it is back.",
        504: "The prediction did not finish within 120 seconds. Send fewer or smaller images.",
    }
)
