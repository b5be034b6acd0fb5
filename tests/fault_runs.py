"""Run `mnsa train` in processes that are killed, signalled, or refused the disk.

The processes are forked from a server that has imported everything, so that each starts within a moment.
"""

import multiprocessing
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file

FULL = os.environ.get("MNSA_FAULTS") == "full"

TIMEOUT_S = 240.0  # longer than any of these trainings takes on a busy machine


def dose(full: int, short: int) -> int:
    """Number of injected faults: the full dose, or the short one."""
    return full if FULL else short


@dataclass(frozen=True)
class Faults:
    """What is done to a process. kill_at: number of the step of a save (count in `steps_file`) before which it dies."""

    kill_at: int = 0
    steps_file: Path | None = None
    max_file_bytes: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    patch: Callable[[], None] | None = None


@dataclass(frozen=True)
class Ended:
    """How a command has ended. code: exit code, negative for a signal that killed it."""

    code: int
    text: str


class Command:
    """A running `mnsa` command, in a process group of its own."""

    def __init__(self, arguments: Sequence[object], log: Path, faults: Faults = Faults()) -> None:
        self.log = log
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["mnsa.training.fit", "mnsa.cli", "mnsa.workflows.fit_postprocessing"])
        self.process: ForkServerProcess = context.Process(
            target=_run,
            args=([str(argument) for argument in arguments], log, faults, multiprocessing.get_start_method()),
        )
        self.process.start()

    def wait(self) -> Ended:
        """Wait for the end; a command that hangs is killed, and fails the test."""
        self.process.join(TIMEOUT_S)
        hangs = self.process.exitcode is None
        if hangs:
            self.signal(signal.SIGKILL, group=True)
            self.process.join()
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        assert not hangs, f"it hung: {text}"
        return Ended(int(self.process.exitcode or 0), text)

    def signal(self, number: int, *, group: bool) -> None:
        pid = self.process.pid
        assert pid is not None
        (os.killpg if group else os.kill)(pid, number)

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait until the condition holds, or the command has ended."""
        end = time.monotonic() + TIMEOUT_S
        while not condition() and self.process.exitcode is None:
            assert time.monotonic() < end
            self.process.join(0.02)

    def children(self, program: str = "") -> list[int]:
        """Return the processes that any of its threads has started. program: a word of their command lines."""
        found = list[int]()
        for task in Path(f"/proc/{self.process.pid}/task").glob("*"):
            with suppress(OSError):
                found += [int(number) for number in (task / "children").read_text().split()]
        return [child for child in found if program in _command_line(child)]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def run(arguments: Sequence[object], log: Path, faults: Faults = Faults()) -> Ended:
    """Run a command to its end."""
    return Command(arguments, log, faults).wait()


def start_ranks(arguments: Sequence[object], folder: Path, patch: Callable[[], None] | None = None) -> list[Command]:
    """Start a command in two processes that train together, as torchrun does. Each has its log in a folder.

    patch: called in each process first.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        Command(
            [*arguments, "--devices", 2],
            folder / f"log{rank}",
            Faults(environment={**together, "RANK": str(rank), "LOCAL_RANK": str(rank)}, patch=patch),
        )
        for rank in range(2)
    ]


def weights(run_folder: Path) -> dict[str, torch.Tensor]:
    return load_file(run_folder / "model" / "model.safetensors")


def equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def damage(file: Path, rng: random.Random) -> None:
    """Flip a bit, set a page to zero, or cut the end off."""
    data = bytearray(file.read_bytes())
    before, kind = bytes(data), rng.choice(("bit", "page", "cut"))
    while bytes(data) == before:
        place = rng.randrange(len(data))
        if kind == "bit":
            data[place] ^= 1 << rng.randrange(8)
        elif kind == "page":
            data[place : place + 4096] = bytes(len(data[place : place + 4096]))
        else:
            del data[place:]
    file.write_bytes(data)


def _run(arguments: list[str], log: Path, faults: Faults, start_method: str) -> None:
    os.setsid()
    multiprocessing.set_start_method(start_method, force=True)  # that of a command, not that of this process
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(faults.environment)
    tempfile.tempdir = None
    torch.set_num_threads(1)
    if faults.kill_at or faults.steps_file:
        _count_steps(faults.kill_at, faults.steps_file)
    if faults.patch:
        faults.patch()
    if faults.max_file_bytes:
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_FSIZE, (faults.max_file_bytes, faults.max_file_bytes))
    from mnsa.cli import main

    sys.argv = ["mnsa", *arguments]
    main()


def _count_steps(kill_at: int, steps_file: Path | None) -> None:
    """Kill this process at a step of a save: at a write, which is then cut in half, a flush, a link or a rename."""
    from mnsa import checked_files

    count, pid = 0, os.getpid()
    # A file that is truncated for each step would be flushed to the disk each time, which takes minutes.
    number_file = None if steps_file is None else os.open(steps_file, os.O_RDWR | os.O_CREAT)

    def counted(function: Callable[..., Any], *, writes: bool = False) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            if os.getpid() == pid:
                count += 1
                if count == kill_at:
                    if writes:
                        writer, data = arguments
                        function(writer, bytes(data)[: len(data) // 2])
                        writer.flush()
                    os.kill(pid, signal.SIGKILL)
                if number_file is not None:
                    os.pwrite(number_file, b"%9d" % count, 0)
            return function(*arguments, **options)

        return step

    owner: Any = checked_files._HashingWriter
    owner.write = counted(owner.write, writes=True)
    for target, name in ((os, "fsync"), (Path, "replace"), (Path, "hardlink_to"), (Path, "unlink")):
        setattr(target, name, counted(getattr(target, name)))


class Reference(NamedTuple):
    """A training without faults: how to start it, the number of steps of its saves, and its weights."""

    arguments: tuple[object, ...]
    steps: int
    weights: dict[str, torch.Tensor]
