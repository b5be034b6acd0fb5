"""The upstream way's stand-in flips, pads and crops as its description says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from upstream_loading import HeldImages


def test_a_small_image_is_padded_right_and_bottom_and_its_mask_goes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "i.png")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "m.png")
    held = HeldImages([(tmp_path / "i.png", tmp_path / "m.png", 3)], size=40)
    for draw, expected in ((0.9, pixels), (0.1, pixels[:, ::-1])):
        monkeypatch.setattr("random.random", lambda draw=draw: draw)
        image, mask, label = held[0]
        assert (image.shape, mask.shape, label) == ((3, 40, 40), (40, 40), 3)
        np.testing.assert_array_equal((image[:, :20, :30] * 255).round().byte().permute(1, 2, 0).numpy(), expected)
        assert torch.equal(image[0], mask)
        assert image[:, 20:].abs().sum() == image[:, :, 30:].abs().sum() == 0


def test_a_large_image_is_cropped(tmp_path: Path) -> None:
    Image.new("RGB", (90, 70), "white").save(tmp_path / "i.png")
    Image.new("L", (90, 70), "white").save(tmp_path / "m.png")
    image, mask, _ = HeldImages([(tmp_path / "i.png", tmp_path / "m.png", 0)], size=40)[0]
    assert image.shape == (3, 40, 40)
    assert image.min() == mask.min() == 1
