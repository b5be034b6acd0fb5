"""What a stranger may send: each payload is refused by name; nothing runs, nothing is read or written elsewhere."""

import json
import subprocess
import sys
from pathlib import Path

import file_payloads
import pytest
import text_payloads
from sandbox import Payload, Place, watched

PAYLOADS = {payload.name: payload for payload in (*text_payloads.PAYLOADS, *file_payloads.PAYLOADS)}


@pytest.fixture
def place(tmp_path, monkeypatch, request):
    """A folder for a stranger's files; the command runs in an empty one beside it, where `ran` would appear."""
    folder = tmp_path / "here"
    (folder / "cwd").mkdir(parents=True)
    monkeypatch.chdir(folder / "cwd")
    return Place(folder, request.getfixturevalue)


def refusal(mnsa, place: Place, payload: Payload) -> tuple[str, list[str]]:
    """Run the command: what it says, and what it did that it must not do."""
    command = payload.lay(place)
    listed = place.folder / "findings.json"
    if command[0] == "check":  # its table is for eyes
        command += ["--json", listed]
    with watched(place) as harm:
        ending = mnsa(*command)
    assert ending.code == 2
    assert "Traceback" not in ending.err
    if command[0] == "check":
        findings = json.loads(listed.read_text(encoding="utf-8"))["findings"]
        return "\n".join(f"{finding['file']} {finding['reason']}" for finding in findings), harm
    assert ending.err.startswith("Error: ")
    return ending.err, harm


@pytest.mark.filterwarnings("ignore")  # Pillow mumbles about broken files
@pytest.mark.parametrize("name", PAYLOADS)
def test_a_payload_is_refused_and_nothing_else_happens(mnsa, place, name):
    elsewhere = {path: path.read_bytes() for path in place.elsewhere.iterdir()}
    message, harm = refusal(mnsa, place, PAYLOADS[name])
    assert PAYLOADS[name].says in message
    assert harm == []
    assert {path: path.read_bytes() for path in place.elsewhere.iterdir()} == elsewhere
    assert list(Path.cwd().iterdir()) == []
    assert {path.name for path in place.folder.iterdir()} <= {"home", "elsewhere", "cwd", "findings.json"}


def test_there_are_many_payloads_and_no_two_of_one_name():
    assert len(PAYLOADS) == len(text_payloads.PAYLOADS) + len(file_payloads.PAYLOADS) > 100


def test_the_watch_sees_what_it_is_there_for(place, tmp_path):
    with watched(place) as harm:
        (place.elsewhere / "secret.png").read_bytes()
        (tmp_path / "stray").write_text("x")
        subprocess.run([sys.executable, "-c", ""], check=True)
    assert [line.split()[0] for line in harm] == ["read", "wrote", "subprocess.Popen"]


READ_ALL = """
import sys, warnings
from pathlib import Path
from mnsa.data.validation.inspect import inspect_files
warnings.simplefilter("ignore")
for path in sorted(Path(sys.argv[1]).iterdir()):
    findings = inspect_files(path.parent, 2, (path.name, path.name)).findings
    assert any(finding.severity == 'error' for finding in findings), path
"""


def test_no_picture_of_these_needs_much_memory(tmp_path):
    folder = tmp_path.resolve() / "pictures"
    folder.mkdir()
    for number, (content, _) in enumerate(file_payloads.PICTURES.values()):
        (folder / f"{number:02}.png").write_bytes(content)
    assert within(600, READ_ALL, folder).returncode == 0


def test_no_archive_of_these_needs_much_memory(place):
    file_payloads.many(place)
    code = "import sys; from mnsa.cli import main; sys.argv[0] = 'mnsa'; main()"
    ending = within(900, code, "import", "zip", place.home / "leaves.zip", "--out", place.out)
    assert (ending.returncode, "too many members" in ending.stderr) == (2, True)


def within(megabytes: int, code: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run Python code that may have so many more megabytes of memory than Python has with its libraries loaded."""
    limit = f"import resource, torch, mnsa.data.formats.zip_archive, PIL.Image; PIL.Image.init(); used = {_USED}\n"
    limit += f"resource.setrlimit(resource.RLIMIT_AS, (used + {megabytes << 20},) * 2)\n"
    command = [sys.executable, "-c", limit + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


_USED = "int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()"
