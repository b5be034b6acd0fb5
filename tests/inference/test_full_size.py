"""A mask that is enlarged in bands is the one that is enlarged at once."""

import pytest
import torch
from torch.nn import functional as F

from mnsa.inference import full_size
from mnsa.model.heads import mask_of


@pytest.mark.parametrize("size", [(97, 130), (400, 31), (20, 20), (64, 48), (1, 1)])
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("band_px", [1, 1_000, 2**22])
def test_bands_join_to_what_torch_resizes_at_once(monkeypatch, size, classes, band_px):
    monkeypatch.setattr(full_size, "_BAND_PX", band_px)
    # In float64 no pixel is so near to the border between two classes that rounding decides.
    logits = torch.randn(classes, 64, 48, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = mask_of(F.interpolate(logits[None], size, mode="bilinear"))[0]
    assert torch.equal(full_size.mask_at(logits, size), expected)
