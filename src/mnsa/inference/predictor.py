"""One image in, one answer out, at the image's own size.

B batch; H, W image size in pixels; h, w network input size; K classes; M mask classes.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mnsa.data.images import read_image
from mnsa.data.transforms import eval_transform
from mnsa.engines.folder import open_export
from mnsa.engines.kinds import EngineName, Precision
from mnsa.errors import ModelError
from mnsa.inference.calibration_file import Calibration, load_calibration
from mnsa.model.folded import fold_norms
from mnsa.model.heads import mask_of
from mnsa.model.network import NO_CLASS_HEAD, Network
from mnsa.records import Outputs, Prediction
from mnsa.run_folder import ModelCard, load_network
from mnsa.trees.folder import load_trees

Head = Literal["network", "trees"]
UNKNOWN = "unknown"  # stands for the class where no class is likely enough
Engine = Callable[[Tensor], Outputs]  # images (B, 3, h, w), normalised -> what the network would say of them


class Predictor:
    """A trained network with its transform and the names of its classes.

    It takes the network over: BatchNorms become part of the convolutions before them, which answers faster.

    engine: computes the outputs in the network's place. calibration: how sure the network really is; without it
    temperature is 1 and threshold None.
    """

    def __init__(
        self, network: Network, card: ModelCard, *, engine: Engine | None = None, calibration: Calibration | None = None
    ) -> None:
        self.network = network.eval()
        fold_norms(self.network)
        self.engine: Engine = engine or self.network
        self.calibration = calibration
        self.temperature = calibration.temperature if calibration else 1.0
        self.threshold = calibration.threshold if calibration else None
        self.classes = card.classes
        self.mask_classes = card.mask_classes
        self.transform = eval_transform(card.data, mean=network.backbone.mean, std=network.backbone.std)

    def __call__(self, images: Tensor) -> Outputs:
        """The network's outputs for images (B, 3, h, w) that are normalised already."""
        with torch.inference_mode():
            return self.engine(images.contiguous(memory_format=torch.channels_last))

    def predict(self, path: str | Path) -> Prediction:
        """Read an image file and answer for it. Raises: DataError naming the file."""
        return self.predict_image(read_image(Path(path)), str(path))

    def predict_image(self, image: Tensor, path: str = "") -> Prediction:
        """Answer for an image uint8 (3, H, W), RGB; `path` only names it in the answer."""
        height, width = image.shape[-2:]
        return self.answer(self.prepare(image)[None], [(height, width)], [path])[0]

    def prepare(self, image: Tensor) -> Tensor:
        """What the network is shown of an image uint8 (3, H, W), RGB: float32 (3, h, w), normalised."""
        inputs, _ = self.transform(image)
        return inputs

    def class_name(self, class_probs: np.ndarray) -> str:
        """The most probable class of probabilities (K,), or UNKNOWN where they stay below the threshold."""
        best = int(class_probs.argmax())
        sure = self.threshold is None or class_probs[best] >= self.threshold
        return self.classes[best] if sure else UNKNOWN

    def answer(self, inputs: Tensor, sizes: Sequence[tuple[int, int]], paths: Sequence[str]) -> list[Prediction]:
        """Answer for prepared images (B, 3, h, w); sizes: each one's own (H, W), which its mask will have."""
        device = next(self.network.parameters()).device
        outputs = self(inputs.to(device))
        class_logits = None if outputs.class_logits is None else outputs.class_logits / self.temperature
        return [
            Prediction(
                path=path,
                class_probs=None if class_logits is None else _numpy(class_logits[n].softmax(0)),
                mask=None if outputs.mask_logits is None else _numpy(_mask(outputs.mask_logits[n : n + 1], size)),
                attention=None if outputs.attention is None else _numpy(outputs.attention[n, 0]),
            )
            for n, (size, path) in enumerate(zip(sizes, paths, strict=True))
        ]


def load(
    run: str | Path, *, head: Head = "network", engine: EngineName | None = None, precision: Precision = "float32"
) -> Predictor:
    """The network of a run folder, ready to answer.

    head: who says the class, the network's own head or the boosted trees that `mnsa trees` grew; masks and attention
    are the network's either way. What `mnsa calibrate` has found is used for the network's own head, in every engine;
    trees answer uncalibrated. engine: None computes eagerly; else what `mnsa export` wrote, in `precision`.
    Raises: RunError when the folder is incomplete or has no trees or no such export; ModelError when one can't be used.
    RunError also when calibration.json was found for other weights.
    """
    if engine is not None and head == "trees":
        raise ModelError("Boosted trees are no part of an exported network. Leave out --engine, or --head trees.")
    if head not in get_args(Head):
        raise ModelError(f"There is no head {head!r}. Expected {' or '.join(get_args(Head))}.")
    network, card = load_network(Path(run))
    if engine is not None:
        opened = open_export(Path(run), engine, precision)
        return Predictor(network, card, engine=opened, calibration=load_calibration(Path(run)))
    if head == "trees":
        if network.class_head is None:
            raise ModelError(f"{run}: {NO_CLASS_HEAD}")
        features = network.backbone.channels[-1]
        trees = load_trees(Path(run), card.classes, features, threads=torch.get_num_threads())
        network.class_head.classifier = trees
        return Predictor(network, card)
    return Predictor(network, card, calibration=load_calibration(Path(run)))


def _mask(mask_logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Class indices uint8 (H, W) at the image's own size from logits (1, M, h, w)."""
    if mask_logits.shape[-2:] != size:
        mask_logits = F.interpolate(mask_logits, size, mode="bilinear")
    return mask_of(mask_logits)[0]


def _numpy(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.cpu().numpy()
    return array
