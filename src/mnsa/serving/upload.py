"""Request limits, and uploads: read into memory, never to disk, with the size checked while the bytes arrive."""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from fastapi import HTTPException
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from mnsa.serving.schemas import IMAGES_FIELD, JSON_TYPE, MULTIPART_TYPE

MIB = 2**20
MEGAPIXEL = 10**6

_DRAIN_TIMEOUT_S = 2.0
_MAX_NAME_LENGTH = 120


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits of the server.

    max_bytes: size of a request. max_pixels: size of an image. max_images: images per request. queue_size: requests in
    the server at a time; it bounds the memory to about queue_size x max_bytes and one decoded image.
    upload_timeout_s, timeout_s: seconds for the upload, and for the queue and the prediction.
    """

    max_bytes: int = 64 * MIB
    max_pixels: int = 60 * MEGAPIXEL
    max_images: int = 16
    queue_size: int = 16
    upload_timeout_s: float = 60.0
    timeout_s: float = 120.0


class Upload(NamedTuple):
    """An uploaded file. `name` is only a label and never becomes a path."""

    name: str
    data: bytes


class RequestBody:
    """The body of a request while it arrives. `ended`: the whole body has arrived."""

    def __init__(self, request: Request, max_bytes: int) -> None:
        self.request = request
        self.max_bytes = max_bytes
        self.ended = False

    @property
    def content_type(self) -> str:
        """The media type, in lower case and without parameters."""
        return self.request.headers.get("content-type", "").split(";")[0].strip().lower()

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the bytes as they arrive.

        Raises: HTTPException 413 above max_bytes; ClientDisconnect.
        """
        too_large = f"The request is larger than {self.max_bytes / MIB:g} MiB. Send fewer or smaller images."
        content_length = self.request.headers.get("content-length", "")
        if content_length.isdecimal() and int(content_length) > self.max_bytes:
            raise HTTPException(413, too_large)
        received = 0
        while not self.ended:
            chunk = await self._next()
            received += len(chunk)
            if received > self.max_bytes:
                raise HTTPException(413, too_large)
            yield chunk

    async def drain(self) -> None:
        """Read and discard the rest of a refused request, because most clients send all before they read the response.

        Bytes and time are limited. A client that sent "Expect: 100-continue" has sent no body yet.
        """
        received = 0 if "expect" not in self.request.headers else self.max_bytes
        with suppress(TimeoutError, ClientDisconnect):
            async with asyncio.timeout(_DRAIN_TIMEOUT_S):
                while not self.ended and received < self.max_bytes:
                    received += len(await self._next())

    async def _next(self) -> bytes:
        message = await self.request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self.ended = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body


async def read_uploads(body: RequestBody, limits: RequestLimits) -> list[Upload]:
    """Read the files of the form field `images`, in order.

    Raises: HTTPException 408 after upload_timeout_s, 413 above a limit, 415 when the body is no form, 422 when the form
    is invalid, has no images or other fields; ClientDisconnect.
    """
    if body.content_type != MULTIPART_TYPE:
        raise HTTPException(415, f"Send the images as {MULTIPART_TYPE}, each in a field named {IMAGES_FIELD}.")
    try:
        async with _upload_timeout(limits):
            form = await _MultipartParser(body, limits.max_images).parse()
    except MultiPartException as error:
        raise HTTPException(422, f"The form is invalid: {error.message}") from None
    try:
        return _form_uploads(form)
    finally:
        await form.close()


async def read_body(body: RequestBody, limits: RequestLimits, media_type: str = JSON_TYPE) -> bytes:
    """Read a body of one media type. Raises: HTTPException 408, 413 or 415; ClientDisconnect."""
    if body.content_type != media_type:
        raise HTTPException(415, f"Send the request body as {media_type}.")
    async with _upload_timeout(limits):
        return b"".join([chunk async for chunk in body.chunks()])


class _MultipartParser(MultiPartParser):
    """Starlette's parser with a limit on the number of files, which all stay in memory."""

    spool_max_size = sys.maxsize

    def __init__(self, body: RequestBody, max_images: int) -> None:
        super().__init__(body.request.headers, body.chunks())
        self.max_images = max_images
        self.parts = 0

    def on_part_begin(self) -> None:
        self.parts += 1
        if self.parts > self.max_images:
            raise HTTPException(413, f"The request has more than {self.max_images} images. Send fewer at a time.")
        super().on_part_begin()


@asynccontextmanager
async def _upload_timeout(limits: RequestLimits) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limits.upload_timeout_s):
            yield
    except TimeoutError:
        raise HTTPException(408, f"The upload did not finish within {limits.upload_timeout_s:g} seconds.") from None


def _form_uploads(form: FormData) -> list[Upload]:
    uploads = []
    for field, value in form.multi_items():
        if field != IMAGES_FIELD or not isinstance(value, UploadFile):
            raise HTTPException(422, f"The form may only contain files in fields named {IMAGES_FIELD}.")
        uploads.append(Upload(_clean_file_name(value.filename), value.file.read()))
    if not uploads:
        raise HTTPException(422, f"The form has no image. Send at least one, in a field named {IMAGES_FIELD}.")
    return uploads


def _clean_file_name(filename: str | None) -> str:
    """Return the last part of a file name, printable and not too long."""
    last = PurePosixPath((filename or "").replace("\\", "/")).name
    printable = "".join(letter for letter in last if letter.isprintable())
    return printable[-_MAX_NAME_LENGTH:] or "image"
