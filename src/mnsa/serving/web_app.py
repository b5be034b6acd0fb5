"""The web app: the page, the REST API, its error responses, and the uvicorn server.

Nothing is written to disk, but for the masks of `mnsa.serving.annotation`.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import uvicorn
from fastapi import APIRouter, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.templating import Jinja2Templates
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

import mnsa
from mnsa.data.annotated_folder import AnnotatedFolder
from mnsa.errors import RunError
from mnsa.inference.predictor import Predictor
from mnsa.serving import schemas
from mnsa.serving.annotation import Annotator, annotation_routes
from mnsa.serving.connections import SHUTDOWN_TIMEOUT_S, LimitedProtocol, TimedServer
from mnsa.serving.middleware import SecurityMiddleware
from mnsa.serving.request_queue import METRICS_MEDIA_TYPE, is_working
from mnsa.serving.responses import CSV_FILE, ZIP_FILE, FileEntry, csv_file, zip_file
from mnsa.serving.schemas import JSON_TYPE, ExportQuery, ExportRequest, ModelInfo, PredictQuery, PredictResponse
from mnsa.serving.service import PredictionService
from mnsa.serving.upload import RequestBody, RequestLimits, read_body, read_uploads
from mnsa.traits import Roles

T = TypeVar("T")
_STATIC_FOLDER, _TEMPLATE_FOLDER = (Path(__file__).parent / name for name in ("static", "templates"))
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FILE_FORMATS = {  # function, file name, media type
    "csv": (csv_file, CSV_FILE, "text/csv; charset=utf-8"),
    "zip": (zip_file, ZIP_FILE, "application/zip"),
}
_MAX_SHOWN_ERRORS = 5
_CLIENT_CLOSED_REQUEST = 499  # status in the metrics for a client that disconnected
_MAX_CONNECTIONS = 1000  # uvicorn answers 503 to more


def create_app(
    predictor: Predictor,
    *,
    name: str,
    roles: Roles | None = None,
    limits: RequestLimits | None = None,
    hosts: Collection[str] = (),
    annotated: AnnotatedFolder | None = None,
) -> SecurityMiddleware:
    """Create the ASGI app for a predictor.

    hosts: accepted host names besides localhost. name, roles: see PredictionService. annotated: images whose masks can
    be corrected at /annotate, and are written to disk.
    """
    service = PredictionService(predictor, name=name, roles=roles, limits=limits or RequestLimits())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.queue.close()

    app = FastAPI(
        title="mnsa",
        version=mnsa.__version__,
        summary="Classifies leaf images by cultivar and segments their veins.",
        docs_url=None,  # FastAPI's documentation pages load scripts from other servers
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    app.include_router(_api_routes(service))
    app.include_router(_page_routes(service))
    if annotated is not None:
        app.include_router(annotation_routes(Annotator(annotated, service)))
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_internal_error)
    paths = {"/", *app.openapi()["paths"]}
    return SecurityMiddleware(app, hosts=hosts, paths=paths, requests=service.metrics.requests)


def _api_routes(service: PredictionService) -> APIRouter:
    router = APIRouter()

    @router.post(
        "/v1/predict",
        response_model=PredictResponse,
        responses={200: schemas.PREDICT_RESPONSE, **schemas.UPLOAD_ERRORS},
        openapi_extra=schemas.PREDICT_REQUEST,
        tags=["prediction"],
    )
    async def predict(request: Request, query: Annotated[PredictQuery, Query()]) -> Response:
        """Predict one or several images. If an image can't be predicted, the whole request fails."""
        async with _request_body(service, request) as body:
            uploads = await read_uploads(body, service.limits)
            if query.response_format == "json":
                results = await _while_connected(request, service.predict_results(uploads, query), service)
                content = await asyncio.to_thread(PredictResponse(results=results).model_dump_json)
                return Response(content, media_type=JSON_TYPE)
            entries = await _while_connected(request, service.predict_entries(uploads, query), service)
            return await _file_response(service, query, entries)

    @router.post(
        "/v1/export",
        response_class=Response,
        responses={200: schemas.EXPORT_RESPONSE, **schemas.UPLOAD_ERRORS},
        openapi_extra=schemas.EXPORT_REQUEST,
        tags=["prediction"],
    )
    async def export(request: Request, query: Annotated[ExportQuery, Query()]) -> Response:
        """Write earlier results as a CSV or ZIP file, without another prediction. The page's downloads use it.

        Take `row`, `mask.png` and `preview` from results of /v1/predict without px_per_mm. For an image that failed,
        give a row with `image` and `error`.
        """
        async with _request_body(service, request) as body:
            export_request = _parse_export(await read_body(body, service.limits))
            work = service.export_entries(export_request.items, query)
            entries = await _while_connected(request, work, service)
            return await _file_response(service, query, entries)

    @router.get("/v1/model", responses=schemas.COMMON_ERRORS, tags=["prediction"])
    async def model() -> ModelInfo:
        """Describe the network: classes, mask classes with their colors, traits, and the limits of a request."""
        return service.model_info()

    @router.get("/healthz", responses=schemas.COMMON_ERRORS, tags=["operation"])
    async def healthz() -> dict[str, str]:
        """Check that the server responds."""
        return {"status": "ok"}

    @router.get(
        "/metrics",
        responses={200: schemas.METRICS_RESPONSE, **schemas.COMMON_ERRORS},
        response_class=PlainTextResponse,
        tags=["operation"],
    )
    async def metrics() -> Response:
        """Return metrics for Prometheus."""
        return Response(service.metrics.text(), media_type=METRICS_MEDIA_TYPE)

    return router


