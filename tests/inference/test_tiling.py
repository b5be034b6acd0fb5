"""A mask that is enlarged in bands is the one that is enlarged at once."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mnsa.inference import tiling
from mnsa.inference.tiling import (
    MIN_TILES,
    RowBlender,
    TileAxis,
    TileSpan,
    Tiling,
    average_over_cells,
    iter_tile_rows,
    logits_forward,
    pooling_forward,
    predict_tiles,
)
from mnsa.inference.tta import View, build_views
from mnsa.model.heads import ClassHead, mask_from_logits
from mnsa.structures import NetworkOutputs


@pytest.mark.parametrize("size", [(97, 130), (400, 31), (20, 20), (64, 48), (1, 1)])
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("band_px", [1, 1_000, 2**22])
def test_bands_join_to_what_torch_resizes_at_once(monkeypatch, size, classes, band_px):
    monkeypatch.setattr(tiling, "_STRIP_PX", band_px)
    # In float64 no pixel is so near to the border between two classes that rounding decides.
    logits = torch.randn(classes, 64, 48, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = mask_from_logits(F.interpolate(logits[None], size, mode="bilinear"))[0]
    assert torch.equal(tiling.resize_to_mask(logits, size), expected)


AXIS = TileAxis(tile=128, overlap=32)

LENGTHS = [1, 20, 127, 128, 129, 160, 161, 224, 225, 500, 1_000]


@pytest.mark.parametrize(
    ("input_px", "tile", "overlap"),
    [(32, 64, 32), (100, 256, 64), (256, 512, 128), (400, 832, 192), (700, 1_024, 256), (1_500, 1_504, 352)],
)
def test_tiles_are_twice_the_training_input_until_they_are_large(input_px, tile, overlap):
    assert TileAxis.for_input(input_px) == TileAxis(tile, overlap)


@pytest.mark.parametrize("length", LENGTHS)
def test_tiles_cover_a_side_from_grid_to_grid_and_share_what_they_must(length):
    spans = AXIS.spans(length)
    assert (spans[0].start, spans[-1].stop) == (0, length)
    assert all(span.start % 32 == 0 and 0 < span.length <= 128 for span in spans)
    assert all(span.length == 128 for span in spans[:-1])
    assert len(spans) == 1 or spans[-1].length > 96
    assert all(here.stop - following.start >= 32 for here, following in pairwise(spans))


@pytest.mark.parametrize("length", LENGTHS)
def test_weights_are_positive_and_sum_to_one_everywhere(length):
    spans = AXIS.spans(length)
    total = torch.zeros(length)
    for span, weights in zip(spans, AXIS.weights(spans), strict=True):
        assert weights.min() > 0
        total[span.start : span.stop] += weights
    torch.testing.assert_close(total, torch.ones(length))


def test_between_two_tiles_the_weight_is_a_squared_cosine():
    first, second = AXIS.weights(AXIS.spans(224))
    shared = (torch.arange(32) + 0.5) / 32 * torch.pi / 2
    torch.testing.assert_close(first[96:], torch.cos(shared) ** 2)
    torch.testing.assert_close(second[:32], torch.sin(shared) ** 2)
    assert first[:96].eq(1).all()
    assert second[32:].eq(1).all()


def test_an_image_is_cut_when_it_is_larger_than_a_few_tiles():
    tiling = Tiling.for_input((256, 128))
    pixels = MIN_TILES * 512 * 256
    assert not tiling.needs_tiling((512, pixels // 512))
    assert tiling.needs_tiling((512, pixels // 512 + 1))
    assert tiling.needs_tiling((16, 20_000 * 20_000))


@pytest.mark.parametrize("size", [(300, 500), (64, 900), (20, 400), (1_000, 130)])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_each_tile_says_of_its_own_pixels_comes_back_exactly(size, channels):
    maps = torch.randint(0, 256, (channels, *size), generator=torch.Generator().manual_seed(1)).float()
    band = RowBlender(size, torch.float32, lambda rows: rows.sum(0))
    for row in iter_tile_rows(Tiling(AXIS, TileAxis(192, 64)), size):
        for rows, columns, weights in row:
            cut = maps[:, rows.start : rows.stop, columns.start : columns.stop]
            band.add(rows, columns, cut, weights)
    torch.testing.assert_close(band.close(), maps.sum(0))


def test_a_band_holds_one_row_of_tiles_and_hands_on_what_is_finished():
    handed_on = []

    def finish(rows):
        handed_on.append(rows.shape)
        return rows[0].round()

    band = RowBlender((10_000, 200), torch.uint8, finish)
    tiling = Tiling(AXIS, AXIS)
    for row in iter_tile_rows(tiling, (10_000, 200)):
        for rows, columns, weights in row:
            band.add(rows, columns, torch.ones(2, rows.length, columns.length), weights)
            assert band._sum.shape == (2, 128, 200)
    assert band.close().eq(1).all()
    assert sum(shape[1] for shape in handed_on) == 10_000
    assert max(shape[1] for shape in handed_on) <= 128


def test_nothing_added_is_nothing_found():
    assert RowBlender((5, 5), torch.uint8, lambda rows: rows[0]).close() is None


def test_cells_of_a_tile_are_those_of_the_image():
    assert TileSpan(64, 200).in_cells() == TileSpan(2, 7)


TILING = Tiling(TileAxis(128, 64), TileAxis(128, 32))

PLAIN, ALL = (View(),), build_views(["flips", "rot90"], allow_quarter_turns=True)


class Local(nn.Module):
    """A network that sees no further than a cell of 32 px: features of cells, classes of them, a mask of 3 x 3 px."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.cells = nn.Conv2d(3, 6, 32, stride=32)
        self.class_head = ClassHead(6, 4, nn.ReLU(), dropout=0.0)
        self.pixels = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, images):
        height, width = images.shape[-2:]
        images = F.pad(images, (0, -width % 32, 0, -height % 32))
        features = self.cells(images)
        mask_logits = self.pixels(images)[..., :height, :width]
        return NetworkOutputs(self.class_head(features), mask_logits, features[:, :1].sigmoid())


