"""The server: a page, a REST interface, and what keeps them within bounds. Nothing is written to disk."""

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.requests import ClientDisconnect

import mnsa
from mnsa.inference.predictor import Predictor
from mnsa.serving.about import ModelAnswer, describe
from mnsa.serving.answers import Answers, Choices
from mnsa.serving.desk import Names, predict
from mnsa.serving.guard import Guard
from mnsa.serving.limits import Limits
from mnsa.serving.metrics import MEDIA_TYPE, Metrics
from mnsa.serving.openapi import ANSWERED, ANYWHERE, BODY, COUNTERS, PREDICT
from mnsa.serving.pages import add_pages
from mnsa.serving.queue import Queue
from mnsa.serving.replies import Reply, make_reply
from mnsa.serving.upload import Incoming, Upload, read_images
from mnsa.traits import Roles, Ruler

_GONE = 499  # what the counters call a client that hung up; nobody reads it


class Server:
    """What the routes share. roles: what the mask's classes are; None: nothing to measure."""

    def __init__(self, predictor: Predictor, *, name: str, roles: Roles | None, limits: Limits) -> None:
        self.predictor, self.name, self.roles, self.limits = predictor, name, roles, limits
        self.names = Names(tuple(predictor.classes), tuple(predictor.mask_classes))
        self.queue = Queue(limits.places)
        self.metrics = Metrics(self.queue)

    def ruler(self, px_per_mm: float | None) -> Ruler | None:
        """What measures at this scale, or None."""
        return None if self.roles is None else Ruler(self.roles, px_per_mm=px_per_mm)

    async def answer(self, uploads: list[Upload], reply: Reply) -> bytes:
        """Answer image by image, each as its turn comes. Raises: HTTPException for the first that can't be."""
        while uploads:
            # popped, so that an image's bytes may go once it is answered
            await self.queue.run(partial(self._answer_one, uploads.pop(0), reply))
        return await self.queue.run(reply.body)

    def _answer_one(self, upload: Upload, reply: Reply) -> None:
        with self.metrics.seconds.time():
            reply.add(predict(self.predictor, upload, self.limits.max_pixels))
        self.metrics.images.inc()


def make_app(
    predictor: Predictor,
    *,
    name: str,
    roles: Roles | None = None,
    limits: Limits | None = None,
    hosts: Collection[str] = (),
) -> Guard:
    """The ASGI app for a predictor. hosts: names beside localhost under which it may be asked for."""
    server = Server(predictor, name=name, roles=roles, limits=limits or Limits())

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
    add_pages(app)
    app.add_exception_handler(RequestValidationError, _unprocessable)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _failed)
    paths = {route.path for route in app.routes if hasattr(route, "path")}
    return Guard(app, hosts=hosts, paths=paths, requests=server.metrics.requests)


def _add_routes(app: FastAPI, server: Server) -> None:
    @app.post("/v1/predict", responses={200: ANSWERED, **PREDICT}, openapi_extra=BODY, tags=["answers"])
    async def predict_images(request: Request, choices: Annotated[Choices, Query()]) -> Answers:
        """Answer for one or several images. All are answered or, with the first that can't be, none."""
        return await _predict(server, request, choices)  # type: ignore[return-value]

    @app.get("/v1/model", responses=ANYWHERE, tags=["answers"])
    async def model() -> ModelAnswer:
        """What the network answers, and what may be asked of it."""
        return describe(server.name, server.names, server.ruler(None), server.limits)

    @app.get("/healthz", responses=ANYWHERE, tags=["running"])
    async def healthz() -> dict[str, str]:
        """Whether the server answers."""
        return {"status": "ok"}

    @app.get("/metrics", responses={200: COUNTERS, **ANYWHERE}, response_class=PlainTextResponse, tags=["running"])
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(server.metrics.text(), media_type=MEDIA_TYPE)


async def _predict(server: Server, request: Request, choices: Choices) -> Response:
    limits = server.limits
    incoming = Incoming(request, limits.max_bytes)
    try:
        with server.queue.place():
            uploads = await read_images(incoming, limits)
            reply = make_reply(choices, server.names, server.ruler(choices.px_per_mm))
            body = await _while_connected(request, server.answer(uploads, reply), limits.answer_s)
    except HTTPException:
        await incoming.drain()
        raise
    headers = {"Content-Disposition": f'attachment; filename="{reply.file_name}"'} if reply.file_name else None
    return Response(body, media_type=reply.media_type, headers=headers)


async def _while_connected(request: Request, work: Coroutine[Any, Any, bytes], seconds: float) -> bytes:
    """Await the work, but not longer than `seconds`, nor when its client has hung up; then what waits is dropped."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_hung_up(request))
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


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _unprocessable(_: Request, error: Exception) -> JSONResponse:
    """One sentence in the form that every refusal has."""
    assert isinstance(error, RequestValidationError)  # noqa: S101  # what it was registered for
    faults = [f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in error.errors()]
    return JSONResponse({"detail": "; ".join(faults) + "."}, 422)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=_GONE)


async def _failed(_: Request, __: Exception) -> JSONResponse:
    """Say no more to the client; the traceback goes to the server's log."""
    return JSONResponse({"detail": "The server failed. Its log says why."}, 500)
