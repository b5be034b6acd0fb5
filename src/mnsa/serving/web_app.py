"""The web app: the page, the REST API, and its limits. Nothing is written to disk."""

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.requests import ClientDisconnect

import mnsa
from mnsa.inference.predictor import Predictor
from mnsa.serving.middleware import SecurityMiddleware
from mnsa.serving.request_queue import METRICS_MEDIA_TYPE, RequestQueue, ServerMetrics
from mnsa.serving.responses import ResponseBuilder, make_builder
from mnsa.serving.schemas import (
    COMMON_ERRORS,
    METRICS_RESPONSE,
    PREDICT_ERRORS,
    PREDICT_RESPONSE,
    REQUEST_BODY,
    PredictQuery,
    PredictResponse,
)
from mnsa.serving.service import ModelInfo, OutputNames, make_model_info, predict_upload
from mnsa.serving.upload import RequestBody, RequestLimits, Upload, read_uploads
from mnsa.traits import Roles, TraitMeasurer

_STATIC_FOLDER = Path(__file__).parent / "page"

_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def add_static_files(app: FastAPI) -> None:
    """Serve index.html at /, and each of the other files under its own name."""
    for file in sorted(_STATIC_FOLDER.iterdir()):
        if file.suffix in _MEDIA_TYPES:
            _add_static_file(app, "/" if file.name == "index.html" else f"/{file.name}", file)


def _add_static_file(app: FastAPI, path: str, file: Path) -> None:
    content, media_type = file.read_bytes(), _MEDIA_TYPES[file.suffix]

    async def page() -> Response:
        return Response(content, media_type=media_type)

    app.add_api_route(path, page, methods=["GET"], include_in_schema=False)


_CLIENT_CLOSED_REQUEST = 499  # what the counters call a client that hung up; nobody reads it


class ServerState:
    """What the routes share. roles: what the mask's classes are; None: nothing to measure."""

    def __init__(self, predictor: Predictor, *, name: str, roles: Roles | None, limits: RequestLimits) -> None:
        self.predictor, self.name, self.roles, self.limits = predictor, name, roles, limits
        self.names = OutputNames(tuple(predictor.classes), tuple(predictor.mask_classes))
        self.queue = RequestQueue(limits.queue_size)
        self.metrics = ServerMetrics(self.queue)

    def measurer(self, px_per_mm: float | None) -> TraitMeasurer | None:
        """What measures at this scale, or None."""
        return None if self.roles is None else TraitMeasurer(self.roles, px_per_mm=px_per_mm)

    async def answer(self, uploads: list[Upload], builder: ResponseBuilder) -> bytes:
        """Answer image by image, each as its turn comes. Raises: HTTPException for the first that can't be."""
        while uploads:
            # popped, so that an image's bytes may go once it is answered
            await self.queue.run(partial(self._answer_one, uploads.pop(0), builder))
        return await self.queue.run(builder.body)

    def _answer_one(self, upload: Upload, builder: ResponseBuilder) -> None:
        with self.metrics.seconds.time():
            builder.add(predict_upload(self.predictor, upload, self.limits.max_pixels))
        self.metrics.images.inc()


def create_app(
    predictor: Predictor,
    *,
    name: str,
    roles: Roles | None = None,
    limits: RequestLimits | None = None,
    hosts: Collection[str] = (),
) -> SecurityMiddleware:
    """The ASGI app for a predictor. hosts: names beside localhost under which it may be asked for."""
    server = ServerState(predictor, name=name, roles=roles, limits=limits or RequestLimits())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        server.queue.close()

    app = FastAPI(
        title="mnsa",
        version=mnsa.__version__,
        summary="Which cultivar is this leaf, and where are its veins?",
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.server = server
    _add_routes(app, server)
    add_static_files(app)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_internal_error)
    paths = {route.path for route in app.routes if hasattr(route, "path")}
    return SecurityMiddleware(app, hosts=hosts, paths=paths, requests=server.metrics.requests)


def _add_routes(app: FastAPI, server: ServerState) -> None:
    @app.post(
        "/v1/predict", responses={200: PREDICT_RESPONSE, **PREDICT_ERRORS}, openapi_extra=REQUEST_BODY, tags=["answers"]
    )
    async def predict_images(request: Request, query: Annotated[PredictQuery, Query()]) -> PredictResponse:
        """Answer for one or several images. All are answered or, with the first that can't be, none."""
        return await _handle_predict(server, request, query)  # type: ignore[return-value]

    @app.get("/v1/model", responses=COMMON_ERRORS, tags=["answers"])
    async def model() -> ModelInfo:
        """What the network answers, and what may be asked of it."""
        return make_model_info(server.name, server.names, server.measurer(None), server.limits)

    @app.get("/healthz", responses=COMMON_ERRORS, tags=["running"])
    async def healthz() -> dict[str, str]:
        """Whether the server answers."""
        return {"status": "ok"}

    @app.get(
        "/metrics",
        responses={200: METRICS_RESPONSE, **COMMON_ERRORS},
        response_class=PlainTextResponse,
        tags=["running"],
    )
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(server.metrics.text(), media_type=METRICS_MEDIA_TYPE)


async def _handle_predict(server: ServerState, request: Request, query: PredictQuery) -> Response:
    limits = server.limits
    incoming = RequestBody(request, limits.max_bytes)
    try:
        with server.queue.slot():
            uploads = await read_uploads(incoming, limits)
            builder = make_builder(query, server.names, server.measurer(query.px_per_mm))
            body = await _while_connected(request, server.answer(uploads, builder), limits.timeout_s)
    except HTTPException:
        await incoming.drain()
        raise
    headers = {"Content-Disposition": f'attachment; filename="{builder.file_name}"'} if builder.file_name else None
    return Response(body, media_type=builder.media_type, headers=headers)


async def _while_connected(request: Request, work: Coroutine[Any, Any, bytes], seconds: float) -> bytes:
    """Await the work, but not longer than `seconds`, nor when its client has hung up; then what waits is dropped."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        done, _ = await asyncio.wait({task, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            return task.result()
        if gone in done:
            raise ClientDisconnect
        raise HTTPException(504, f"There was no answer within {seconds:g} seconds. Send fewer or smaller images.")
    finally:
        task.cancel()
        gone.cancel()


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _on_validation_error(_: Request, error: Exception) -> JSONResponse:
    """One sentence in the form that every refusal has."""
    assert isinstance(error, RequestValidationError)  # noqa: S101  # what it was registered for
    problems = [f"{'.'.join(map(str, problem['loc'][1:]))}: {problem['msg']}" for problem in error.errors()]
    return JSONResponse({"detail": "; ".join(problems) + "."}, 422)


async def _on_disconnect(_: Request, __: Exception) -> Response:
    return Response(status_code=_CLIENT_CLOSED_REQUEST)


async def _on_internal_error(_: Request, __: Exception) -> JSONResponse:
    """Say no more to the client; the traceback goes to the server's log."""
    return JSONResponse({"detail": "The server failed. Its log says why."}, 500)
