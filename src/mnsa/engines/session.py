"""An exported network that answers as the eager one does.

B batch; h, w network input size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mnsa.engines.card import MIN_SIDE_PX, EngineCard
from mnsa.errors import ModelError
from mnsa.records import Outputs

Run = Callable[[np.ndarray], Sequence[np.ndarray]]  # float32 (B, 3, h, w) -> the outputs, in the card's order


@dataclass(frozen=True, slots=True)
class Session:
    """A loaded artefact. One call at a time: OpenVINO's requests are not shared between threads."""

    card: EngineCard
    run: Run

    def __call__(self, images: Tensor) -> Outputs:
        """Answer for normalised images float32 (B, 3, h, w). Raises: ModelError for images under 33 px a side."""
        height, width = images.shape[-2:]
        if min(height, width) < MIN_SIDE_PX:
            raise ModelError(
                f"an input of {height} x {width} px is too small for an exported network; "
                f"give at least {MIN_SIDE_PX} px a side."
            )
        arrays = self.run(np.ascontiguousarray(images.cpu().numpy()))
        found = dict(zip(self.card.outputs, arrays, strict=True))
        return Outputs(*(_tensor(found[name]) if name in found else None for name in Outputs._fields))


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(array, dtype=np.float32))
