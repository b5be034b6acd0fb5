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

ZERO, ONE = (0.0,) * 3, (1.0,) * 3
STILL = AugmentConfig(horizontal_flip=0)
EVERYTHING = AugmentConfig(
    horizontal_flip=0.5, vertical_flip=0.5, rot90=0.5, rotation_deg=180, zoom=0.3, color_jitter=0.2
)


def blob(height: int, width: int) -> tuple[Tensor, Tensor]:
    """A white ellipse off the center on dark ground, and its mask."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    mask = ((y / height - 0.4) ** 2 / 0.06 + (x / width - 0.6) ** 2 / 0.03) < 1
    return (mask * 200 + 20).to(torch.uint8).expand(3, -1, -1).contiguous(), mask.to(torch.uint8)


def training(data: DataConfig, augment: AugmentConfig) -> Transform:
    return train_transform(data, augment, ZERO, ONE)


@given(st.integers(0, 2**32), st.integers(50, 120), st.integers(50, 120), st.sampled_from(["resize", "crop"]))
def test_image_and_mask_move_together(seed: int, height: int, width: int, resize_mode: str) -> None:
    torch.manual_seed(seed)
    image, mask = training(DataConfig(size=(64, 64), resize_mode=resize_mode), EVERYTHING)(*blob(height, width))
    assert image.shape == (3, 64, 64)
    assert mask.shape == (64, 64)
    bright = image.mean(0) > 0.45
    known = mask != IGNORE_INDEX
    wrong = (bright != (mask == 1))[known].sum()
    edge = torch.nn.functional.max_pool2d(bright[None].float(), 3, 1, 1) - bright[None].float()
    assert wrong <= edge.sum() + 2  # they may differ where the border of the blob runs, by one pixel


@given(st.integers(0, 2**32))
def test_flips_and_quarter_turns_lose_no_pixel(seed: int) -> None:
    torch.manual_seed(seed)
    source, truth = blob(64, 64)
    augment = AugmentConfig(horizontal_flip=0.5, vertical_flip=0.5, rot90=0.5)
    image, mask = training(DataConfig(size=(64, 64)), augment)(source, truth)
    turns = [torch.rot90(t, k) for t in (truth, truth.flip(-1)) for k in range(4)]
    assert any(torch.equal(mask, turn.long()) for turn in turns)
    assert torch.equal(image[0] > 0.5, mask == 1)


def test_what_a_rotation_brings_in_is_black_and_unknown() -> None:
    torch.manual_seed(1)
    white, full = torch.full((3, 64, 64), 255, dtype=torch.uint8), torch.ones(64, 64, dtype=torch.uint8)
    image, mask = training(DataConfig(size=(64, 64)), AugmentConfig(rotation_deg=45, horizontal_flip=0))(white, full)
    assert set(mask.unique().tolist()) == {1, IGNORE_INDEX}
    assert (image[:, mask == IGNORE_INDEX] < 1).all()
    assert image[:, 32, 32].tolist() == [1, 1, 1]


def test_a_small_image_is_zero_padded_on_the_right_and_below() -> None:
    image, mask = training(DataConfig(size=(64, 96), resize_mode="crop"), STILL)(
        torch.full((3, 40, 50), 255, dtype=torch.uint8), torch.ones(40, 50, dtype=torch.uint8)
    )
    assert image[:, :40, :50].min() == 1
    assert mask[:40, :50].min() == 1
    assert image.sum() == 3 * 40 * 50
    assert mask.sum() == 40 * 50


def test_a_large_image_is_cropped_at_its_own_scale() -> None:
    source = torch.arange(80 * 100).reshape(1, 80, 100).expand(3, -1, -1).remainder(256).to(torch.uint8)
    image, mask = training(DataConfig(size=(64, 64), resize_mode="crop"), STILL)(source, source[0])
    windows = source[0].unfold(0, 64, 1).unfold(1, 64, 1).reshape(-1, 64, 64)
    assert (windows == mask).all(dim=(1, 2)).any()
    assert torch.equal((image[0] * 255).round().long(), mask)


def test_stretching_keeps_the_mask_under_its_image() -> None:
    """The center of mass, in shares of the side, may not move: v2.Resize's own nearest would shift it."""
    _, truth = blob(200, 200)
    _, mask = eval_transform(DataConfig(size=(50, 50)), ZERO, ONE)(blob(200, 200)[0], truth)
    centre_before, centre_after = ((m.nonzero() + 0.5).double().mean(0) / len(m) for m in (truth, mask))
    assert torch.allclose(centre_before, centre_after, atol=0.2 / 50)


