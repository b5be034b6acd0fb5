"""A batch that does not fit in memory is divided; nothing that a failed step held is kept; limits raise errors."""

import logging
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mnsa.config import Config
from mnsa.errors import ConfigError
from mnsa.structures import Batch
from mnsa.training import out_of_memory
from mnsa.training.fit import TrainingInterruptedError, resume, train
from mnsa.training.module import StageModule
from mnsa.training.out_of_memory import available_bytes, cgroup_free_bytes, free_memory, measure_peak

# Trains on batches of 12 images. A limit of the addresses that a process may use is a limit of its memory, too.
LIMITED = """
import resource, sys
from pathlib import Path
from mnsa.config import load_config
from mnsa.training.fit import train

config, dataset, out, megabytes = sys.argv[1:]
used = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (used + (int(megabytes) << 20), resource.RLIM_INFINITY))
train(load_config(config), Path(dataset), Path(out))
"""


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let only so many images at once fit in memory, from an epoch on."""
    compute = StageModule.compute_loss

    def set_limit(images: int, error: Exception, epoch: int = 0) -> None:
        def limited(self: Any, batch: Batch) -> tuple[Tensor, dict[str, tuple[float, Tensor]]]:
            if len(batch.images) > images and self.current_epoch >= epoch:
                raise error
            return compute(self, batch)

        monkeypatch.setattr(StageModule, "compute_loss", limited)

    return set_limit


def weights_of(run: Any) -> dict[str, Tensor]:
    return load_file(run.model_folder / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you tried ..."),
    ],
)
def test_a_batch_that_does_not_fit_is_divided_as_if_the_config_had_said_so(
    dataset: Path, make_config: Callable[..., Config], tmp_path: Path, fits: Callable[..., None],
    caplog: pytest.LogCaptureFixture, error: Exception,
) -> None:  # fmt: skip
    divided = train(make_config({"batch_parts": 2, "epochs": 1}), dataset, tmp_path / "divided")
    fits(2, error)
    with caplog.at_level(logging.WARNING):
        run = train(make_config({"epochs": 1}), dataset, tmp_path / "run")
    assert (
        "not enough memory for 4 images of 64 x 64 px at once. Each batch of 4 is now taken in 2 parts" in caplog.text
    )
    assert run.metrics_file.read_text() == divided.metrics_file.read_text()
    ours, theirs = weights_of(run), weights_of(divided)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_a_resumed_run_keeps_its_parts(
    dataset: Path, make_config: Callable[..., Config], tmp_path: Path, fits: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    fits(2, MemoryError())
    whole = train(make_config(), dataset, tmp_path / "whole")
    step = StageModule.training_step

    def interrupted(self: Any, batch: Batch, index: int) -> Tensor:
        if self.current_epoch == 1:
            raise KeyboardInterrupt
        return step(self, batch, index)

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(StageModule, "training_step", interrupted)
    with pytest.raises(TrainingInterruptedError):
        train(make_config(), dataset, tmp_path / "run")
    signal.signal(signal.SIGINT, handler)  # Lightning ignores Ctrl-C while it shuts down
    monkeypatch.setattr(StageModule, "training_step", step)
    resume(tmp_path / "run")
    assert (tmp_path / "run/metrics.csv").read_text() == whole.metrics_file.read_text()


def test_two_images_that_do_not_fit_end_training_with_what_to_set(
    dataset: Path, make_config: Callable[..., Config], tmp_path: Path, fits: Callable[..., None]
) -> None:
    fits(1, MemoryError())
    with pytest.raises(ConfigError, match=r"2 images of 64 x 64 px .*stages\.joint\.batch_size = 4\..*data\.size"):
        train(make_config(), dataset, tmp_path / "run")


def test_parts_that_the_config_names_are_not_changed(
    dataset: Path, make_config: Callable[..., Config], tmp_path: Path, fits: Callable[..., None]
) -> None:
    fits(2, MemoryError())
    with pytest.raises(ConfigError, match=r"4 images .*set stages\.joint\.batch_parts to 2 or more"):
        train(make_config({"batch_parts": 1}), dataset, tmp_path / "run")
    with pytest.raises(ConfigError, match="4 images"):  # the run goes on where it was, once there is memory
        resume(tmp_path / "run")


def test_another_error_is_not_taken_for_a_lack_of_memory(
    dataset: Path, make_config: Callable[..., Config], tmp_path: Path, fits: Callable[..., None]
) -> None:
    fits(2, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        train(make_config(), dataset, tmp_path / "run")


class _Fails(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *_gradients: Any) -> Any:
        raise MemoryError


class _Keeps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        kept = ctx.kept = torch.ones(3)
        return values + kept

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return gradient


def test_a_failed_backward_pass_keeps_nothing() -> None:
    """Autograd's queue would hold the branch that had not been run, until some later pass."""

    def failed_pass() -> weakref.ref[Tensor]:
        start = torch.ones(3, requires_grad=True) * 1
        other = _Keeps.apply(start)
        (_Fails.apply(start * 2) + other).sum().backward()
        raise AssertionError

    kept: list[weakref.ref[Tensor]] = []
    forward = _Keeps.forward

    def remember(ctx: Any, values: Tensor) -> Tensor:
        result = forward(ctx, values)
        kept.append(weakref.ref(ctx.kept))
        return result

    _Keeps.forward = staticmethod(remember)  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        failed_pass()
    free_memory()
    assert kept[0]() is None


