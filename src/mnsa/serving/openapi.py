"""The parts of the interface's description that FastAPI can't read off the code: bodies, refusals and examples."""

from typing import Any

from mnsa.serving.answers import Problem
from mnsa.serving.upload import FIELD, MULTIPART

Refusals = dict[int | str, dict[str, Any]]

_PNG = "iVBORw0KGgo..."
_ANSWER = {
    "image": "leaf.jpg",
    "width": 3024,
    "height": 4032,
    "classes": [{"name": "Hutcheson", "probability": 0.91}, {"name": "Williams", "probability": 0.06}],
    "mask": {"png": _PNG, "shares": [{"name": "vein", "value": 1, "share": 0.117}]},
    "attention": {"png": _PNG, "width": 8, "height": 8},
    "traits": {"vein_ground": "hull", "vein_length_mm": 1843.2, "vein_density_mm_per_mm2": 0.61, "areole_count": 212.0},
    "preview": None,
    "seconds": 0.42,
}
_BINARY = {"type": "string", "format": "binary"}
_FILE = {"schema": _BINARY}

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            MULTIPART: {
                "schema": {
                    "type": "object",
                    "properties": {FIELD: {"type": "array", "items": _BINARY, "minItems": 1}},
                    "required": [FIELD],
                    "additionalProperties": False,
                },
                "encoding": {FIELD: {"contentType": "image/jpeg, image/png, image/tiff, image/webp, image/bmp"}},
            }
        },
    }
}
ANSWERED: dict[str, Any] = {
    "description": "The answers, in the form that was asked for.",
    "content": {
        "application/json": {"example": {"answers": [_ANSWER]}},
        "text/csv": {"schema": {"type": "string"}, "example": "image,class,probability\nleaf.jpg,Hutcheson,0.9100\n"},
        "application/zip": _FILE,
    },
}
COUNTERS: dict[str, Any] = {
    "description": "Counters in Prometheus's text format.",
    "content": {"text/plain": {"example": "mnsa_images_total 12.0\n"}},
}


def refusals(**examples: str) -> Refusals:
    """Describe refusals, by code (`code_413`) and an example of their text."""
    return {
        int(code.removeprefix("code_")): {
            "model": Problem,
            "description": _MEANING[int(code.removeprefix("code_"))],
            "content": {"application/json": {"example": {"detail": detail}}},
            **({"headers": _RETRY} if code == "code_429" else {}),
        }
        for code, detail in examples.items()
    }


_RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
_MEANING = {
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
ANYWHERE = refusals(code_421="This server doesn't answer as 'example.org'. Start it with --allow-host and that name.")
PREDICT = ANYWHERE | refusals(
    code_403="Pages of other sites may not send images here.",
    code_408="The images didn't arrive within 60 seconds.",
    code_413="leaf.tif has too many pixels; at most 60,000,000 are read.",
    code_415="leaf.txt can't be read as an image; JPEG, PNG, TIFF, WEBP, BMP can.",
    code_422="px_per_mm: Input should be greater than 0.",
    code_429="All 16 places in the queue are taken. Try again in 2 seconds.",
    code_504="There was no answer within 120 seconds. Send fewer or smaller images.",
)