def test_stretching_is_an_antialiased_bilinear_resize() -> None:
    rng = np.random.default_rng(0)
    smooth = resize(rng.random((8, 8, 3)), (96, 128), order=3, mode="edge", clip=True)
    source = torch.from_numpy((smooth * 255).astype(np.uint8)).permute(2, 0, 1).contiguous()
    image, _ = eval_transform(DataConfig(size=(48, 64)), ZERO, ONE)(source)
    expected = resize(smooth, (48, 64), order=1, mode="edge", anti_aliasing=True)
    assert np.abs(image.permute(1, 2, 0).numpy() - expected).mean() < 0.01


def test_evaluation_is_the_same_every_time_and_normalised() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    transform = eval_transform(DataConfig(size=(64, 64)), mean, std)
    source, truth = blob(64, 64)
    image, mask = transform(source, truth)
    assert torch.equal(image, transform(source, truth)[0])
    assert torch.equal(mask, truth.long())
    expected = (source / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(image, expected)


def test_evaluation_with_crop_sees_the_whole_image_at_its_own_size() -> None:
    image, mask = eval_transform(DataConfig(size=(64, 64), resize_mode="crop"), ZERO, ONE)(*blob(45, 101))
    assert image.shape == (3, 45, 101)
    assert torch.equal(mask, blob(45, 101)[1].long())


@pytest.mark.parametrize("resize_mode", ["resize", "crop"])
def test_an_image_without_a_mask_gets_one_that_counts_nowhere(resize_mode: str) -> None:
    image, mask = training(DataConfig(size=(64, 64), resize_mode=resize_mode), EVERYTHING)(blob(50, 70)[0], None)
    assert image.shape == (3, 64, 64)
    assert mask.shape == (64, 64)
    assert mask.dtype == torch.int64
    assert (mask == IGNORE_INDEX).all()


def test_erasing_leaves_the_mask_its_truth() -> None:
    torch.manual_seed(0)
    source, truth = torch.full((3, 64, 64), 255, dtype=torch.uint8), torch.ones(64, 64, dtype=torch.uint8)
    image, mask = training(DataConfig(size=(64, 64)), AugmentConfig(random_erasing=1, horizontal_flip=0))(source, truth)
    erased = (image == 0).float().mean().item()
    assert 0.015 < erased < 0.34
    assert (mask == 1).all()


def test_colour_jitter_touches_no_mask() -> None:
    torch.manual_seed(0)
    source, truth = blob(64, 64)
    image, mask = training(DataConfig(size=(64, 64)), AugmentConfig(color_jitter=0.5, horizontal_flip=0))(source, truth)
    assert not torch.allclose(image, source / 255)
    assert torch.equal(mask, truth.long())


def test_quarter_turns_need_a_square_input() -> None:
    with pytest.raises(ConfigError, match=r"rot90 needs square inputs, but data.size is \(64, 96\)"):
        training(DataConfig(size=(64, 96)), AugmentConfig(rot90=0.5))


def test_outputs_are_plain_tensors() -> None:
    image, mask = training(DataConfig(size=(64, 64)), EVERYTHING)(*blob(64, 64))
    assert type(image) is Tensor
    assert type(mask) is Tensor


@pytest.mark.parametrize(("height", "width"), [(100, 90), (40, 90), (40, 40)])
def test_the_released_evaluation_pads_right_and_bottom_and_crops_the_centre(height: int, width: int) -> None:
    image, mask = blob(height, width)
    padded = np.zeros((max(64, height), max(64, width)), dtype=np.uint8)
    padded[:height, :width] = mask
    top, left = round((padded.shape[0] - 64) / 2), round((padded.shape[1] - 64) / 2)
    transform = center_crop_transform(DataConfig(size=(64, 64), resize_mode="crop"), ZERO, ONE)
    assert np.array_equal(transform(image, mask)[1], padded[top : top + 64, left : left + 64])
