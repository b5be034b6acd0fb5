"""The predictor: one image in, one prediction out, at the image's own size.

B batch; H, W image size in pixels; h, w network input size; K classes; M mask classes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Literal, get_args, overload

import numpy as np
import torch
from torch import Tensor, nn

from mnsa.data.decode import require_min_size
from mnsa.data.transforms import eval_transform
from mnsa.engines.artifact import open_export
from mnsa.engines.spec import EngineName, Precision
from mnsa.errors import ModelError
from mnsa.hub.repository import PretrainedMixin, find_model_folder
from mnsa.inference.calibration_file import Calibration, load_calibration
from mnsa.inference.grad_cam import grad_cam, require_explainable
from mnsa.inference.image_input import ImageInput, image_name, is_several, iter_images, to_image_tensor
from mnsa.inference.postprocessing import MaskMaker, Postprocessing
from mnsa.inference.postprocessing_file import choose_postprocessing
from mnsa.inference.prediction import NamedPrediction
from mnsa.inference.prediction_table import PredictionTable, predicted_class
from mnsa.inference.scale import PredictAtScale, Scale
from mnsa.inference.tiling import (
    Engine,
    TiledOutputs,
    TileForward,
    Tiling,
    logits_forward,
    pooling_forward,
    predict_tiles,
)
from mnsa.inference.tta import View, average_class_probs, build_views, predict_views
from mnsa.model.network import NO_CLASS_HEAD, Network
from mnsa.model.ops.fuse_bn import fuse_batch_norms
from mnsa.model_folder import load_network
from mnsa.run_folder import ModelSpec
from mnsa.structures import NetworkOutputs
from mnsa.traits import TraitMeasurer, find_roles
from mnsa.traits.records import to_numbers
from mnsa.trees.boosted_trees import load_trees
from mnsa.weights import is_bundled

Head = Literal["network", "trees"]


class Predictor(PretrainedMixin):
    """A trained network with its transform and the names of its classes.

    network: taken over; its BatchNorms are fused into the convolutions before them, which is faster. spec: config and
    names of the network. engine: computes the outputs in place of the network. calibration: temperature and threshold;
    without it temperature is 1 and there is no threshold. postprocessing: how masks are made of their probabilities.
    source: the folder that the network was loaded from. explain: predictions have a Grad-CAM of their class. tta:
    test-time augmentation, see `load`. scale: see `load`; None: images keep their size.
    Raises: ModelError when `explain` is set and the network can't be explained (`can_explain`); ConfigError for a
    `tta` or `scale` that can't be used.
    """

    def __init__(
        self,
        network: Network,
        spec: ModelSpec,
        *,
        engine: Engine | None = None,
        calibration: Calibration | None = None,
        postprocessing: Postprocessing | None = None,
        source: Path | None = None,
        explain: bool = False,
        tta: Iterable[str] = (),
        scale: Scale | None = None,
    ) -> None:
        if explain and engine is not None:
            raise ModelError("An exported network has no gradients to explain it by. Leave out --engine, or --explain.")
        if explain:
            require_explainable(network)
        self.explain = explain
        self.network = network.eval()
        fuse_batch_norms(self.network)
        self.engine: Engine = engine or self.network
        self.calibration = calibration
        self.temperature = calibration.temperature if calibration else 1.0
        self.threshold = calibration.threshold if calibration else None
        self.classes = spec.classes
        self.mask_classes = spec.mask_classes
        self.mask_maker = MaskMaker(postprocessing or Postprocessing(), spec.mask_classes, spec.data)
        self.source = source
        self.transform = eval_transform(spec.data, mean=network.backbone.mean, std=network.backbone.std)
        height, width = spec.data.size
        self.keeps_scale = spec.data.resize_mode == "crop"
        self.tiling = Tiling.for_input((height, width))
        # Resized to an input that is not square, an image on its side has other proportions than in training.
        self.views = build_views(tta, allow_quarter_turns=self.keeps_scale or height == width)
        self.scale = scale
        self._at_scale = None if scale is None else PredictAtScale(self._predict_plain, self.mask_maker, spec, scale)

    @property
    def can_explain(self) -> bool:
        """Whether Grad-CAM works: only for the network's own class head, without an exported engine."""
        head = self.network.class_head
        return self.engine is self.network and head is not None and isinstance(head.classifier, nn.Linear)

    @classmethod
    def from_pretrained(cls, source: str | Path, *, revision: str | None = None) -> "Predictor":
        """Load a run folder, its model/ folder, or a name on the hub, as `load` does. Raises: RunError."""
        return load(source, revision=revision)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> NetworkOutputs:
        """Compute the network's outputs for normalized images (B, 3, h, w)."""
        return self.engine(images.contiguous(memory_format=torch.channels_last))

    @overload
    def predict(self, images: ImageInput) -> NamedPrediction: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, images: Iterable[ImageInput]) -> list[NamedPrediction]: ...

    def predict(self, images: ImageInput | Iterable[ImageInput]) -> NamedPrediction | list[NamedPrediction]:
        """Predict one image, or each image of a list, a folder or a glob: a prediction, or a list of them.

        An image is a path or an address (`https://...`) as text, a PIL image, a NumPy array (H, W, 3) or a tensor
        (3, H, W), in RGB: uint8, or floats from 0 to 1. Masks have its size. Raises: DataError that names the file, or
        the type, shape, dtype or range that can't be used.
        """
        if is_several(images):
            return [self._predict_input(image) for image in iter_images(images)]
        return self._predict_input(images)  # type: ignore[arg-type]

    def predict_image(self, image: Tensor, path: str = "", mask_maker: MaskMaker | None = None) -> NamedPrediction:
        """Predict an image uint8 (3, H, W), RGB; `path` is only its name. mask_maker: in place of the predictor's own.

        Raises: DataError when a side has less than 16 pixels.
        """
        require_min_size(image, path)
        return (self._at_scale or self._predict_plain)(image, path, mask_maker)

    def needs_tiling(self, size: tuple[int, int]) -> bool:
        """Whether an image of (H, W) is predicted tile by tile: it is large, and the network keeps its scale."""
        return self.keeps_scale and self.tiling.needs_tiling(size)

    def predicts_alone(self, size: tuple[int, int]) -> bool:
        """Whether an image of (H, W) is predicted by itself: in tiles, or at a scale of its own. It is in no batch."""
        return self.scale is not None or self.needs_tiling(size)

    def preprocess(self, image: Tensor, path: str = "") -> Tensor:
        """Make the network's input of an image uint8 (3, H, W), RGB: float32 (3, h, w), normalized.

        Raises: DataError when a side has less than 16 pixels; `path` names the image.
        """
        require_min_size(image, path)
        inputs, _ = self.transform(image)
        return inputs

    def predict_batch(
        self,
        inputs: Tensor,
        sizes: Sequence[tuple[int, int]],
        paths: Sequence[str],
        mask_maker: MaskMaker | None = None,
    ) -> list[NamedPrediction]:
        """Predict preprocessed images (B, 3, h, w). sizes: the original (H, W) of each, which its mask will have.

        mask_maker: in place of the predictor's own.
        """
        maker = mask_maker or self.mask_maker
        inputs = inputs.to(self._device)
        if len(self.views) > 1:
            class_probs, mask_logits, attention = predict_views(self, inputs, self.views, self.temperature)
        else:
            class_logits, mask_logits, attention = self(inputs)
            class_probs = None if class_logits is None else (class_logits / self.temperature).softmax(-1)
        explained = None
        if self.explain and class_probs is not None:
            explained = grad_cam(self.network, inputs, class_probs.argmax(1))
        return [
            self._make_prediction(
                path,
                class_probs=None if class_probs is None else class_probs[n],
                mask=None if mask_logits is None else maker.finish(maker.decide_at_size(mask_logits[n], size)),
                attention=None if attention is None else attention[n, 0],
                grad_cam=None if explained is None else explained[n],
            )
            for n, (size, path) in enumerate(zip(sizes, paths, strict=True))
        ]

    def compute_grad_cam(self, image: Tensor, classes: Sequence[int]) -> list[np.ndarray]:
        """Compute Grad-CAM of some classes for an image uint8 (3, H, W): a float32 map, 0 or more, per class.

        Raises: ModelError when the network can't be explained (`can_explain`); DataError for a small image.
        """
        inputs = self.preprocess(image)[None].to(self._device)
        indices = torch.tensor(list(classes), device=inputs.device)
        return [
            _to_numpy(values) for values in grad_cam(self.network, inputs.expand(len(classes), -1, -1, -1), indices)
        ]

    def class_name(self, class_probs: np.ndarray) -> str:
        """The most probable class of probabilities (K,); `unknown` when its probability is below the threshold."""
        return predicted_class(class_probs, self.classes, self.threshold)

    def prediction_table(self, trait_columns: Sequence[str] = (), *, mask_files: bool = False) -> PredictionTable:
        """Make the table for predictions of this network; arguments: as `PredictionTable` takes them."""
        return PredictionTable(
            self.classes, self.mask_classes, threshold=self.threshold, trait_columns=trait_columns,
            checks_veins=self.scale is not None, mask_files=mask_files,
        )  # fmt: skip

    def measure_traits(self, prediction: NamedPrediction, *, px_per_mm: float | None = None) -> dict[str, float]:
        """Measure the mask of a prediction: numbers by column, as `mnsa predict --traits` writes them.

        px_per_mm: pixels per millimeter; without it the values are in pixels. Units are in the names of the columns. A
        value that does not exist is NaN. The column `vein_reference` is left out, as it is text.
        Raises: ModelError when there is no mask; ConfigError when no mask class has a role (see `mnsa.traits`).
        """
        if prediction.mask is None:
            raise ModelError(
                "This network finds no masks, so there is nothing to measure. Train one with segmentation."
            )
        return to_numbers(TraitMeasurer(find_roles(self.mask_classes), px_per_mm).measure(prediction.mask), px_per_mm)

    def pool_tiles(self, image: Tensor) -> Tensor:
        """Compute the features that the class head pools of a large image uint8 (3, H, W): (1, C_5).

        Raises: ModelError when there is no class head.
        """
        features = self._predict_tiles(image, pooling_forward(self.network), (View(),), self.mask_maker).class_outputs
        if features is None:
            raise ModelError(NO_CLASS_HEAD)
        return features

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    def _predict_input(self, image: ImageInput) -> NamedPrediction:
        pixels = to_image_tensor(image)
        prediction = self.predict_image(pixels, image_name(image))
        is_file = isinstance(image, str | PathLike) and Path(image).is_file()  # a notebook reads it again
        return prediction if is_file else replace(prediction, image=pixels.permute(1, 2, 0).numpy())

    def _predict_plain(self, image: Tensor, path: str, mask_maker: MaskMaker | None = None) -> NamedPrediction:
        size, maker = (image.shape[-2], image.shape[-1]), mask_maker or self.mask_maker
        if self.needs_tiling(size):
            return self._predict_tiled(image, path, maker)
        return self.predict_batch(self.preprocess(image, path)[None], [size], [path], maker)[0]

    def _predict_tiled(self, image: Tensor, path: str, maker: MaskMaker) -> NamedPrediction:
        head = self.network.class_head if self.engine is self.network else None
        forward_tile = pooling_forward(self.network) if self.engine is self.network else logits_forward(self.engine)
        found, class_probs = self._predict_tiles(image, forward_tile, self.views, maker), None
        if found.class_outputs is not None:
            with torch.inference_mode():
                class_logits = found.class_outputs if head is None else head.classifier(found.class_outputs)
                class_probs = average_class_probs(class_logits, self.temperature)
        mask = None if found.mask_maps is None else maker.finish(found.mask_maps)
        return self._make_prediction(path, class_probs=class_probs, mask=mask, attention=found.attention)

    def _predict_tiles(
        self, image: Tensor, forward_tile: TileForward, views: Sequence[View], maker: MaskMaker
    ) -> TiledOutputs:
        def make_inputs(pixels: Tensor) -> Tensor:
            inputs = self.transform(pixels)[0][None].to(self._device)
            return inputs.contiguous(memory_format=torch.channels_last)

        with torch.inference_mode():
            return predict_tiles(forward_tile, make_inputs, image, self.tiling, views, maker.decide_probs)

    def _make_prediction(
        self,
        path: str,
        *,
        class_probs: Tensor | None,
        mask: np.ndarray | None,
        attention: Tensor | None,
        grad_cam: Tensor | None = None,
    ) -> NamedPrediction:
        return NamedPrediction(
            path,
            class_probs=None if class_probs is None else _to_numpy(class_probs),
            mask=mask,
            attention=None if attention is None else _to_numpy(attention),
            grad_cam=None if grad_cam is None else _to_numpy(grad_cam),
            classes=self.classes,
            mask_classes=self.mask_classes,
            threshold=self.threshold,
        )


