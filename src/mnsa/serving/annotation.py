"""Routes of `mnsa serve --annotate`: the page that corrects masks, its images, masks and vein paths, and saving.

Masks travel as class indices, one byte per pixel. Only this machine is answered. H, W image size in pixels.
"""

import asyncio
import ipaddress
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

import numpy as np
import torch
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.templating import Jinja2Templates
from pydantic import BaseModel, Field
from skimage.graph import route_through_array

import mnsa
from mnsa.data.annotated_folder import AnnotatedFolder
from mnsa.errors import ConfigError, MnsaError
from mnsa.inference.postprocessing import ProbabilityMaker
from mnsa.inference.prediction_table import mask_values
from mnsa.serving.responses import encode_jpeg, encode_mask
from mnsa.serving.service import PredictionService
from mnsa.serving.upload import RequestBody, read_body
from mnsa.visualize.palette import hex_color

T = TypeVar("T")
_BYTES = "application/octet-stream"
_TEMPLATES = Path(__file__).parent / "templates"

_MARGIN = 0.5  # around the two ends of a path, of their distance
_MIN_MARGIN_PX = 24
_MAX_AREA_PX = 4_000_000  # that a path is searched in
_LEAST_PROB = 0.02  # where there is no vein: a path through it costs 50 times that through a sure vein


class Start(NamedTuple):
    """What an annotation starts from: a mask uint8 (H, W), and probabilities times 255, uint8 (H, W) per class name."""

    mask: np.ndarray
    probs: dict[str, np.ndarray]


class PathRequest(BaseModel):
    """Two ends of a vein, (x, y) in pixels of the image, and the mask class."""

    start: tuple[float, float]
    end: tuple[float, float]
    mask_class: str = Field(alias="class")


class Annotator:
    """Predicts masks of the images of a folder, finds paths along veins, and saves corrected masks.

    Images are known by their index. Raises: ConfigError for a network without masks.
    """

    def __init__(self, folder: AnnotatedFolder, service: PredictionService) -> None:
        self.folder, self.service = folder, service
        if not service.predictor.mask_classes:
            raise ConfigError("This network finds no masks, so there is nothing to correct. Use a network with masks.")
        self._predict = lru_cache(maxsize=4)(self._predict_uncached)

    def start(self, index: int) -> Start:
        """Return the saved mask, or else the predicted one, and the probabilities. Raises: DataError."""
        predicted = self._predict(index)
        saved = self.folder.read_mask(self.folder.images[index])
        if saved is not None and saved.shape != predicted.mask.shape:
            raise ConfigError(
                f"The mask of {self.folder.images[index]} has {saved.shape[1]} x {saved.shape[0]} px, and the image "
                f"{predicted.mask.shape[1]} x {predicted.mask.shape[0]}. Correct it, or remove it from manifest.csv."
            )
        return predicted if saved is None else predicted._replace(mask=saved)

    def find_path(self, index: int, ends: PathRequest) -> list[tuple[int, int]]:
        """Find the path between two points that follows the most probable vein: (x, y) of each pixel.

        Without probabilities of the class, or if the points are too far apart, the path is straight.
        """
        probs = self._predict(index).probs.get(ends.mask_class)
        height, width = self._predict(index).mask.shape
        (x, y), (u, v) = ((_clip(a, width), _clip(b, height)) for a, b in (ends.start, ends.end))
        margin = max(_MIN_MARGIN_PX, round(_MARGIN * max(abs(x - u), abs(y - v))))
        top, left = max(0, min(y, v) - margin), max(0, min(x, u) - margin)
        rows, columns = slice(top, max(y, v) + margin + 1), slice(left, max(x, u) + margin + 1)
        if probs is None or probs[rows, columns].size > _MAX_AREA_PX:
            return [(x, y), (u, v)]
        cost = 1.0 / (_LEAST_PROB + probs[rows, columns] / 255.0)
        path, _ = route_through_array(cost, (y - top, x - left), (v - top, u - left))
        return [(left + column, top + row) for row, column in path]

    def save(self, index: int, data: bytes) -> str:
        """Save a mask, H * W class indices. Returns: its path. Raises: HTTPException 422; DataError."""
        height, width = self._predict(index).mask.shape
        values = np.frombuffer(data, np.uint8)
        if len(values) != height * width:
            raise HTTPException(422, f"The mask has {len(values)} bytes; the image has {width} x {height} pixels.")
        largest = max(value for value, _ in mask_values(self.folder.mask_classes))
        if values.max() > largest:
            raise HTTPException(422, f"The mask has the value {values.max()}; the largest class is {largest}.")
        return self.folder.write_mask(self.folder.images[index], encode_mask(values.reshape(height, width)))

    def _predict_uncached(self, index: int) -> Start:
        predictor, image = self.service.predictor, self.folder.images[index]
        pixels = torch.from_numpy(self.folder.read_image(image)).permute(2, 0, 1).contiguous()
        maker = predictor.mask_maker
        found = predictor.predict_image(pixels, image, ProbabilityMaker.replacing(maker))
        assert found.mask is not None  # noqa: S101 - the network has mask classes
        names, probs = predictor.mask_classes, found.mask
        mask = maker.finish(
            maker.decide_probs(torch.from_numpy(probs).float() / 255), None if found.scale is None else 1 / found.scale
        )
        if tuple(names) != self.folder.mask_classes:
            mask = np.zeros_like(mask)  # other classes: their masks are drawn from the beginning
        return Start(mask, dict(zip(names, probs, strict=True)))


