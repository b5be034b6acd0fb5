"""The released code's IoU, with each of its three quirks, beside an IoU computed from sets."""

import numpy as np
import pytest
import torch
from skimage.measure import block_reduce

from mnsa.evaluation.released import iou_released
from mnsa.records import NO_MASK


def logits_of(mask):
    return torch.where(mask.bool(), 2.0, -2.0)[:, None]


def test_one_vein_pixel_counts_as_a_whole_block():
    masks = (torch.rand(3, 16, 24, generator=torch.Generator().manual_seed(0)) > 0.9).to(torch.uint8)
    blocks = torch.from_numpy(block_reduce(masks.numpy(), (1, 2, 2), np.max))
    assert iou_released([(logits_of(blocks), masks)]) == 1.0
    first = blocks.clone()
    first[1:] = 0
    expected = int(first.sum()) / int(blocks.sum())
    assert iou_released([(logits_of(first), masks)]) == pytest.approx(expected)


def test_empty_batches_count_as_perfect_and_the_mean_goes_over_batches():
    empty, full = torch.zeros(2, 8, 8, dtype=torch.uint8), torch.ones(1, 8, 8, dtype=torch.uint8)
    nothing, missed = (logits_of(empty[:, :4, :4]), empty), (logits_of(empty[:1, :4, :4]), full)
    assert iou_released([nothing, missed]) == 0.5
    together = (torch.cat([nothing[0], missed[0]]), torch.cat([empty, full]))
    assert iou_released([together]) == 0.0


def test_pixels_of_unknown_truth_are_background():
    masks = torch.full((1, 4, 4), NO_MASK, dtype=torch.uint8)
    assert iou_released([(logits_of(torch.zeros(1, 2, 2)), masks)]) == 1.0
