"""The web page: a few files of this package, read once. A request names one of them or none."""

from pathlib import Path

from fastapi import FastAPI, Response

_FOLDER = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def add_pages(app: FastAPI) -> None:
    """Serve index.html at /, and each of the other files under its own name."""
    for file in sorted(_FOLDER.iterdir()):
        if file.suffix in _TYPES:
            _add_page(app, "/" if file.name == "index.html" else f"/{file.name}", file)


def _add_page(app: FastAPI, path: str, file: Path) -> None:
    content, media_type = file.read_bytes(), _TYPES[file.suffix]

    async def page() -> Response:
        return Response(content, media_type=media_type)

    app.add_api_route(path, page, methods=["GET"], include_in_schema=False)