def load(
    run: str | Path,
    *,
    head: Head = "network",
    engine: EngineName | None = None,
    precision: Precision = "float32",
    revision: str | None = None,
    explain: bool = False,
    tta: Iterable[str] = (),
    mask_threshold: float | None = None,
    repair: bool | None = None,
    scale: Scale | None = None,
) -> Predictor:
    """Load the network of a run folder, of its model/ folder, of a name on the hub (`owner/model`), or of `veins`.

    `veins` is the network that comes with mnsa: it finds the veins of any leaf.
    head: `network` classifies by the network's own head, `trees` by the boosted trees of `mnsa fit-trees`; masks and
    attention always come from the network. The calibration of `mnsa calibrate` is used with the network's own head, in
    every engine; trees are not calibrated.
    engine: None runs PyTorch; otherwise the file that `mnsa export` wrote, in `precision`. revision: branch, tag or
    commit on the hub.
    explain: predictions have a Grad-CAM of their class; it needs PyTorch and the network's own head, and images that
    are cut into tiles have none. tta: test-time augmentation, some of `flips`, `rot90`, `scales`. Class and mask
    probabilities are averaged over all views, so prediction takes as many times longer as there are views.
    mask_threshold: masks are the pixels above this probability, without the run's postprocessing (postprocessing.json,
    see `Postprocessing`); for one mask class. repair: close the gaps of veins, or don't; None: as the run does.
    scale: factor by which images are resized for a network of veins, or `auto`, which finds one for each image
    (`mnsa.inference.scale`). Predictions then have a confidence and a warning. None: `auto` for `veins`, else images
    keep their size. It needs a network that keeps the scale (`data.resize_mode = "crop"`).
    Raises: RunError when the folder is incomplete, has no trees or no such export, or when calibration.json or
    postprocessing.json belongs to other weights; ModelError when one of them can't be used; ConfigError for an unknown
    augmentation, a threshold that is none, or a scale that can't be used.
    """
    if engine is not None and head == "trees":
        raise ModelError("Boosted trees are no part of an exported network. Leave out --engine, or --head trees.")
    if head not in get_args(Head):
        raise ModelError(f"There is no head {head!r}. Expected {' or '.join(get_args(Head))}.")
    folder = find_model_folder(run, revision=revision)
    network, spec = load_network(folder)
    postprocessing = choose_postprocessing(folder, spec.mask_classes, threshold=mask_threshold, repair=repair)
    if head == "trees":
        if network.class_head is None:
            raise ModelError(f"{run}: {NO_CLASS_HEAD}")
        features = network.backbone.channels[-1]
        network.class_head.classifier = load_trees(folder, spec.classes, features, threads=torch.get_num_threads())
    exported = None if engine is None else open_export(folder, engine, precision)
    calibration = None if head == "trees" else load_calibration(folder)
    return Predictor(
        network, spec, engine=exported, calibration=calibration, postprocessing=postprocessing, source=folder,
        explain=explain, tta=tta, scale="auto" if scale is None and is_bundled(run) else scale,
    )  # fmt: skip


def _to_numpy(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.cpu().numpy()
    return array