def annotation_routes(annotator: Annotator) -> APIRouter:
    """The page /annotate and what it asks for."""
    router = APIRouter(include_in_schema=False, dependencies=[Depends(_require_this_machine)])
    templates, folder, service = Jinja2Templates(_TEMPLATES), annotator.folder, annotator.service

    def existing(index: int) -> int:
        if not 0 <= index < len(folder.images):
            raise HTTPException(404, "There is no such image.")
        return index

    index_of_image = Annotated[int, Depends(existing)]

    @router.get("/annotate")
    async def page(request: Request) -> Response:
        classes = [
            {"name": name, "value": value, "color": hex_color(value)}
            for value, name in mask_values(folder.mask_classes)
            if value
        ]
        info = {
            "name": folder.folder.name,
            "folder": str(folder.folder),
            "version": mnsa.__version__,
            "classes": classes,
        }
        return templates.TemplateResponse(request, "annotate.html", {"info": info})

    @router.get("/annotations")
    async def images() -> list[dict[str, str]]:
        masks = await _run(service, folder.masks)
        return [{"image": image, "mask": masks.get(image, "")} for image in folder.images]

    @router.get("/annotations/{index}/image")
    async def image(index: index_of_image) -> Response:
        pixels = await _run(service, partial(folder.read_image, folder.images[index]))
        return Response(await asyncio.to_thread(encode_jpeg, pixels), media_type="image/jpeg")

    @router.get("/annotations/{index}/mask")
    async def mask(index: index_of_image) -> Response:
        found = (await _run(service, partial(annotator.start, index))).mask
        height, width = found.shape
        return Response(found.tobytes(), media_type=_BYTES, headers={"Mask-Size": f"{width} {height}"})

    @router.post("/annotations/{index}/path")
    async def path(index: index_of_image, ends: PathRequest) -> list[tuple[int, int]]:
        return await _run(service, partial(annotator.find_path, index, ends))

    @router.put("/annotations/{index}/mask")
    async def save(index: index_of_image, request: Request) -> dict[str, str]:
        data = await read_body(RequestBody(request, service.limits.max_bytes), service.limits, _BYTES)
        return {"mask": await _run(service, partial(annotator.save, index, data))}

    return router


async def _run(service: PredictionService, work: Callable[[], T]) -> T:
    """Run work in the thread of the network, as predictions are. Raises: HTTPException 422 with mnsa's own errors."""
    try:
        return await service.queue.run(work)
    except MnsaError as error:
        raise HTTPException(422, str(error)) from None


def _require_this_machine(request: Request) -> None:
    try:
        local = ipaddress.ip_address(request.client.host if request.client else "").is_loopback
    except ValueError:
        local = False
    if not local:
        raise HTTPException(403, "Masks can be corrected on the server's own machine only.")


def _clip(value: float, size: int) -> int:
    return int(min(max(value, 0), size - 1))
