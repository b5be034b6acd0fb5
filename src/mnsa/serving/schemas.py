"""The schemas of the REST API: query, results and errors, and the parts of openapi.json that FastAPI can't derive."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mnsa.serving.upload import IMAGES_FIELD, MULTIPART_TYPE

Base64Text = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]


TraitValues = Annotated[
    dict[str, float | str | None], Field(description="Units are in the names; null where a number doesn't exist.")
]

PreviewImage = Annotated[Base64Text, Field(description="The image as a JPEG of at most 1280 px a side.")]


class OutputKind(StrEnum):
    """What can be asked for."""

    classes = "classes"
    mask = "mask"
    attention = "attention"
    traits = "traits"
    preview = "preview"


class PredictQuery(BaseModel):
    """The query of /v1/predict."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    include: list[OutputKind] = Field(
        [OutputKind.classes, OutputKind.mask, OutputKind.attention, OutputKind.traits],
        description="What to answer with; repeat it. What the network can't do is null. `preview`: a small JPEG.",
        max_length=len(OutputKind),
    )
    top_k: int = Field(5, ge=1, le=10_000, description="How many classes, the likeliest first.")
    px_per_mm: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = Field(
        None, description="Scale, in pixels per millimetre; without it traits are in pixels."
    )
    response_format: Literal["json", "csv", "zip"] = Field(
        "json",
        alias="format",
        description="`csv`: a table. `zip`: that table, masks and overlays. Both hold every part.",
    )


class ClassProbability(BaseModel):
    """How likely a class is."""

    name: str
    probability: float


class MaskArea(BaseModel):
    """A mask class: its pixel value, and its fraction of the image's pixels."""

    name: str
    value: int
    fraction: float


class MaskResult(BaseModel):
    """The mask, at the image's own size: an indexed PNG whose pixels are the classes' values."""

    png: Base64Text
    areas: list[MaskArea]


class AttentionResult(BaseModel):
    """Where the classifier looked: a gray PNG, 255 is 1; it covers the whole image."""

    png: Base64Text
    width: int
    height: int


class ImageResult(BaseModel):
    """The answer for one image. Null: not asked for, or not the network's task."""

    image: str = Field(description="The file's name, as it was sent.")
    width: int
    height: int
    classes: list[ClassProbability] | None = None
    mask: MaskResult | None = None
    attention: AttentionResult | None = None
    traits: TraitValues | None = None
    preview: PreviewImage | None = None
    seconds: float = Field(description="Reading, computing and measuring; without the wait.")


class PredictResponse(BaseModel):
    """The answers, in the order of the images."""

    results: list[ImageResult]


class ErrorResponse(BaseModel):
    """Why a request was refused."""

    detail: str


ResponseDocs = dict[int | str, dict[str, Any]]


_EXAMPLE_PNG = "iVBORw0KGgo..."

_EXAMPLE_RESULT = {
    "image": "leaf.jpg",
    "width": 3024,
    "height": 4032,
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
    "seconds": 0.42,
}

_BINARY_SCHEMA = {"type": "string", "format": "binary"}

_BINARY_CONTENT = {"schema": _BINARY_SCHEMA}


REQUEST_BODY: dict[str, Any] = {
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
    "description": "The answers, in the form that was asked for.",
    "content": {
        "application/json": {"example": {"results": [_EXAMPLE_RESULT]}},
        "text/csv": {"schema": {"type": "string"}, "example": "image,class,probability\nleaf.jpg,Hutcheson,0.9100\n"},
        "application/zip": _BINARY_CONTENT,
    },
}

METRICS_RESPONSE: dict[str, Any] = {
    "description": "Counters in Prometheus's text format.",
    "content": {"text/plain": {"example": "mnsa_images_total 12.0\n"}},
}


def error_responses(**examples: str) -> ResponseDocs:
    """Describe refusals, by code (`code_413`) and an example of their text."""
    return {
        int(code.removeprefix("code_")): {
            "model": ErrorResponse,
            "description": _STATUS_DESCRIPTIONS[int(code.removeprefix("code_"))],
            "content": {"application/json": {"example": {"detail": detail}}},
            **({"headers": _RETRY_HEADER} if code == "code_429" else {}),
        }
        for code, detail in examples.items()
    }


_RETRY_HEADER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}

_STATUS_DESCRIPTIONS = {
    400: "The request is broken.",
    403: "A page of another site asked.",
    408: "The images came too slowly.",
    413: "Too many bytes, pixels or images.",
    415: "No form, or a file that is no image.",
    421: "The server was asked for under a name that it doesn't have.",
    422: "A field or a choice that doesn't exist or is out of range, or an image that the network can't take.",
    429: "The queue is full.",
    504: "The answer took too long.",
}

COMMON_ERRORS = error_responses(
    code_421="This server doesn't answer as 'example.org'. Start it with --allow-host and that name."
)

PREDICT_ERRORS = COMMON_ERRORS | error_responses(
    code_403="Pages of other sites may not send images here.",
    code_408="The images didn't arrive within 60 seconds.",
    code_413="leaf.tif has too many pixels; at most 60,000,000 are read.",
    code_415="leaf.txt can't be read as an image; JPEG, PNG, TIFF, WEBP, BMP can.",
    code_422="px_per_mm: Input should be greater than 0.",
    code_429="The queue is full (16 requests). Try again in 2 seconds.",
    code_504="There was no answer within 120 seconds. Send fewer or smaller images.",
)
