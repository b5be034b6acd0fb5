"""Atomic writes, new folders, locks and limited reading."""

import errno
import hashlib
import json
import logging
import os
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest

from mnsa import io

HOLD_LOCK = """
import sys, time
from pathlib import Path
from mnsa.io import lock
with lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""

KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from mnsa.io import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half of the new te")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_an_error_while_writing_keeps_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), io.atomic_path(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_that_is_killed_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text("old")
    assert subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], check=False).returncode != 0
    assert path.read_text() == "old"
    io.atomic_write_text(path, "new")
    assert path.read_text() == "new"


def test_writers_of_one_file_use_different_temporary_files_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    with io.atomic_path(path) as first, io.atomic_path(path) as second:
        assert first != second
        assert first.parent == second.parent == tmp_path
        assert first.suffix == second.suffix == ".png"
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # its writer ended last


def test_file_is_flushed_before_it_is_renamed_and_folder_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, events = tmp_path / "a.txt", []
    fsync, replace = os.fsync, Path.replace

    def record_fsync(number: int) -> None:
        events.append("folder" if os.path.samestat(os.fstat(number), tmp_path.stat()) else "file")
        fsync(number)

    def record_replace(source: Path, target: Path) -> Path:
        events.append("rename")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "replace", record_replace)
    io.atomic_write_text(path, "text")
    assert events == ["file", "rename", "folder"]


def test_text_is_written_as_utf8_without_changed_newlines(tmp_path: Path) -> None:
    io.atomic_write_text(tmp_path / "a.txt", "Blätter\n\r\n")
    assert (tmp_path / "a.txt").read_bytes() == b"Bl\xc3\xa4tter\n\r\n"


def test_json_is_written_and_read_back(tmp_path: Path) -> None:
    io.write_json(tmp_path / "a.json", {"classes": ["a", "b"]})
    assert (tmp_path / "a.json").read_text().endswith("}\n")
    assert io.read_json(tmp_path / "a.json") == {"classes": ["a", "b"]}


def test_value_without_json_form_keeps_the_old_file(tmp_path: Path) -> None:
    io.write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        io.write_json(tmp_path / "a.json", {"path": object()})
    assert io.read_json(tmp_path / "a.json") == 1


def test_new_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    with io.new_folder(folder) as temporary:
        (temporary / "a.txt").write_text("a")
        assert not folder.exists()
    assert [path.name for path in folder.iterdir()] == ["a.txt"]
    assert [path.name for path in folder.parent.iterdir()] == ["run"]


def test_new_folder_does_not_appear_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), io.new_folder(tmp_path / "run") as temporary:  # noqa: PT012
        (temporary / "a.txt").write_text("a")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "exists"), [(errno.EIO, False), (errno.EINVAL, True)])
def test_new_folder_that_cannot_be_flushed_does_not_stay_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, exists: bool
) -> None:
    def refuse(_number: int) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(os, "fsync", refuse)
    with nullcontext() if exists else pytest.raises(OSError, match="refused"), io.new_folder(tmp_path / "run"):
        pass
    assert (tmp_path / "run").exists() == exists


def test_a_folder_that_may_only_be_written_to_takes_new_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, flags: int, *arguments: int) -> int:
        if path == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, flags, *arguments)

    real = os.open
    monkeypatch.setattr(os, "open", refuse)
    io.atomic_write_text(tmp_path / "a.txt", "a")
    with io.new_folder(tmp_path / "run"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "run"}


def test_new_folder_refuses_an_existing_path_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("run", "link"):
        with pytest.raises(FileExistsError), io.new_folder(tmp_path / name):
            pytest.fail("the folder must not be built")


@pytest.mark.parametrize("is_empty", [True, False])
def test_new_folder_does_not_replace_a_folder_that_appeared_during_the_work(tmp_path: Path, is_empty: bool) -> None:
    folder = tmp_path / "run"
    with pytest.raises(FileExistsError), io.new_folder(folder) as temporary:  # noqa: PT012
        (temporary / "a.txt").write_text("a")
        folder.mkdir()
        if not is_empty:
            (folder / "other.txt").write_text("other")
    assert not (folder / "a.txt").exists()
    assert list(tmp_path.iterdir()) == [folder]


def test_lock_of_another_process_is_respected_and_freed_when_that_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "a.lock"
    with subprocess.Popen([sys.executable, "-c", HOLD_LOCK, str(file)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for timeout_s in (0, 0.1):
            with pytest.raises(TimeoutError), io.lock(file, timeout_s=timeout_s):
                pytest.fail("the lock is held")
        holder.kill()
        holder.wait()
        with io.lock(file, timeout_s=10):
            pass


def test_second_thread_waits_for_the_first_and_logs_its_message_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, order, is_waiting = tmp_path / "a.lock", [], threading.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            is_waiting.set()

    def second() -> None:
        with io.lock(file, waiting="waiting for the first"):
            order.append("second")

    caplog.set_level(logging.INFO, logger="mnsa.io")
    handler = Handler()
    io.logger.addHandler(handler)
    try:
        with io.lock(file):
            thread = threading.Thread(target=second)
            thread.start()
            assert is_waiting.wait(30)
            order.append("first")
        thread.join()
    finally:
        io.logger.removeHandler(handler)
    assert order == ["first", "second"]
    assert caplog.messages == ["waiting for the first"]


def test_lock_is_free_after_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), io.lock(tmp_path / "a.lock", timeout_s=0):
            raise ZeroDivisionError


def test_sha256_of_a_file(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    (tmp_path / "a.bin").write_bytes(data)
    assert io.sha256_file(tmp_path / "a.bin") == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("levels", [io.MAX_DEPTH + 1, 100_000])
def test_deep_json_is_refused(tmp_path: Path, levels: int) -> None:
    text = "[" * levels + "]" * levels
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match="nested more than 20 levels"):
        io.read_json(tmp_path / "a.json")
    with pytest.raises(ValueError, match="nested more than 20 levels"):
        io.parse_json(text.encode())


def test_json_of_the_largest_depth_is_read() -> None:
    text = "[" * io.MAX_DEPTH + "]" * io.MAX_DEPTH
    assert io.parse_json(text) == json.loads(text)


def test_large_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[" + "1," * 100 + "1]")
    with pytest.raises(OSError, match="at most 100 are read"):
        io.read_json(tmp_path / "a.json", max_bytes=100)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(OSError, match="no regular file"):
        io.read_json(tmp_path / "a.json")


def test_toml_is_read_and_a_line_of_dots_refused(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('a.b = "' + "." * 2000 + '"\n')
    assert io.read_toml(tmp_path / "a.toml") == {"a": {"b": "." * 2000}}
    (tmp_path / "a.toml").write_text("a." * 2000 + "b = 1\n")
    with pytest.raises(ValueError, match="more than 1000 dots"):
        io.read_toml(tmp_path / "a.toml")


def test_a_lock_names_its_owner(tmp_path: Path) -> None:
    with io.lock(tmp_path / "a.lock", names_owner=True):
        assert f"process {os.getpid()} on " in io.lock_owner(tmp_path / "a.lock")
    assert io.lock_owner(tmp_path / "b.lock") == "another process"
