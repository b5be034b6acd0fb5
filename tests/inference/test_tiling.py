"""Tiles cover the image, are blended without seams, and count every part of the image once."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnsa.inference.tiling import (
    MIN_TILES,
    RowBlender,
    TileAxis,
    TileForward,
    TileSpan,
    Tiling,
    average_over_cells,
    iter_tile_rows,
    logits_forward,
    pooling_forward,
    predict_tiles,
)
from mnsa.inference.tta import View, build_views
from mnsa.model.heads import ClassHead
from mnsa.structures import NetworkOutputs

AXIS = TileAxis(tile=128, overlap=32)

LENGTHS = [1, 20, 127, 128, 129, 160, 161, 224, 225, 500, 1_000]


@pytest.mark.parametrize(
    ("input_px", "tile", "overlap"),
    [(32, 64, 32), (100, 256, 64), (256, 512, 128), (400, 832, 192), (700, 1_024, 256), (1_500, 1_504, 352)],
)
def test_tiles_are_twice_the_training_input_until_they_are_large(input_px: int, tile: int, overlap: int) -> None:
    assert TileAxis.for_input(input_px) == TileAxis(tile, overlap)


@pytest.mark.parametrize("length", LENGTHS)
def test_tiles_start_on_the_grid_cover_the_side_and_overlap(length: int) -> None:
    spans = AXIS.spans(length)
    assert (spans[0].start, spans[-1].stop) == (0, length)
    assert all(span.start % 32 == 0 and 0 < span.length <= 128 for span in spans)
    assert all(span.length == 128 for span in spans[:-1])
    assert len(spans) == 1 or spans[-1].length > 96
    assert all(here.stop - following.start >= 32 for here, following in pairwise(spans))


@pytest.mark.parametrize("length", LENGTHS)
def test_weights_are_positive_and_sum_to_one_everywhere(length: int) -> None:
    spans = AXIS.spans(length)
    total = torch.zeros(length)
    for span, weights in zip(spans, AXIS.weights(spans), strict=True):
        assert weights.min() > 0
        total[span.start : span.stop] += weights
    torch.testing.assert_close(total, torch.ones(length))


def test_between_two_tiles_the_weight_is_a_squared_cosine() -> None:
    first, second = AXIS.weights(AXIS.spans(224))
    shared = (torch.arange(32) + 0.5) / 32 * torch.pi / 2
    torch.testing.assert_close(first[96:], torch.cos(shared) ** 2)
    torch.testing.assert_close(second[:32], torch.sin(shared) ** 2)
    assert first[:96].eq(1).all()
    assert second[32:].eq(1).all()


def test_an_image_is_cut_when_it_is_larger_than_a_few_tiles() -> None:
    tiling = Tiling.for_input((256, 128))
    pixels = MIN_TILES * 512 * 256
    assert not tiling.needs_tiling((512, pixels // 512))
    assert tiling.needs_tiling((512, pixels // 512 + 1))
    assert tiling.needs_tiling((16, 20_000 * 20_000))


@pytest.mark.parametrize("size", [(300, 500), (64, 900), (20, 400), (1_000, 130)])
@pytest.mark.parametrize("channels", [1, 3])
def test_blending_tiles_of_a_map_gives_the_map_back(size: tuple[int, int], channels: int) -> None:
    maps = torch.randint(0, 256, (channels, *size), generator=torch.Generator().manual_seed(1)).float()
    blender = RowBlender(size, torch.float32, lambda rows: torch.stack([rows.sum(0), rows[0]]))
    for row in iter_tile_rows(Tiling(AXIS, TileAxis(192, 64)), size):
        for rows, columns, weights in row:
            cut = maps[:, rows.start : rows.stop, columns.start : columns.stop]
            blender.add(rows, columns, cut, weights)
    torch.testing.assert_close(blender.close(), torch.stack([maps.sum(0), maps[0]]))


def test_the_blender_holds_one_row_of_tiles_and_finishes_the_rows_above() -> None:
    finished = list[torch.Size]()

    def finish(rows: Tensor) -> Tensor:
        finished.append(rows.shape)
        return rows[:1].round()

    blender = RowBlender((10_000, 200), torch.uint8, finish)
    tiling = Tiling(AXIS, AXIS)
    for row in iter_tile_rows(tiling, (10_000, 200)):
        for rows, columns, weights in row:
            blender.add(rows, columns, torch.ones(2, rows.length, columns.length), weights)
            assert blender._sum is not None
            assert blender._sum.shape == (2, 128, 200)
    result = blender.close()
    assert result is not None
    assert result.eq(1).all()
    assert sum(shape[1] for shape in finished) == 10_000
    assert max(shape[1] for shape in finished) <= 128


def test_a_blender_without_tiles_has_no_result() -> None:
    assert RowBlender((5, 5), torch.uint8, lambda rows: rows).close() is None


def test_a_span_in_cells_starts_at_the_images_own_cell() -> None:
    assert TileSpan(64, 200).in_cells() == TileSpan(2, 7)


TILING = Tiling(TileAxis(128, 64), TileAxis(128, 32))

PLAIN, ALL = (View(),), build_views(["flips", "rot90"], allow_quarter_turns=True)


class Local(nn.Module):
    """A network that sees no further than a cell of 32 px: features of cells, classes of them, a mask of 3 x 3 px."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.cells = nn.Conv2d(3, 6, 32, stride=32)
        self.class_head = ClassHead(6, 4, nn.ReLU(), dropout=0.0)
        self.pixels = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, images: Tensor) -> NetworkOutputs:
        height, width = images.shape[-2:]
        images = F.pad(images, (0, -width % 32, 0, -height % 32))
        features = self.cells(images)
        mask_logits = self.pixels(images)[..., :height, :width]
        return NetworkOutputs(self.class_head(features), mask_logits, features[:, :1].sigmoid())


