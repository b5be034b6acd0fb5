"""The predictor: one image in, one prediction out, at the image's own size.

B batch; H, W image size in pixels; h, w network input size; K classes; M mask classes.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from mnsa.data.decode import read_image
from mnsa.data.transforms import eval_transform
from mnsa.engines.artifact import open_export
from mnsa.engines.spec import EngineName, Precision
from mnsa.errors import DataError, ModelError, RunError
from mnsa.hub.download import find_model_folder
from mnsa.hub.save import push_model, save_model
from mnsa.inference.calibration_file import Calibration, load_calibration
from mnsa.inference.grad_cam import grad_cam, require_explainable
from mnsa.inference.prediction_table import PredictionTable, predicted_class
from mnsa.inference.tiling import (
    Engine,
    TiledOutputs,
    TileForward,
    Tiling,
    logits_forward,
    pooling_forward,
    predict_tiles,
    resize_to_mask,
)
from mnsa.inference.tta import View, build_views, predict_views
from mnsa.model.network import NO_CLASS_HEAD, Network
from mnsa.model.ops.fuse_bn import fuse_batch_norms
from mnsa.model_folder import load_network
from mnsa.run_folder import ModelSpec
from mnsa.structures import NetworkOutputs, Prediction
from mnsa.traits import TraitMeasurer, find_roles
from mnsa.trees.boosted_trees import load_trees

Head = Literal["network", "trees"]

MIN_SIDE_PX = 16  # a side of an image; below, there is nothing to see


class Predictor:
    """A trained network with its transform and the names of its classes.

    It takes the network over: BatchNorms become part of the convolutions before them, which answers faster.

    engine: computes the outputs in the network's place. calibration: how sure the network really is; without it
    temperature is 1 and threshold None. source: the folder it was read from; the weights there are not folded.
    explain: answers say where their class was seen. Raises: ModelError when they can't (`can_explain`).
    tta: test-time augmentation, see `load`.
    """

    def __init__(
        self,
        network: Network,
        card: ModelSpec,
        *,
        engine: Engine | None = None,
        calibration: Calibration | None = None,
        source: Path | None = None,
        explain: bool = False,
        tta: Iterable[str] = (),
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
        self.classes = card.classes
        self.mask_classes = card.mask_classes
        self.source = source
        self.transform = eval_transform(card.data, mean=network.backbone.mean, std=network.backbone.std)
        height, width = card.data.size
        self.keeps_scale = card.data.resize_mode == "crop"
        self.tiling = Tiling.for_input((height, width))
        # Stretched into an oblong, a picture that lies on its side has other proportions than in training.
        self.views = build_views(tta, allow_quarter_turns=self.keeps_scale or height == width)

    @property
    def can_explain(self) -> bool:
        """Whether Grad-CAM can say where the class was seen: by the network's own head, computed eagerly."""
        head = self.network.class_head
        return self.engine is self.network and head is not None and isinstance(head.classifier, nn.Linear)

    @classmethod
    def from_pretrained(cls, source: str | Path, *, revision: str | None = None) -> "Predictor":
        """Load a run folder, its model/ folder, or a name on the hub, as `load` does. Raises: RunError."""
        return load(source, revision=revision)

    def save_pretrained(self, folder: str | Path, *, license: str | None = None) -> Path:
        """Save the network's files, as they are on disk, into a new folder with a model card: see `save_model`.

        Boosted trees and exported networks stay behind. Raises: RunError, DataError.
        """
        return save_model(self._require_source(), Path(folder), license=license)

    def push_to_hub(
        self, name: str, *, license: str | None = None, private: bool | None = None, revision: str | None = None
    ) -> str:
        """Put what `save_pretrained` saves on the hub, as `owner/model`; its address. Raises: RunError."""
        return push_model(self._require_source(), name, license=license, private=private, revision=revision)

    def __call__(self, images: Tensor) -> NetworkOutputs:
        """The network's outputs for images (B, 3, h, w) that are normalized already."""
        with torch.inference_mode():
            return self.engine(images.contiguous(memory_format=torch.channels_last))

    def predict(self, path: str | Path) -> Prediction:
        """Read an image file and predict it. Raises: DataError naming the file."""
        return self.predict_image(read_image(Path(path)), str(path))

    def predict_image(self, image: Tensor, path: str = "") -> Prediction:
        """Answer for an image uint8 (3, H, W), RGB; `path` only names it in the prediction.

        Raises: DataError for an image of less than MIN_SIDE_PX a side.
        """
        size = _validate_size(image, path)
        if self.needs_tiling(size):
            return self._predict_tiled(image, path)
        return self.predict_batch(self.preprocess(image, path)[None], [size], [path])[0]

    def needs_tiling(self, size: tuple[int, int]) -> bool:
        """Whether an image of (H, W) is answered tile by tile: one that keeps its scale and is large."""
        return self.keeps_scale and self.tiling.needs_tiling(size)

    def compute_grad_cam(self, image: Tensor, classes: Sequence[int]) -> list[np.ndarray]:
        """Compute Grad-CAM of some classes for an image uint8 (3, H, W): a float32 map (h, w), 0 or more, per class.

        Raises: ModelError when the network can't be explained (`can_explain`); DataError for a small image.
        """
        inputs = self.preprocess(image)[None].to(self._device)
        indices = torch.tensor(list(classes), device=inputs.device)
        return [
            _to_numpy(values) for values in grad_cam(self.network, inputs.expand(len(classes), -1, -1, -1), indices)
        ]

    def preprocess(self, image: Tensor, path: str = "") -> Tensor:
        """What the network is shown of an image uint8 (3, H, W), RGB: float32 (3, h, w), normalized.

        Raises: DataError for an image of less than MIN_SIDE_PX a side; `path` names it.
        """
        _validate_size(image, path)
        inputs, _ = self.transform(image)
        return inputs

    def class_name(self, class_probs: np.ndarray) -> str:
        """The most probable class of probabilities (K,); `unknown` when its probability is below the threshold."""
        return predicted_class(class_probs, self.classes, self.threshold)

    def prediction_table(self, trait_columns: Sequence[str] = ()) -> PredictionTable:
        """The table that holds predictions of this network; trait_columns: names of the measured traits."""
        return PredictionTable(self.classes, self.mask_classes, threshold=self.threshold, trait_columns=trait_columns)

    def predict_batch(self, inputs: Tensor, sizes: Sequence[tuple[int, int]], paths: Sequence[str]) -> list[Prediction]:
        """Answer for prepared images (B, 3, h, w); sizes: each one's own (H, W), which its mask will have."""
        outputs = predict_views(self, inputs.to(self._device), self.views, self.temperature)
        class_logits = None if outputs.class_logits is None else outputs.class_logits / self.temperature
        seen = None
        if self.explain and class_logits is not None:
            seen = grad_cam(self.network, inputs.to(self._device), class_logits.argmax(1))
        return [
            Prediction(
                path=path,
                class_probs=None if class_logits is None else _to_numpy(class_logits[n].softmax(0)),
                mask=None if outputs.mask_logits is None else _to_numpy(self._mask(outputs.mask_logits[n], size)),
                attention=None if outputs.attention is None else _to_numpy(outputs.attention[n, 0]),
                grad_cam=None if seen is None else _to_numpy(seen[n]),
            )
            for n, (size, path) in enumerate(zip(sizes, paths, strict=True))
        ]

    def _mask(self, mask_logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Class indices uint8 (H, W) from logits (M, h, w): what was padded is cut off, what was resized back again."""
        return resize_to_mask(mask_logits[:, : size[0], : size[1]] if self.keeps_scale else mask_logits, size)

    def pool_tiles(self, image: Tensor) -> Tensor:
        """What the network's class head reads of a large image uint8 (3, H, W): (1, C_5). Raises: ModelError."""
        class_vectors = self._predict_tiles(image, pooling_forward(self.network), (View(),)).class_vectors
        if class_vectors is None:
            raise ModelError(NO_CLASS_HEAD)
        return class_vectors

    def _predict_tiled(self, image: Tensor, path: str) -> Prediction:
        head = self.network.class_head if self.engine is self.network else None
        forward_tile = pooling_forward(self.network) if self.engine is self.network else logits_forward(self.engine)
        found, class_probs = self._predict_tiles(image, forward_tile, self.views), None
        if found.class_vectors is not None:
            with torch.inference_mode():
                class_logits = found.class_vectors if head is None else head.classifier(found.class_vectors)
                class_probs = _to_numpy((class_logits / self.temperature).softmax(1).mean(0))  # over views
        return Prediction(
            path=path,
            class_probs=class_probs,
            mask=None if found.mask is None else _to_numpy(found.mask),
            attention=None if found.attention is None else _to_numpy(found.attention),
        )

    def _predict_tiles(self, image: Tensor, forward_tile: TileForward, views: Sequence[View]) -> TiledOutputs:
        def inputs_of(pixels: Tensor) -> Tensor:
            inputs = self.transform(pixels)[0][None].to(self._device)
            return inputs.contiguous(memory_format=torch.channels_last)

        with torch.inference_mode():
            return predict_tiles(forward_tile, inputs_of, image, self.tiling, views)

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    def measure_traits(self, prediction: Prediction, *, px_per_mm: float | None = None) -> dict[str, str]:
        """Measure a prediction's mask: values by column, as `mnsa predict --traits` writes them, units in the names.

        px_per_mm: pixels per millimeter; without it, in pixels. A number that doesn't exist is empty text.
        Raises: ModelError when there is no mask; ConfigError when no mask class has a role (see `mnsa.traits`).
        """
        if prediction.mask is None:
            raise ModelError(
                "This network finds no masks, so there is nothing to measure. Train one with segmentation."
            )
        return TraitMeasurer(find_roles(self.mask_classes), px_per_mm).measure_row(prediction.mask)

    def _require_source(self) -> Path:
        if self.source is None:
            raise RunError("This predictor was made of a network, not read from a folder. Save that: save_network.")
        return self.source


def load(
    run: str | Path,
    *,
    head: Head = "network",
    engine: EngineName | None = None,
    precision: Precision = "float32",
    revision: str | None = None,
    explain: bool = False,
    tta: Iterable[str] = (),
) -> Predictor:
    """The network of a run folder, of its model/ folder, or of a name on the hub (`owner/model`), ready to predict.

    head: who says the class, the network's own head or the boosted trees that `mnsa fit-trees` grew; masks and attention
    are the network's either way. What `mnsa calibrate` has found is used for the network's own head, in every engine;
    trees predict uncalibrated. engine: None computes eagerly; else what `mnsa export` wrote, in `precision`. revision:
    branch, tag or commit on the hub. explain: answers have a Grad-CAM of their class (`grad_cam`); eager and by the
    network's own head alone, and not of images that are cut into tiles. tta: test-time augmentation, some of `flips`,
    `rot90`, `scales`; class and mask probabilities are averaged over all views, which takes as many times longer.
    Raises: RunError when the folder is incomplete or has no trees or no such export; ModelError when one can't be used.
    RunError also when calibration.json was found for other weights.
    """
    if engine is not None and head == "trees":
        raise ModelError("Boosted trees are no part of an exported network. Leave out --engine, or --head trees.")
    if head not in get_args(Head):
        raise ModelError(f"There is no head {head!r}. Expected {' or '.join(get_args(Head))}.")
    folder = find_model_folder(run, revision=revision)
    network, card = load_network(folder)
    if engine is not None:
        opened = open_export(folder, engine, precision)
        calibration = load_calibration(folder)
        return Predictor(network, card, engine=opened, calibration=calibration, source=folder, explain=explain, tta=tta)
    if head == "trees":
        if network.class_head is None:
            raise ModelError(f"{run}: {NO_CLASS_HEAD}")
        features = network.backbone.channels[-1]
        trees = load_trees(folder, card.classes, features, threads=torch.get_num_threads())
        network.class_head.classifier = trees
        return Predictor(network, card, source=folder, explain=explain, tta=tta)
    return Predictor(network, card, calibration=load_calibration(folder), source=folder, explain=explain, tta=tta)


def _validate_size(image: Tensor, path: str) -> tuple[int, int]:
    """The (H, W) of an image (3, H, W). Raises: DataError when there is too little to see."""
    height, width = image.shape[-2:]
    if min(height, width) < MIN_SIDE_PX:
        raise DataError(
            f"{path or 'The image'} has {width} x {height} pixels; at least {MIN_SIDE_PX} a side are needed. "
            "Give the photo at its own size."
        )
    return height, width


def _to_numpy(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.cpu().numpy()
    return array
