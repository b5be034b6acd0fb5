"""A batch moves as a whole."""

import torch

from mnsa.structures import Batch


def test_every_tensor_of_a_batch_moves() -> None:
    tensors = torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long), torch.zeros(2, dtype=torch.long)
    lines = torch.zeros(2, 4, 4, dtype=torch.bool)
    moved = Batch(*tensors, lines).to("meta")
    assert {tensor.device.type for tensor in (moved.images, moved.masks, moved.labels)} == {"meta"}
    assert moved.centerlines is not None
    assert moved.centerlines.device.type == "meta"
    assert Batch(*tensors).to("meta").centerlines is None
