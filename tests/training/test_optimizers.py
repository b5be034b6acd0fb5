"""The optimizers equal torch's own and copy no weights; freed memory stays in the process."""

import platform
import subprocess
import sys
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from mnsa.training.optimizers import ChannelsLastAdamW, ChannelsLastSGD
from narrowing import instance_of, some

FAULTS = """
import resource, torch
from mnsa.training.optimizers import disable_malloc_trim

def faults() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.zeros(10_000_000)  # 40 MB, more than malloc's own limit for a mapping of its own
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
usual = faults()
print(disable_malloc_trim(), usual, (faults(), faults())[1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_allocating_again_causes_no_page_faults() -> None:
    printed = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True).stdout.split()
    assert printed[0] == "True"
    assert int(printed[2]) < int(printed[1]) / 10


PAIRS = [
    pytest.param(torch.optim.SGD, partial(ChannelsLastSGD, momentum=0.9, fused=True), {"momentum": 0.9}, id="sgd"),
    pytest.param(torch.optim.AdamW, partial(ChannelsLastAdamW, fused=True), {}, id="adamw"),
]

OPTIONS = {"lr": 0.001, "weight_decay": 0.01}


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    kernels = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 1), nn.Conv2d(5, 5, 3, groups=5)
    return nn.Sequential(*kernels, nn.Flatten(), nn.Linear(5 * 2 * 2, 2))


def channels_last() -> nn.Sequential:
    return layers().to(memory_format=torch.channels_last)


def first_kernel(network: nn.Sequential) -> torch.Tensor:
    return instance_of(nn.Conv2d, network[0]).weight


def fit(network: nn.Sequential, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    """Train as Lightning does: the gradients are computed inside `step`."""
    images = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1)).to(first_kernel(network).dtype)

    def closure() -> Any:  # a tensor, where torch declares a number
        optimizer.zero_grad()
        loss = network(images).square().sum()
        loss.backward()
        return loss

    for _ in range(steps):
        assert optimizer.step(closure) > 0


@pytest.mark.parametrize(("theirs", "ours", "more"), PAIRS)
def test_steps_equal_those_of_torch_in_contiguous_memory(theirs: Any, ours: Any, more: Any) -> None:
    expected, found = layers().double(), channels_last().double()
    fit(expected, theirs(expected.parameters(), **OPTIONS, **more))
    fit(found, ours(found.parameters(), **OPTIONS))
    for weight, other in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(weight, other)


@pytest.mark.parametrize(("theirs", "ours", "more"), PAIRS)
def test_weights_gradients_and_moments_keep_shape_and_memory_format(theirs: Any, ours: Any, more: Any) -> None:
    network = channels_last()
    optimizer = ours(network.parameters(), **OPTIONS)
    fit(network, optimizer)
    kernel = network[0].weight
    moments = [value for value in optimizer.state[kernel].values() if value.dim()]
    assert len(moments) >= 1
    for tensor in (kernel, kernel.grad, *moments):
        assert tensor.shape == (4, 3, 3, 3)
        assert tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("theirs", "ours", "more"), PAIRS)
def test_a_step_copies_no_weight(theirs: Any, ours: Any, more: Any) -> None:
    network = channels_last()
    optimizer = ours(network.parameters(), **OPTIONS)
    fit(network, optimizer)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as recorded:
        optimizer.step()
    copied = [event.input_shapes[0] for event in recorded.events() if event.name == "aten::copy_"]
    assert not [shape for shape in copied if shape]  # AdamW copies scalars, its step counts


@pytest.mark.parametrize(("theirs", "ours", "more"), PAIRS)
def test_the_optimizer_state_can_be_saved_and_loaded(theirs: Any, ours: Any, more: Any) -> None:
    network, again = channels_last(), channels_last()
    optimizer, resumed = ours(network.parameters(), **OPTIONS), ours(again.parameters(), **OPTIONS)
    fit(network, optimizer, steps=2)
    again.load_state_dict(network.state_dict())
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))
    fit(network, optimizer, steps=1)
    fit(again, resumed, steps=1)
    assert all(torch.equal(*pair) for pair in zip(network.parameters(), again.parameters(), strict=True))


def test_weights_have_their_shape_after_a_failed_step() -> None:
    network = channels_last()
    optimizer = ChannelsLastSGD(network.parameters(), lr=0.001, fused=True)
    network(torch.zeros(1, 3, 6, 6)).sum().backward()
    kernel = first_kernel(network)
    kernel.grad = some(kernel.grad).to_sparse()
    with pytest.raises(RuntimeError):
        optimizer.step()
    assert kernel.shape == (4, 3, 3, 3)
