"""The operator for GPUs, in Triton's interpreter, against torchvision's and float64: values, gradients, compilers."""

import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from mnsa.model.enhancer import AdaptiveFeatureEnhancer
from mnsa.model.ops import deform_conv, tap_sampling
from mnsa.model.ops.deform_conv import DeformConv2d
from mnsa.model.ops.tap_sampling import deform_conv2d_triton, runs_triton, sample_taps

pytest.importorskip("triton", reason="Triton is not installed: PyTorch for CPUs comes without it")

Inputs = tuple[Tensor, Tensor, Tensor]  # features (B, C, H, W), offsets (B, 2T, H, W), weight (O, C, k, k)


@pytest.fixture(params=[False, True], ids=["atomics", "deterministic"])
def deterministic(request: pytest.FixtureRequest) -> Iterator[bool]:
    torch.use_deterministic_algorithms(request.param)
    yield request.param
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny maps make several blocks of pixels and of channels, the last ones not full."""
    monkeypatch.setattr(tap_sampling, "MAX_CHANNELS", 4)
    monkeypatch.setattr(tap_sampling, "BLOCK_ELEMENTS", 32)


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deformable convolutions choose the operator, though their tensors are on the CPU."""
    monkeypatch.setattr(deform_conv, "runs_triton", lambda device: True)


def make_inputs(
    k: int, size: tuple[int, int], spread_px: float = 2.0, *, channels: int = 3, outputs: int = 5
) -> Inputs:
    torch.manual_seed(size[0] * size[1] + k)
    features = torch.randn(2, channels, *size, dtype=torch.float64)
    offsets = spread_px * torch.randn(2, 2 * k * k, *size, dtype=torch.float64)
    return features, offsets, torch.randn(outputs, channels, k, k, dtype=torch.float64)


def torchvisions(features: Tensor, offsets: Tensor, weight: Tensor) -> Tensor:
    result: Tensor = deform_conv2d(features, offsets, weight, padding=weight.shape[-1] // 2)
    return result


def results(run: Callable[..., Tensor], inputs: Inputs, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """The output of `run`, and the gradients of features, offsets and weight, computed in dtype."""
    given = [t.to(dtype).requires_grad_() for t in inputs]
    out = run(*given)
    pull = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape).to(dtype)
    return [out, *torch.autograd.grad(out, given, pull)]


def assert_close(ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.double() - other.double()).abs().max() <= tolerance * other.abs().max().clamp(min=1)


@pytest.mark.parametrize(("k", "size"), [(3, (5, 7)), (3, (1, 1)), pytest.param(5, (6, 2), marks=pytest.mark.slow)])
def test_values_and_gradients_equal_torchvision(k: int, size: tuple[int, int], deterministic: bool) -> None:
    inputs = make_inputs(k, size)
    assert_close(results(deform_conv2d_triton, inputs), results(torchvisions, inputs), 1e-12)


@pytest.mark.usefixtures("small_blocks")
def test_several_blocks_of_pixels_and_channels_give_the_same(deterministic: bool) -> None:
    inputs = make_inputs(1, (3, 5), outputs=6)
    assert_close(results(deform_conv2d_triton, inputs), results(torchvisions, inputs), 1e-12)


def test_far_positions_read_zero(deterministic: bool) -> None:
    features, offsets, weight = make_inputs(1, (4, 5))
    offsets[0], offsets[1, :, 2:] = 5 * offsets[0], 1e30 * offsets[1, :, 2:]
    inputs = features, offsets, weight
    assert_close(results(deform_conv2d_triton, inputs), results(torchvisions, inputs), 1e-12)


def test_taps_that_all_read_one_pixel_add_up_in_its_gradient(deterministic: bool) -> None:
    features, _, weight = make_inputs(1, (3, 4))
    rows, columns = torch.meshgrid(torch.arange(3.0), torch.arange(4.0), indexing="ij")
    aimed = torch.stack((1.25 - rows, 2.5 - columns)).expand(2, -1, -1, -1).double()
    inputs = features, aimed, weight
    assert_close(results(deform_conv2d_triton, inputs), results(torchvisions, inputs), 1e-12)


def test_an_offset_that_is_no_number_stays_visible() -> None:
    features, offsets, weight = make_inputs(1, (2, 3))
    offsets[0, 0, 1, 1] = torch.nan
    out = deform_conv2d_triton(features, offsets, weight)
    assert out[0, :, 1, 1].isnan().all()
    assert out.isnan().sum() == out.shape[1]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 5e-3), (torch.bfloat16, 4e-2)])
