"""Descriptions for openapi.json that FastAPI can't derive from the schemas: bodies, examples and errors."""

from typing import Any

from mnsa.serving.schemas import IMAGES_FIELD, JSON_TYPE, MULTIPART_TYPE, ErrorResponse, ExportItem

_EXAMPLE_PNG = "iVBORw0KGgo..."
_EXAMPLE_ROW = {"image": "leaf.jpg", "class": "Hutcheson", "probability": "0.9100"}
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
        422: "px_per_mm: Input should be greater than 0.",
        429: "The queue is full (16 requests). Try again in 2 seconds.",
        504: "The prediction did not finish within 120 seconds. Send fewer or smaller images.",
    }
)