def write_group(folder: Path, files: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")


def test_the_limit_of_a_cgroup_and_of_its_parents_is_read(tmp_path: Path) -> None:
    write_group(tmp_path / "proc/self", {"cgroup": "0::/slurm/job"})
    top = tmp_path / "sys/fs/cgroup"
    own = {"memory.max": 1000, "memory.current": 700, "memory.stat": "anon 1\ninactive_file 150"}
    write_group(top / "slurm/job", own)
    assert cgroup_free_bytes(tmp_path) == 450
    write_group(top / "slurm", {"memory.max": 800, "memory.current": 700, "memory.stat": "inactive_file 20"})
    assert cgroup_free_bytes(tmp_path) == 120
    write_group(top / "slurm", {"memory.max": "max"})
    write_group(top / "slurm/job", {"memory.max": "max"})
    assert cgroup_free_bytes(tmp_path) is None


def test_a_container_sees_its_own_cgroup_at_the_top(tmp_path: Path) -> None:
    write_group(tmp_path / "proc/self", {"cgroup": "5:cpu:/docker/1\n4:memory:/docker/1"})
    files = {"memory.limit_in_bytes": 1000, "memory.usage_in_bytes": 600, "memory.stat": "total_inactive_file 100"}
    write_group(tmp_path / "sys/fs/cgroup/memory", files)
    assert cgroup_free_bytes(tmp_path) == 500
    write_group(tmp_path / "sys/fs/cgroup/memory", {"memory.limit_in_bytes": 9223372036854771712})
    assert cgroup_free_bytes(tmp_path) is None
    assert cgroup_free_bytes(tmp_path / "elsewhere") is None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't tell")
def test_the_peak_of_a_call_is_what_it_holds_at_once() -> None:
    cpu, megabyte = torch.device("cpu"), 1 << 20

    def one_after_the_other() -> None:
        for _ in range(3):
            torch.ones(40 * megabyte, dtype=torch.uint8)

    def together() -> list[Tensor]:
        return [torch.ones(40 * megabyte, dtype=torch.uint8) for _ in range(3)]

    for run, megabytes in ((together, 120), (one_after_the_other, 40)):
        assert measure_peak(run, cpu) == pytest.approx(megabytes * megabyte, rel=0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't tell")
def test_the_available_memory_is_at_most_that_of_the_machine_and_of_the_cgroup(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    available = available_bytes(torch.device("cpu"))
    assert available is not None
    assert 0 < available < machine
    monkeypatch.setattr(out_of_memory, "cgroup_free_bytes", lambda *_: 1000)
    assert available_bytes(torch.device("cpu")) == 1000


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such limit")
def test_the_tightest_limit_is_named_before_it_is_met(tmp_path: Path) -> None:
    code = """
import logging, resource, sys
from pathlib import Path
from mnsa.training.out_of_memory import limited_memory, memory_limit
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
root, kind, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
resource.setrlimit(getattr(resource, kind), (number, resource.RLIM_INFINITY))
print(memory_limit(root))
before = resource.getrlimit(resource.RLIMIT_DATA)
with limited_memory(), limited_memory():
    pass
assert resource.getrlimit(resource.RLIMIT_DATA) == before
"""
    write_group(tmp_path / "proc/self", {"cgroup": "0::/", "status": "VmSize: 7000000 kB\nVmData: 2000000 kB"})
    group = {"memory.max": 4 << 30, "memory.current": 1 << 30, "memory.stat": "inactive_file 0"}
    write_group(tmp_path / "sys/fs/cgroup", group)

    def limited(kind: str, number: int) -> list[str]:
        command = [sys.executable, "-c", code, str(tmp_path), kind, str(number)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    size = 7_000_000 << 10
    found, *said = limited("RLIMIT_AS", size + (2 << 30))
    assert found == f"({2 << 30}, 'ulimit -v')"
    assert len(said) == 1  # the inner block says nothing
    assert said[0].endswith("GB of memory are left for this process: the limit of ulimit -v.")
    assert limited("RLIMIT_AS", 100 << 30)[0] == f"({3 << 30}, 'its container or job (cgroup)')"
    assert limited("RLIMIT_DATA", (2_000_000 << 10) + (1 << 30))[0] == f"({1 << 30}, 'ulimit -d')"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such limit")
def test_a_real_limit_divides_the_batch(dataset: Path, config_file: Path, tmp_path: Path) -> None:
    config = config_file.read_text().replace("batch_size = 4", "batch_size = 12").replace("epochs = 2", "epochs = 1")
    config_file.write_text(config.replace("64,\n    64,", "512,\n    512,"))
    command = [sys.executable, "-c", LIMITED, str(config_file), str(dataset), str(tmp_path / "run"), "1200"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "images of 512 x 512 px at once" in ended.stderr
