"""A file with its SHA-256 beside it: damage is found, and a write that is refused changes nothing."""

import errno
import hashlib
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mnsa.checked_files import DamagedFileError, require_whole, write_checked


def test_a_checked_file_keeps_its_sum_and_the_content_before(tmp_path: Path) -> None:
    path, previous = tmp_path / "a.bin", tmp_path / "a.previous.bin"
    for content in (b"first", b"second"):
        assert write_checked(path, lambda file: file.write(content), previous=previous) == (  # noqa: B023
            hashlib.sha256(content).hexdigest()
        )
    assert (path.read_bytes(), previous.read_bytes()) == (b"second", b"first")
    require_whole(path)
    require_whole(previous, digests=path)
    path.write_bytes(b"secomd")
    with pytest.raises(DamagedFileError, match="SHA-256"):
        require_whole(path)
    write_checked(path, lambda file: file.write(b"third"), previous=previous)
    assert previous.read_bytes() == b"first"  # damage doesn't replace what is whole
    require_whole(previous, digests=path)


def test_a_checked_file_that_is_refused_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_checked(path, lambda file: file.write(b"old"))
    limited = (
        "import resource, sys, torch; from pathlib import Path; from mnsa.checked_files import write_checked\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try: write_checked(Path(sys.argv[1]), lambda file: torch.save(torch.zeros(99_999), file))\n"
        "except OSError as error: print(error.errno)"
    )
    ended = subprocess.run([sys.executable, "-c", limited, str(path)], capture_output=True, text=True, check=False)
    assert ended.stdout.strip() == str(errno.EFBIG), ended.stderr
    assert path.read_bytes() == b"old"
    assert {file.name for file in tmp_path.iterdir()} == {"a.bin", "a.bin.sha256"}


def test_the_first_error_of_a_write_is_raised_not_what_native_code_makes_of_it(tmp_path: Path) -> None:
    class Refuses:
        def write(self, _: bytes) -> int:
            raise RuntimeError("DataLoader worker is killed")

    def write(file: Any) -> None:
        file._file = Refuses()
        with suppress(RuntimeError):
            file.write(b"data")
        raise RuntimeError("unexpected pos")

    with pytest.raises(RuntimeError, match="DataLoader worker"):
        write_checked(tmp_path / "state", write)
    assert list(tmp_path.iterdir()) == []