@pytest.fixture(scope="module")
def local() -> Any:
    return Local().double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def random_image() -> Callable[..., Tensor]:
    """Makes a random image uint8 (3, H, W)."""
    generator = torch.Generator().manual_seed(1)
    return lambda *size: torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)


def make_inputs(pixels: Tensor) -> Tensor:
    return pixels[None].double() / 64 - 2


def predict(forward_tile: TileForward, image: Tensor, views: Sequence[View] = PLAIN) -> Any:
    return predict_tiles(forward_tile, make_inputs, image, TILING, views, lambda probs: probs.argmax(0)[None])


@pytest.mark.parametrize("size", [(320, 416), (330, 401), (40, 500), (1_000, 33)])
def test_a_network_with_a_small_receptive_field_predicts_tiles_as_it_predicts_the_whole(
    local: Any, random_image: Callable[..., Tensor], size: tuple[int, int]
) -> None:
    image = random_image(*size)
    whole = local(make_inputs(image))
    found = predict(pooling_forward(local), image)
    torch.testing.assert_close(local.class_head.classifier(found.class_outputs), whole.class_logits, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.attention, whole.attention[0, 0].float(), atol=1e-5, rtol=0)
    # The one pixel at a tile's border that sees beyond it hardly counts there.
    assert (found.mask_maps[0] != whole.mask_logits[0].argmax(0)).double().mean() < 1e-3


def test_a_pixelwise_network_predicts_the_same_mask_in_tiles(random_image: Callable[..., Tensor]) -> None:
    image = random_image(333, 400)
    found = predict(logits_forward(lambda images: NetworkOutputs(None, images[:, :2], None)), image, ALL)
    assert torch.equal(found.mask_maps[0], make_inputs(image)[0, :2].argmax(0).to(torch.uint8))
    assert found.class_outputs is found.attention is None


@pytest.mark.parametrize("views", [PLAIN, ALL], ids=["plain", "all views"])
def test_a_constant_network_predicts_its_constant(random_image: Callable[..., Tensor], views: Sequence[View]) -> None:
    def engine(images: Tensor) -> NetworkOutputs:
        height, width = images.shape[-2:]
        mask_logits = torch.tensor([0.1, 0.3, 0.2])[None, :, None, None].expand(1, 3, height, width)
        return NetworkOutputs(torch.tensor([[1.0, 2.0]]), mask_logits, None)

    found = predict(logits_forward(engine), random_image(300, 400), views)
    assert found.mask_maps.eq(1).all()
    torch.testing.assert_close(found.class_outputs, torch.tensor([[1.0, 2.0]]).expand(len(views), 2))


def test_every_part_of_the_image_counts_once_in_the_class(local: Any) -> None:
    """A bright cell has the same weight wherever it is: in one tile, in two, or in four."""
    counted = []
    for row, column in [(0, 0), (2, 0), (0, 3), (2, 3), (9, 12)]:
        image = torch.full((3, 320, 416), 128, dtype=torch.uint8)
        image[:, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32] = 255
        counted.append(predict(pooling_forward(local), image).class_outputs)
    torch.testing.assert_close(torch.cat(counted), counted[0].expand(5, -1), atol=1e-6, rtol=0)
    gray = predict(pooling_forward(local), torch.full((3, 320, 416), 128, dtype=torch.uint8)).class_outputs
    assert (counted[0] - gray).abs().max() > 1e-4


def test_every_view_has_its_own_class_output(local: Any, random_image: Callable[..., Tensor]) -> None:
    image = random_image(320, 416)
    found = predict(pooling_forward(local), image, ALL)
    for view, class_outputs in zip(ALL, found.class_outputs, strict=True):
        whole = local(view.apply(make_inputs(image))).class_logits[0]
        torch.testing.assert_close(local.class_head.classifier(class_outputs), whole, atol=1e-6, rtol=0)


def test_tiles_of_an_exported_network_are_weighted_by_their_area(random_image: Callable[..., Tensor]) -> None:
    """Three tiles of 128 rows share 64 with each neighbor: the first has 64 alone and half of the shared ones."""
    logits = iter([torch.tensor([[1.0]]), torch.tensor([[0.0]]), torch.tensor([[0.0]])])
    found = predict(logits_forward(lambda _: NetworkOutputs(next(logits), None, None)), random_image(256, 128))
    torch.testing.assert_close(found.class_outputs, torch.tensor([[(64 + 32) / 256]]))


def test_the_weight_of_a_cell_is_the_mean_over_its_pixels() -> None:
    weights = torch.arange(64.0).repeat(32, 1)[None, None]
    assert average_over_cells(weights, (1, 2)).flatten().tolist() == [15.5, 47.5]
    assert average_over_cells(weights[..., :40], (1, 2)).flatten().tolist() == [
        15.5,
        pytest.approx((8 * 35.5 + 24 * 39) / 32),
    ]