def test_lower_precision_sums_in_float32(dtype: torch.dtype, tolerance: float, deterministic: bool) -> None:
    rounded: Inputs = tuple(t.to(dtype).double() for t in make_inputs(1, (5, 4)))  # type: ignore[assignment]
    ours = results(deform_conv2d_triton, rounded, dtype)
    assert {t.dtype for t in ours} == {dtype}
    assert_close(ours, results(torchvisions, rounded), tolerance)


def test_the_result_is_channels_last_and_any_layout_is_read() -> None:
    features, offsets, weight = make_inputs(1, (4, 5))
    plain = deform_conv2d_triton(features, offsets, weight)
    assert plain.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last
    other = deform_conv2d_triton(features.to(memory_format=layout), offsets.to(memory_format=layout), weight)
    torch.testing.assert_close(other, plain, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of the check's own tensors
def test_the_operator_passes_torch_s_own_check() -> None:
    projected, offsets = torch.randn(1, 2, 3, 16), torch.randn(1, 2, 2, 3)
    given = projected.requires_grad_(), offsets.requires_grad_(), 5, 1
    checks = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    assert set(torch.library.opcheck(sample_taps, given, test_utils=checks).values()) == {"SUCCESS"}


@pytest.mark.slow
@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_whole_graph_compiles_with_any_size() -> None:
    conv = DeformConv2d(3, 2, kernel_size=1)
    compiled = torch.compile(conv, backend="aot_eager", fullgraph=True, dynamic=True)
    for height, width in ((3, 4), (5, 2)):
        features, offsets = torch.randn(1, 3, height, width), torch.randn(1, 2, height, width)
        given = features.requires_grad_(), offsets.requires_grad_(), *conv.parameters()
        ours, plain = compiled(features, offsets), conv(features, offsets)
        torch.testing.assert_close(ours, plain)
        gradients = [torch.autograd.grad(out.square().sum(), given) for out in (ours, plain)]
        torch.testing.assert_close(*gradients)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_exporters_keep_grid_sample() -> None:
    given = torch.randn(1, 3, 4, 5), torch.randn(1, 18, 4, 5)
    graph = torch.export.export(DeformConv2d(3, 2, kernel_size=3).eval(), given).graph
    called = {str(node.target) for node in graph.nodes}
    assert any("grid_sampler" in name for name in called)
    assert not any("mnsa" in name for name in called)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_an_enhancer_in_mixed_precision_learns_as_with_grid_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    enhancer = AdaptiveFeatureEnhancer(4, (3, 0, 0, 0, 1), offset_channels=2)
    nn.init.normal_(enhancer.branches["deform3"].offsets[2].weight)  # type: ignore[union-attr,index]
    features = torch.randn(2, 4, 3, 4).contiguous(memory_format=torch.channels_last).requires_grad_()

    def run() -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            details = enhancer(features)
        assert details.dtype == torch.bfloat16
        return [details, *torch.autograd.grad(details.float().square().sum(), [features, *enhancer.parameters()])]

    ours = run()
    monkeypatch.setattr(deform_conv, "runs_triton", lambda device: False)
    assert_close(ours, run(), 4e-2)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_distributed_training_gets_the_same_gradients(tmp_path: object) -> None:
    conv, given = DeformConv2d(3, 2, kernel_size=1), (torch.randn(1, 3, 2, 3), torch.randn(1, 2, 2, 3))
    alone = torch.autograd.grad(conv(*given).square().sum(), list(conv.parameters()))
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        nn.parallel.DistributedDataParallel(conv)(*given).square().sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    torch.testing.assert_close([p.grad for p in conv.parameters()], list(alone))


def test_a_cpu_never_loads_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mnsa.model.ops.tap_kernels", None)  # importing it would raise ImportError
    assert not runs_triton(torch.device("cpu"))
    conv = DeformConv2d(3, 2, kernel_size=3)
    conv(torch.randn(1, 3, 4, 5), torch.randn(1, 18, 4, 5)).sum().backward()


@pytest.mark.parametrize(
    ("installed", "version", "capability", "expected"),
    [
        (True, "13.2", (9, 0), True),
        (True, "13.2", (7, 5), False),
        (False, "13.2", (9, 0), False),
        (True, None, (9, 0), False),
    ],
)
def test_a_gpu_runs_triton_if_it_is_new_and_triton_is_there(
    monkeypatch: pytest.MonkeyPatch, installed: bool, version: str | None, capability: tuple[int, int], expected: bool
) -> None:
    monkeypatch.setattr(tap_sampling, "_HAS_TRITON", installed)
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert runs_triton(torch.device("cuda", 0)) is expected
