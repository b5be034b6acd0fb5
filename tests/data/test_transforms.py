"""Transforms: image and mask are transformed together, and evaluation has no random steps."""

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.transform import resize
from torch import Tensor

from mnsa.config import AugmentConfig, DataConfig
from mnsa.data.transforms import Transform, center_crop_transform, eval_transform, train_transform
from mnsa.errors import ConfigError
from mnsa.structures import IGNORE_INDEX

ResizeMode = Literal["resize", "crop"]

ZERO, ONE = (0.0,) * 3, (1.0,) * 3
NO_AUGMENTATION = AugmentConfig(horizontal_flip=0)
ALL_GEOMETRIC = AugmentConfig(
    horizontal_flip=0.5, vertical_flip=0.5, rot90=0.5, rotation_deg=180, zoom=0.3, color_jitter=0.2
)


def draw_ellipse(height: int, width: int) -> tuple[Tensor, Tensor]:
    """A bright ellipse on a dark background, not in the center, and its mask."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    mask = ((y / height - 0.4) ** 2 / 0.06 + (x / width - 0.6) ** 2 / 0.03) < 1
    return (mask * 200 + 20).to(torch.uint8).expand(3, -1, -1).contiguous(), mask.to(torch.uint8)


def make_train_transform(data: DataConfig, augment: AugmentConfig) -> Transform:
    return train_transform(data, augment, ZERO, ONE)


@given(st.integers(0, 2**32), st.integers(50, 120), st.integers(50, 120), st.sampled_from(["resize", "crop"]))
def test_image_and_mask_are_transformed_together(seed: int, height: int, width: int, resize_mode: ResizeMode) -> None:
    torch.manual_seed(seed)
    image, mask = make_train_transform(DataConfig(size=(64, 64), resize_mode=resize_mode), ALL_GEOMETRIC)(
        *draw_ellipse(height, width)
    )
    assert image.shape == (3, 64, 64)
    assert mask.shape == (64, 64)
    bright = image.mean(0) > 0.45
    known = mask != IGNORE_INDEX
    wrong = (bright != (mask == 1))[known].sum()
    edge = torch.nn.functional.max_pool2d(bright[None].float(), 3, 1, 1) - bright[None].float()
    assert wrong <= edge.sum() + 2  # they may differ by one pixel at the border of the ellipse


@pytest.mark.parametrize("policy", ["trivial", "rand"])
def test_a_policy_moves_the_mask_with_its_image(policy: Literal["trivial", "rand"]) -> None:
    """Of TrivialAugment and RandAugment, the operations that move pixels; the others leave the mask alone."""
    augment = AugmentConfig(horizontal_flip=0, policy=policy)
    transform = make_train_transform(DataConfig(size=(64, 64)), augment)
    step = transform.joint.transforms[-1]
    space = step._AUGMENTATION_SPACE
    moving = {name: entry for name, entry in space.items() if name[:5] in ("Shear", "Trans", "Rotat")}
    assert len(moving) == 5
    image, mask = draw_ellipse(64, 64)
    step._AUGMENTATION_SPACE, moved = moving, 0
    for seed in range(20):
        torch.manual_seed(seed)
        changed, changed_mask = transform(image, mask)
        known = changed_mask != IGNORE_INDEX
        bright = changed.mean(0) > 0.45
        edge = torch.nn.functional.max_pool2d(bright[None].float(), 3, 1, 1) - bright[None].float()
        assert ((bright != (changed_mask == 1)) & known).sum() <= edge.sum() + 2
        moved += int(not known.all())
    assert moved > 5
    step._AUGMENTATION_SPACE = {name: entry for name, entry in space.items() if name not in moving}
    for seed in range(20):
        torch.manual_seed(seed)
        assert torch.equal(transform(image, mask)[1], mask.long())


@given(st.integers(0, 2**32))
def test_flips_and_rotations_by_90_degrees_lose_no_pixel(seed: int) -> None:
    torch.manual_seed(seed)
    source, source_mask = draw_ellipse(64, 64)
    augment = AugmentConfig(horizontal_flip=0.5, vertical_flip=0.5, rot90=0.5)
    image, mask = make_train_transform(DataConfig(size=(64, 64)), augment)(source, source_mask)
    orientations = [torch.rot90(t, k) for t in (source_mask, source_mask.flip(-1)) for k in range(4)]
    assert any(torch.equal(mask, expected.long()) for expected in orientations)
    assert torch.equal(image[0] > 0.5, mask == 1)


def test_pixels_from_outside_the_image_are_black_and_of_unknown_class() -> None:
    torch.manual_seed(1)
    white, full = torch.full((3, 64, 64), 255, dtype=torch.uint8), torch.ones(64, 64, dtype=torch.uint8)
    image, mask = make_train_transform(DataConfig(size=(64, 64)), AugmentConfig(rotation_deg=45, horizontal_flip=0))(
        white, full
    )
    assert set(mask.flatten().tolist()) == {1, IGNORE_INDEX}
    assert (image[:, mask == IGNORE_INDEX] < 1).all()
    assert image[:, 32, 32].tolist() == [1, 1, 1]


def test_a_small_image_is_padded_with_zeros_at_the_right_and_at_the_bottom() -> None:
    image, mask = make_train_transform(DataConfig(size=(64, 96), resize_mode="crop"), NO_AUGMENTATION)(
        torch.full((3, 40, 50), 255, dtype=torch.uint8), torch.ones(40, 50, dtype=torch.uint8)
    )
    assert image[:, :40, :50].min() == 1
    assert mask[:40, :50].min() == 1
    assert image.sum() == 3 * 40 * 50
    assert mask.sum() == 40 * 50


def test_a_large_image_is_cropped_without_resizing() -> None:
    source = torch.arange(80 * 100).reshape(1, 80, 100).expand(3, -1, -1).remainder(256).to(torch.uint8)
    image, mask = make_train_transform(DataConfig(size=(64, 64), resize_mode="crop"), NO_AUGMENTATION)(
        source, source[0]
    )
    windows = source[0].unfold(0, 64, 1).unfold(1, 64, 1).reshape(-1, 64, 64)
    assert (windows == mask).all(dim=(1, 2)).any()
    assert torch.equal((image[0] * 255).round().long(), mask)


def test_resizing_does_not_shift_the_mask_against_its_image() -> None:
    """The center of mass, as a fraction of the side, stays; the nearest mode of v2.Resize would shift it."""
    _, source_mask = draw_ellipse(200, 200)
    _, mask = eval_transform(DataConfig(size=(50, 50)), ZERO, ONE)(draw_ellipse(200, 200)[0], source_mask)
    center_before, center_after = ((m.nonzero() + 0.5).double().mean(0) / len(m) for m in (source_mask, mask))
    assert torch.allclose(center_before, center_after, atol=0.2 / 50)


def test_resizing_is_bilinear_with_antialiasing() -> None:
    rng = np.random.default_rng(0)
    smooth = resize(rng.random((8, 8, 3)), (96, 128), order=3, mode="edge", clip=True)
    source = torch.from_numpy((smooth * 255).astype(np.uint8)).permute(2, 0, 1).contiguous()
    image, _ = eval_transform(DataConfig(size=(48, 64)), ZERO, ONE)(source)
    expected = resize(smooth, (48, 64), order=1, mode="edge", anti_aliasing=True)
    assert np.abs(image.permute(1, 2, 0).numpy() - expected).mean() < 0.01


def test_evaluation_is_deterministic_and_normalized() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    transform = eval_transform(DataConfig(size=(64, 64)), mean, std)
    source, source_mask = draw_ellipse(64, 64)
    image, mask = transform(source, source_mask)
    assert torch.equal(image, transform(source, source_mask)[0])
    assert torch.equal(mask, source_mask.long())
    expected = (source / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(image, expected)


def test_evaluation_with_crop_keeps_the_size_of_the_image() -> None:
    image, mask = eval_transform(DataConfig(size=(64, 64), resize_mode="crop"), ZERO, ONE)(*draw_ellipse(45, 101))
    assert image.shape == (3, 45, 101)
    assert torch.equal(mask, draw_ellipse(45, 101)[1].long())


@pytest.mark.parametrize("resize_mode", ["resize", "crop"])
def test_an_image_without_a_mask_gets_a_mask_of_ignored_pixels(resize_mode: ResizeMode) -> None:
    image, mask = make_train_transform(DataConfig(size=(64, 64), resize_mode=resize_mode), ALL_GEOMETRIC)(
        draw_ellipse(50, 70)[0], None
    )
    assert image.shape == (3, 64, 64)
    assert mask.shape == (64, 64)
    assert mask.dtype == torch.int64
    assert (mask == IGNORE_INDEX).all()


def test_random_erasing_does_not_change_the_mask() -> None:
    torch.manual_seed(0)
    source, source_mask = torch.full((3, 64, 64), 255, dtype=torch.uint8), torch.ones(64, 64, dtype=torch.uint8)
    image, mask = make_train_transform(DataConfig(size=(64, 64)), AugmentConfig(random_erasing=1, horizontal_flip=0))(
        source, source_mask
    )
    erased = (image == 0).float().mean().item()
    assert 0.015 < erased < 0.34
    assert (mask == 1).all()


def test_color_jitter_does_not_change_the_mask() -> None:
    torch.manual_seed(0)
    source, source_mask = draw_ellipse(64, 64)
    image, mask = make_train_transform(DataConfig(size=(64, 64)), AugmentConfig(color_jitter=0.5, horizontal_flip=0))(
        source, source_mask
    )
    assert not torch.allclose(image, source / 255)
    assert torch.equal(mask, source_mask.long())


def test_a_change_of_hue_keeps_brightness_order_and_gray_pixels() -> None:
    torch.manual_seed(3)
    source = torch.zeros(3, 32, 32, dtype=torch.uint8)
    source[0, :, :16] = 200  # red beside gray
    source[:, :, 16:] = 90
    augment = AugmentConfig(hue=0.5, horizontal_flip=0)
    image, mask = make_train_transform(DataConfig(size=(32, 32)), augment)(source, source[0] // 200)
    assert torch.allclose(image[:, :, 16:], source[:, :, 16:] / 255, atol=0.01)
    assert not torch.allclose(image[:, :, :16], source[:, :, :16] / 255, atol=0.1)
    assert image[:, :, :16].amax(0).allclose(torch.tensor(200 / 255), atol=0.01)  # value of the HSV color
    assert torch.equal(mask, (source[0] // 200).long())


def test_rotations_by_90_degrees_need_a_square_input() -> None:
    with pytest.raises(ConfigError, match=r"rot90 needs square inputs, but data.size is \(64, 96\)"):
        make_train_transform(DataConfig(size=(64, 96)), AugmentConfig(rot90=0.5))


def test_outputs_are_plain_tensors() -> None:
    image, mask = make_train_transform(DataConfig(size=(64, 64)), ALL_GEOMETRIC)(*draw_ellipse(64, 64))
    assert type(image) is Tensor
    assert type(mask) is Tensor


@pytest.mark.parametrize(("height", "width"), [(100, 90), (40, 90), (40, 40)])
def test_the_upstream_evaluation_pads_at_the_right_and_bottom_and_crops_the_center(height: int, width: int) -> None:
    image, mask = draw_ellipse(height, width)
    padded = np.zeros((max(64, height), max(64, width)), dtype=np.uint8)
    padded[:height, :width] = mask
    top, left = round((padded.shape[0] - 64) / 2), round((padded.shape[1] - 64) / 2)
    transform = center_crop_transform(DataConfig(size=(64, 64), resize_mode="crop"), ZERO, ONE)
    assert np.array_equal(transform(image, mask)[1], padded[top : top + 64, left : left + 64])