def _page_routes(service: PredictionService) -> APIRouter:
    """The page at /, and the files of static/.

    Their media types are fixed here, because Windows may change Python's.
    """
    router = APIRouter(include_in_schema=False)
    templates = Jinja2Templates(_TEMPLATE_FOLDER)
    files = {file.name: file.read_bytes() for file in _STATIC_FOLDER.iterdir() if file.suffix in _MEDIA_TYPES}

    @router.get("/")
    async def page(request: Request) -> Response:
        return templates.TemplateResponse(request, "index.html", {"model": service.model_info()})

    @router.get("/static/{name}")
    async def static_file(name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        return Response(files[name], media_type=_MEDIA_TYPES[Path(name).suffix])

    return router


@asynccontextmanager
async def _request_body(service: PredictionService, request: Request) -> AsyncIterator[RequestBody]:
    """Hold a slot of the queue during a request, and read the rest of the body when the request is refused."""
    body = RequestBody(request, service.limits.max_bytes)
    try:
        with service.queue.slot():
            yield body
    except HTTPException:
        await body.drain()
        raise


async def _while_connected(request: Request, work: Coroutine[Any, Any, T], service: PredictionService) -> T:
    """Await work. Cancel it after the timeout (HTTPException 504), when the server stops (503), or without a client.

    Raises: HTTPException; ClientDisconnect.
    """
    task, disconnect = asyncio.ensure_future(work), asyncio.ensure_future(_wait_for_disconnect(request))
    limit = service.limits.timeout_s
    try:
        with service.queue.stop_request() as stop:
            ends: set[asyncio.Future[Any]] = {task, disconnect, stop}
            done, _ = await asyncio.wait(ends, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            return task.result()
        if disconnect in done:
            raise ClientDisconnect
        if stop in done:
            raise HTTPException(503, "The server stops. Send the request again when it is back.")
        raise HTTPException(
            504, f"The prediction did not finish within {limit:g} seconds. Send fewer or smaller images."
        )
    finally:
        task.cancel()
        disconnect.cancel()


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _file_response(
    service: PredictionService, query: PredictQuery | ExportQuery, entries: list[FileEntry]
) -> Response:
    write, name, media_type = _FILE_FORMATS[query.response_format]
    table = service.table(query.px_per_mm, mask_files=query.response_format == "zip")
    content = await asyncio.to_thread(write, table, entries)
    return Response(content, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{name}"'})


def _parse_export(data: bytes) -> ExportRequest:
    try:
        return ExportRequest.model_validate_json(data)
    except ValidationError as error:
        raise HTTPException(422, _validation_message(error.errors())) from None


def _validation_message(errors: Sequence[Any]) -> str:
    return (
        "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in errors[:_MAX_SHOWN_ERRORS]) + "."
    )


async def _on_validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # the type this handler is registered for
    errors = [{**one, "loc": one["loc"][1:]} for one in error.errors()]  # without "query"
    return JSONResponse({"detail": _validation_message(errors)}, 422)


async def _on_disconnect(_: Request, __: Exception) -> Response:
    return Response(status_code=_CLIENT_CLOSED_REQUEST)


async def _on_internal_error(_: Request, __: Exception) -> JSONResponse:
    """Hide the error from the client. The traceback goes to the server's log."""
    return JSONResponse({"detail": "Internal error. The server's log has the details."}, 500)


def run_server(app: SecurityMiddleware, host: str, port: int, *, on_start: Callable[[str], None]) -> None:
    """Serve an app until SIGTERM or Ctrl-C. Port 0 takes a free port. `on_start` gets the URL when the port is open.

    Raises: RunError when the port can't be opened.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"Can't listen on {host} port {port}: {reason}. Choose another --host or --port.") from None
    with listener:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
            http=LimitedProtocol,
        )
        url_host = f"[{host}]" if family == socket.AF_INET6 else host
        on_start(f"http://{url_host}:{listener.getsockname()[1]}")
        for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again after a clean shutdown
            signal.signal(number, lambda *_: None)
        own: Any = app.app
        TimedServer(config, own.state.service.queue.stop).run(sockets=[listener])
        if is_working(wait_s=1.0):
            sys.stdout.flush()
            os._exit(0)  # Python would wait for the thread
