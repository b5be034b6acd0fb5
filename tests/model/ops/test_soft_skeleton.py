"""The soft skeleton equals grey morphology of SciPy, and its gradients those of max_pool2d and finite differences."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from mnsa.model.ops.soft_skeleton import soft_skeleton, soft_skeleton_reference
from narrowing import some

CROSS = ndimage.generate_binary_structure(2, 1)


def probs(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(4), dtype=dtype).requires_grad_()


def skeleton_by_scipy(image: np.ndarray, iterations: int) -> np.ndarray:
    """Algorithm 1 of the paper; edges are repeated, so what is outside changes no minimum and no maximum."""
    rest = np.ones_like(image)
    for _ in range(iterations + 1):
        eroded = ndimage.grey_erosion(image, footprint=CROSS, mode="nearest")
        opened = ndimage.grey_dilation(eroded, size=(3, 3), mode="nearest")
        rest *= 1 - np.maximum(image - opened, 0)
        image = eroded
    return 1 - rest


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("shape", [(2, 3, 17, 23), (1, 1, 2, 9)])
def test_the_soft_skeleton_equals_grey_morphology(iterations: int, shape: tuple[int, ...]) -> None:
    x = probs(*shape)
    expected = np.stack([skeleton_by_scipy(image, iterations) for image in x.detach().numpy().reshape(-1, *shape[2:])])
    ours = soft_skeleton(x, iterations)
    np.testing.assert_allclose(ours.detach().numpy().reshape(expected.shape), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours, soft_skeleton_reference(x, iterations))


def test_its_gradients_equal_those_of_the_reference() -> None:
    x = probs(2, 2, 17, 23)
    weights = probs(2, 2, 17, 23).detach().flip(-1)
    ours, expected = (
        torch.autograd.grad((skeleton(x, 3) * weights).sum(), x)[0]
        for skeleton in (soft_skeleton, soft_skeleton_reference)
    )
    torch.testing.assert_close(ours, expected)


def test_its_gradients_equal_finite_differences() -> None:
    assert torch.autograd.gradcheck(lambda x: soft_skeleton(x, 2), (probs(1, 1, 5, 6),))


def test_ties_give_every_gradient_once() -> None:
    # of equal pixels one gets the gradient: a plane's ridges are 0, and a spot's opening reads one of its neighbors
    x = torch.zeros(1, 1, 7, 7, dtype=torch.float64)
    x[..., 3, 3] = 0.5
    x.requires_grad_()
    soft_skeleton(x, 2)[..., 3, 3].sum().backward()
    assert some(x.grad)[..., 3, 3].item() == 1
    assert some(x.grad).sum().item() == 0


def test_a_thick_line_has_the_skeleton_in_its_middle() -> None:
    x = torch.zeros(1, 1, 15, 40)
    x[..., 5:10, :] = 1  # 5 px wide, from edge to edge
    skeleton = soft_skeleton(x, 2)[0, 0]
    assert torch.equal(skeleton.nonzero()[:, 0].unique(), torch.tensor([7]))
    assert skeleton[7].sum() == 40


def test_a_channels_last_map_gives_the_same() -> None:
    x = probs(2, 3, 8, 9)
    y = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    for skeleton in (soft_skeleton(x, 2), soft_skeleton(y, 2)):
        skeleton.square().sum().backward()
    assert torch.equal(some(x.grad), some(y.grad))
