"""Pictures that hold numbers still hold them when they are read back."""

import io

import numpy as np
from PIL import Image

from mnsa.data.decode import read_mask
from mnsa.serving.service import MAX_PREVIEW_PX, encode_attention, encode_mask, encode_preview
from mnsa.visualize.palette import class_color


def opened(data):
    return Image.open(io.BytesIO(data))


def test_a_mask_is_read_back_as_class_indices(tmp_path):
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4) % 5
    (tmp_path / "mask.png").write_bytes(encode_mask(mask))
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png", 5).numpy(), mask)


def test_a_mask_shown_as_a_picture_is_the_overlay_and_its_background_is_see_through():
    shown = np.array(opened(encode_mask(np.array([[0, 1], [2, 1]], np.uint8))).convert("RGBA"))
    assert shown[..., 3].tolist() == [[0, 255], [255, 255]]
    assert tuple(shown[0, 1, :3]) == class_color(1)
    assert tuple(shown[1, 0, :3]) == class_color(2)


def test_attention_is_read_back_to_half_a_grey_level():
    attention = np.random.default_rng(1).random((5, 7), np.float32)
    np.testing.assert_allclose(np.array(opened(encode_attention(attention))) / 255, attention, atol=0.5 / 255 + 1e-6)


def test_a_preview_is_small_and_keeps_its_shape():
    assert opened(encode_preview(np.zeros((40, 3000, 3), np.uint8))).size == (MAX_PREVIEW_PX, 17)
    assert opened(encode_preview(np.zeros((40, 30, 3), np.uint8))).size == (30, 40)
