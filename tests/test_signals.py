"""The first signal stops a block at its next instruction, a second one the process at once."""

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext, suppress

import pytest

from mnsa.errors import ConfigError
from mnsa.signals import StopSignal, blocked_signals, environment_number, raise_if_stopped, shielded, stop_signals

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

TWICE = """
import os, signal, sys, time
from mnsa import signals
with signals.stop_signals():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except signals.StopSignal:
        time.sleep(float(sys.argv[1]))
        os.kill(os.getpid(), signal.SIGTERM)
        print("one request")
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_is_raised_with_the_exit_code_that_shells_have(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(StopSignal, match=number.name) as stop, stop_signals():
        os.kill(os.getpid(), number)
    assert stop.value.exit_code == code
    assert signal.getsignal(number) is before


def test_no_handler_of_errors_swallows_it() -> None:
    with pytest.raises(StopSignal), stop_signals(), suppress(Exception):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_shielded_block_ends_before() -> None:
    done = []
    with pytest.raises(StopSignal), stop_signals():  # noqa: PT012
        with shielded():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("saved")
        done.append("never")
    assert done == ["saved"]


@pytest.mark.parametrize("saves", [False, True])
def test_a_block_with_a_limit_is_given_up_after_it_but_not_a_save_within(saves: bool) -> None:
    before, done = signal.getsignal(signal.SIGALRM), []
    with pytest.raises(StopSignal, match="SIGTERM"), stop_signals(), shielded(limit_s=0.05):  # noqa: PT012
        with shielded() if saves else nullcontext():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("begun")
            wait()
            done.append("saved")
        wait()
        done.append("never")
    assert done == (["begun", "saved"] if saves else ["begun"])
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def wait() -> None:
    """Wait until the timer of a block with a limit has come at least once."""
    time.sleep(0.8)


def test_a_signal_that_python_had_to_swallow_is_raised_later() -> None:
    with pytest.raises(StopSignal), stop_signals():  # noqa: PT012
        with suppress(StopSignal):
            os.kill(os.getpid(), signal.SIGTERM)
        raise_if_stopped()
    with stop_signals():
        raise_if_stopped()  # that was another block


def test_an_ignored_signal_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stop_signals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_blocks_can_be_nested() -> None:
    with pytest.raises(StopSignal), stop_signals():  # noqa: PT012
        with stop_signals():
            pass
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("pause_s", "code"), [("1", 143), ("0", 0)])
def test_a_second_signal_ends_the_process_at_once_in_one_line(pause_s: str, code: int) -> None:
    ended = subprocess.run([sys.executable, "-c", TWICE, pause_s], capture_output=True, text=True, check=False)
    assert ended.returncode == code
    assert ended.stderr.strip() == ("Ended at once by a second signal (SIGTERM)." if code else "")
    assert ended.stdout == ("" if code else "one request\n")  # signals of the same moment are one request


def test_a_blocked_signal_arrives_when_it_can_be_handled() -> None:
    code = "import os, signal, sys; from mnsa import signals; os.kill(os.getpid(), signal.SIGTERM); print(1)\n"
    code += "with signals.stop_signals(): print(2)"
    with blocked_signals():
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    out, err = process.communicate(timeout=60)
    assert out == "1\n"
    assert "StopSignal: SIGTERM" in err


def test_a_number_of_the_environment_is_read_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert environment_number("RANK", "LOCAL_RANK", default=3) == 3
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert environment_number("RANK", "LOCAL_RANK", default=3) == 2
    for text in ("", "x", "-1", "1.5"):
        monkeypatch.setenv("RANK", text)
        with pytest.raises(ConfigError, match=r"RANK is .*unset RANK"):
            environment_number("RANK", "LOCAL_RANK", default=3)
