"""Tiles lie on the grid, cover the image, and count for one together, everywhere."""

from itertools import pairwise

import pytest
import torch

from mnsa.inference.tiles import UNTILED_TILES, Axis, Band, Span, Tiling, tile_rows

AXIS = Axis(tile=128, overlap=32)
LENGTHS = [1, 20, 127, 128, 129, 160, 161, 224, 225, 500, 1_000]


@pytest.mark.parametrize(
    ("input_px", "tile", "overlap"),
    [(32, 64, 32), (100, 256, 64), (256, 512, 128), (400, 832, 192), (700, 1_024, 256), (1_500, 1_504, 352)],
)
def test_tiles_are_twice_the_training_input_until_they_are_large(input_px, tile, overlap):
    assert Axis.of(input_px) == Axis(tile, overlap)


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
    tiling = Tiling.of((256, 128))
    pixels = UNTILED_TILES * 512 * 256
    assert not tiling.cuts((512, pixels // 512))
    assert tiling.cuts((512, pixels // 512 + 1))
    assert tiling.cuts((16, 20_000 * 20_000))


@pytest.mark.parametrize("size", [(300, 500), (64, 900), (20, 400), (1_000, 130)])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_each_tile_says_of_its_own_pixels_comes_back_exactly(size, channels):
    maps = torch.randint(0, 256, (channels, *size), generator=torch.Generator().manual_seed(1)).float()
    band = Band(size, torch.float32, lambda rows: rows.sum(0))
    for row in tile_rows(Tiling(AXIS, Axis(192, 64)), size):
        for rows, columns, weights in row:
            cut = maps[:, rows.start : rows.stop, columns.start : columns.stop]
            band.add(rows, columns, cut, weights)
    torch.testing.assert_close(band.close(), maps.sum(0))


def test_a_band_holds_one_row_of_tiles_and_hands_on_what_is_finished():
    handed_on = []

    def finish(rows):
        handed_on.append(rows.shape)
        return rows[0].round()

    band = Band((10_000, 200), torch.uint8, finish)
    tiling = Tiling(AXIS, AXIS)
    for row in tile_rows(tiling, (10_000, 200)):
        for rows, columns, weights in row:
            band.add(rows, columns, torch.ones(2, rows.length, columns.length), weights)
            assert band._sum.shape == (2, 128, 200)
    assert band.close().eq(1).all()
    assert sum(shape[1] for shape in handed_on) == 10_000
    assert max(shape[1] for shape in handed_on) <= 128


def test_nothing_added_is_nothing_found():
    assert Band((5, 5), torch.uint8, lambda rows: rows[0]).close() is None


def test_cells_of_a_tile_are_those_of_the_image():
    assert Span(64, 200).in_cells() == Span(2, 7)
