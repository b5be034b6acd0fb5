"""Two processes with half of a batch each compute what one process computes with the whole batch."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, distributed, nn

from mnsa.config import Config, dump_config, load_config
from mnsa.model.network import build_network
from mnsa.structures import IGNORE_INDEX, NO_LABEL, Batch
from mnsa.training.collectives import BatchNormSync
from mnsa.training.module import StageModule

LOSS = {
    "deep_supervision": True, "mask_guidance": 0.1, "dice": 1.0, "cldice": 0.5, "skeleton_recall": 0.5,
    "centerline": 0.5, "label_smoothing": 0.1,
}  # fmt: skip


def make_batch() -> Batch:
    """Four images; the last two have no label, and masks that are unknown for the most part."""
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(4, 3, 64, 64, generator=generator)
    masks = torch.randint(0, 3, (4, 64, 64), generator=generator)
    masks[2, :50], masks[3] = IGNORE_INDEX, IGNORE_INDEX
    lines = torch.rand(4, 64, 64, generator=generator) < 0.2
    return Batch(images, masks, torch.tensor([0, 2, NO_LABEL, NO_LABEL]), lines)


def compute(config_file: Path, rank: int, processes: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of this process's part of the batch, the averages of all gradients, and the buffers."""
    config = load_config(config_file)
    torch.manual_seed(3)
    network = build_network(config.model, 3, 3)
    weights = torch.tensor([0.5, 1.0, 1.5])
    module: nn.Module = StageModule(
        network, config.stages[0], config.loss, mask_classes=3, class_weights=weights, thin_classes=(1, 2)
    ).train()
    BatchNormSync().apply(module)
    whole, part = make_batch(), slice(rank * 4 // processes, (rank + 1) * 4 // processes)
    assert whole.centerlines is not None
    own = Batch(whole.images[part], whole.masks[part], whole.labels[part], whole.centerlines[part])
    compute_loss: Callable[[Batch], Any] = module.compute_loss  # type: ignore[assignment]
    loss, _ = compute_loss(own)
    loss.backward()
    found = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    if processes > 1:
        for gradient in found.values():  # as DDP does
            distributed.all_reduce(gradient)
            gradient.div_(processes)
    return loss.detach(), found | {name: buffer.double() for name, buffer in module.named_buffers()}


def compute_together(config_file: Path, folder: Path, rank: int) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    torch.save(compute(config_file, rank, 2), folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_loss_gradients_and_statistics_of_the_whole_batch(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config_file = tmp_path / "config.toml"
    model = {**make_config().model.model_dump(), "dropout": 0.0}
    config_file.write_text(dump_config(make_config(loss=LOSS, model=model)))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mnsa.training.module"])
    processes = [context.Process(target=compute_together, args=(config_file, tmp_path, rank)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    expected_loss, expected = compute(config_file, 0, 1)
    for rank in range(2):
        loss, found = torch.load(tmp_path / f"{rank}.pt")
        assert abs(float(loss) - float(expected_loss)) < 1e-5
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, BatchNormAct2d])
def test_alone_it_is_the_usual_batch_norm(kind: type[nn.BatchNorm2d]) -> None:
    torch.manual_seed(4)
    usual, own = kind(5), kind(5)
    model = nn.Sequential(own)
    features = torch.randn(3, 5, 7, 6) * 4 + 100
    BatchNormSync().apply(model)
    assert type(own) is not kind
    for _ in range(2):
        torch.testing.assert_close(model(features), usual(features), rtol=1e-4, atol=1e-4)
    for name, buffer in usual.named_buffers():
        torch.testing.assert_close(own.get_buffer(name), buffer)
    BatchNormSync().revert(model)
    assert type(own) is kind
    torch.testing.assert_close(model.eval()(features), usual.eval()(features))
