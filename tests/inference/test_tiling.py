"""Tiles together say what the whole image would."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mnsa.inference.tiled import look_into, look_through, read_tiles, to_cells
from mnsa.inference.tiles import Axis, Tiling
from mnsa.inference.views import View, views_of
from mnsa.model.heads import ClassHead
from mnsa.records import Outputs

TILING = Tiling(Axis(128, 64), Axis(128, 32))
PLAIN, ALL = (View(),), views_of(["flips", "turns"], quarter_turns=True)


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
        return Outputs(self.class_head(features), mask_logits, features[:, :1].sigmoid())


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
    return read_tiles(look, inputs_of, image, TILING, views)


@pytest.mark.parametrize("size", [(320, 416), (330, 401), (40, 500), (1_000, 33)])
def test_a_network_that_sees_little_says_the_same_of_tiles_and_of_the_whole(local, picture, size):
    image = picture(*size)
    whole = local(inputs_of(image))
    found = read(look_into(local), image)
    torch.testing.assert_close(local.class_head.classifier(found.evidence), whole.class_logits, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.attention, whole.attention[0, 0].float(), atol=1e-5, rtol=0)
    # The one pixel at a tile's border that sees beyond it hardly counts there.
    assert (found.mask != whole.mask_logits[0].argmax(0)).double().mean() < 1e-3


def test_a_pixelwise_network_gives_back_its_mask_exactly(picture):
    image = picture(333, 400)
    found = read(look_through(lambda images: Outputs(None, images[:, :2], None)), image, ALL)
    assert torch.equal(found.mask, inputs_of(image)[0, :2].argmax(0).to(torch.uint8))
    assert found.evidence is found.attention is None


@pytest.mark.parametrize("views", [PLAIN, ALL], ids=["plain", "all views"])
def test_a_network_of_one_opinion_keeps_it(picture, views):
    def engine(images):
        height, width = images.shape[-2:]
        mask_logits = torch.tensor([0.1, 0.3, 0.2])[None, :, None, None].expand(1, 3, height, width)
        return Outputs(torch.tensor([[1.0, 2.0]]), mask_logits, None)

    found = read(look_through(engine), picture(300, 400), views)
    assert found.mask.eq(1).all()
    torch.testing.assert_close(found.evidence, torch.tensor([[1.0, 2.0]]).expand(len(views), 2))


def test_every_part_of_the_image_counts_once_in_the_class(local, picture):
    """A bright cell weighs the same wherever it is: in one tile, in two, or in four."""
    counted = []
    for row, column in [(0, 0), (2, 0), (0, 3), (2, 3), (9, 12)]:
        image = torch.full((3, 320, 416), 128, dtype=torch.uint8)
        image[:, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32] = 255
        counted.append(read(look_into(local), image).evidence)
    torch.testing.assert_close(torch.cat(counted), counted[0].expand(5, -1), atol=1e-6, rtol=0)
    grey = read(look_into(local), torch.full((3, 320, 416), 128, dtype=torch.uint8)).evidence
    assert (counted[0] - grey).abs().max() > 1e-4


def test_each_view_is_evidence_of_its_own(local, picture):
    image = picture(320, 416)
    found = read(look_into(local), image, ALL)
    for view, evidence in zip(ALL, found.evidence, strict=True):
        whole = local(view.show(inputs_of(image))).class_logits[0]
        torch.testing.assert_close(local.class_head.classifier(evidence), whole, atol=1e-6, rtol=0)


def test_an_exported_networks_tiles_count_by_the_area_that_is_theirs(picture):
    """Three tiles of 128 rows share 64 with each neighbour: the first has 64 alone, and half of those it shares."""
    said = iter([torch.tensor([[1.0]]), torch.tensor([[0.0]]), torch.tensor([[0.0]])])
    found = read(look_through(lambda _: Outputs(next(said), None, None)), picture(256, 128))
    torch.testing.assert_close(found.evidence, torch.tensor([[(64 + 32) / 256]]))


def test_weights_of_cells_are_the_means_over_their_pixels():
    weights = torch.arange(64.0).repeat(32, 1)[None, None]
    assert to_cells(weights, (1, 2)).flatten().tolist() == [15.5, 47.5]
    assert to_cells(weights[..., :40], (1, 2)).flatten().tolist() == [15.5, pytest.approx((8 * 35.5 + 24 * 39) / 32)]
