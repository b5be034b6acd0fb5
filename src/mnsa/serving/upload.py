"""Request limits, and the upload of images: read into memory, never to disk, with a size limit while they arrive."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from fastapi import HTTPException
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

MIB = 2**20

MEGAPIXEL = 10**6


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """max_bytes: of a whole request. max_pixels: of an image. max_images: in a request.

    queue_size: requests that are being received, waiting or answered at a time, so that memory has a bound of about
    queue_size x max_bytes plus one decoded image. upload_timeout_s, timeout_s: seconds for receiving, and for waiting and answering.
    """

    max_bytes: int = 64 * MIB
    max_pixels: int = 60 * MEGAPIXEL
    max_images: int = 16
    queue_size: int = 16
    upload_timeout_s: float = 60.0
    timeout_s: float = 120.0


IMAGES_FIELD = "images"

MULTIPART_TYPE = "multipart/form-data"

_DRAIN_TIMEOUT_S = 2.0

_MAX_NAME_LENGTH = 120


class Upload(NamedTuple):
    """A file as it came; `name` only labels it in the answer."""

    name: str
    data: bytes


class RequestBody:
    """The body of a request while it comes in; `ended` when all of it is here."""

    def __init__(self, request: Request, max_bytes: int) -> None:
        self.request = request
        self.max_bytes = max_bytes
        self.ended = False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes as they come. Raises: HTTPException 413 past the limit; ClientDisconnect when nobody is left."""
        too_large = f"The request is larger than {self.max_bytes / MIB:g} MiB. Send fewer or smaller images."
        announced = self.request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self.max_bytes:
            raise HTTPException(413, too_large)
        received = 0
        while not self.ended:
            chunk = await self._next()
            received += len(chunk)
            if received > self.max_bytes:
                raise HTTPException(413, too_large)
            yield chunk

    async def drain(self) -> None:
        """Take what a refused client still sends and forget it: most read no answer before they have sent all.

        Bounded in bytes and time; a client that asked first ("Expect: 100-continue") has sent nothing.
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


class _MultipartParser(MultiPartParser):
    """Starlette's, but it counts the parts as they begin, and keeps large files in memory."""

    spool_max_size = sys.maxsize

    def __init__(self, incoming: RequestBody, max_images: int) -> None:
        super().__init__(incoming.request.headers, incoming.chunks())
        self.max_images = max_images
        self.parts = 0

    def on_part_begin(self) -> None:
        self.parts += 1
        if self.parts > self.max_images:
            raise HTTPException(413, f"The request has more than {self.max_images} images. Send fewer at a time.")
        super().on_part_begin()


async def read_uploads(incoming: RequestBody, limits: RequestLimits) -> list[Upload]:
    """The files of the form field `images`, in order.

    Raises: HTTPException 408 when they come too slowly, 413 when they are too large or too many, 415 when the body is
    no form, 422 when the form is broken, has no images or other fields. ClientDisconnect when nobody is left.
    """
    if incoming.request.headers.get("content-type", "").split(";")[0].strip().lower() != MULTIPART_TYPE:
        raise HTTPException(415, f"Send the images as {MULTIPART_TYPE}, each in a field named {IMAGES_FIELD}.")
    try:
        async with asyncio.timeout(limits.upload_timeout_s):
            form = await _MultipartParser(incoming, limits.max_images).parse()
    except TimeoutError:
        raise HTTPException(408, f"The images didn't arrive within {limits.upload_timeout_s:g} seconds.") from None
    except MultiPartException as error:
        raise HTTPException(422, f"The form can't be read: {error.message}") from None
    try:
        return _form_uploads(form)
    finally:
        await form.close()


def _form_uploads(form: FormData) -> list[Upload]:
    uploads = []
    for field, value in form.multi_items():
        if field != IMAGES_FIELD or not isinstance(value, UploadFile):
            raise HTTPException(422, f"The form may have files in fields named {IMAGES_FIELD} and nothing else.")
        uploads.append(Upload(_clean_file_name(value.filename), value.file.read()))
    if not uploads:
        raise HTTPException(422, f"The form has no image. Send at least one, in a field named {IMAGES_FIELD}.")
    return uploads


def _clean_file_name(filename: str | None) -> str:
    """The last part of a client's file name, printable and short; it never becomes a path."""
    last = PurePosixPath((filename or "").replace("\\", "/")).name
    printable = "".join(letter for letter in last if letter.isprintable())
    return printable[-_MAX_NAME_LENGTH:] or "image"