@pytest.fixture(scope="module")
def local():
    return Local().double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def picture():
    """A random image uint8 (3, H, W)."""
    generator = torch.Generator().manual_seed(1)
    return lambda *size: torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)


def inputs_of(pixels):
    return pixels[None].double() / 64 - 2


def read(look, image, views=PLAIN):
    return predict_tiles(look, inputs_of, image, TILING, views)


@pytest.mark.parametrize("size", [(320, 416), (330, 401), (40, 500), (1_000, 33)])
def test_a_network_that_sees_little_says_the_same_of_tiles_and_of_the_whole(local, picture, size):
    image = picture(*size)
    whole = local(inputs_of(image))
    found = read(pooling_forward(local), image)
    torch.testing.assert_close(local.class_head.classifier(found.class_vectors), whole.class_logits, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.attention, whole.attention[0, 0].float(), atol=1e-5, rtol=0)
    # The one pixel at a tile's border that sees beyond it hardly counts there.
    assert (found.mask != whole.mask_logits[0].argmax(0)).double().mean() < 1e-3


def test_a_pixelwise_network_gives_back_its_mask_exactly(picture):
    image = picture(333, 400)
    found = read(logits_forward(lambda images: NetworkOutputs(None, images[:, :2], None)), image, ALL)
    assert torch.equal(found.mask, inputs_of(image)[0, :2].argmax(0).to(torch.uint8))
    assert found.class_vectors is found.attention is None


@pytest.mark.parametrize("views", [PLAIN, ALL], ids=["plain", "all views"])
def test_a_network_of_one_opinion_keeps_it(picture, views):
    def engine(images):
        height, width = images.shape[-2:]
        mask_logits = torch.tensor([0.1, 0.3, 0.2])[None, :, None, None].expand(1, 3, height, width)
        return NetworkOutputs(torch.tensor([[1.0, 2.0]]), mask_logits, None)

    found = read(logits_forward(engine), picture(300, 400), views)
    assert found.mask.eq(1).all()
    torch.testing.assert_close(found.class_vectors, torch.tensor([[1.0, 2.0]]).expand(len(views), 2))


def test_every_part_of_the_image_counts_once_in_the_class(local, picture):
    """A bright cell weighs the same wherever it is: in one tile, in two, or in four."""
    counted = []
    for row, column in [(0, 0), (2, 0), (0, 3), (2, 3), (9, 12)]:
        image = torch.full((3, 320, 416), 128, dtype=torch.uint8)
        image[:, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32] = 255
        counted.append(read(pooling_forward(local), image).class_vectors)
    torch.testing.assert_close(torch.cat(counted), counted[0].expand(5, -1), atol=1e-6, rtol=0)
    grey = read(pooling_forward(local), torch.full((3, 320, 416), 128, dtype=torch.uint8)).class_vectors
    assert (counted[0] - grey).abs().max() > 1e-4


def test_each_view_is_evidence_of_its_own(local, picture):
    image = picture(320, 416)
    found = read(pooling_forward(local), image, ALL)
    for view, class_vectors in zip(ALL, found.class_vectors, strict=True):
        whole = local(view.apply(inputs_of(image))).class_logits[0]
        torch.testing.assert_close(local.class_head.classifier(class_vectors), whole, atol=1e-6, rtol=0)


def test_an_exported_networks_tiles_count_by_the_area_that_is_theirs(picture):
    """Three tiles of 128 rows share 64 with each neighbour: the first has 64 alone, and half of those it shares."""
    said = iter([torch.tensor([[1.0]]), torch.tensor([[0.0]]), torch.tensor([[0.0]])])
    found = read(logits_forward(lambda _: NetworkOutputs(next(said), None, None)), picture(256, 128))
    torch.testing.assert_close(found.class_vectors, torch.tensor([[(64 + 32) / 256]]))


def test_weights_of_cells_are_the_means_over_their_pixels():
    weights = torch.arange(64.0).repeat(32, 1)[None, None]
    assert average_over_cells(weights, (1, 2)).flatten().tolist() == [15.5, 47.5]
    assert average_over_cells(weights[..., :40], (1, 2)).flatten().tolist() == [
        15.5,
        pytest.approx((8 * 35.5 + 24 * 39) / 32),
    ]
