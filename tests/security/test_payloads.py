"""Every payload is refused with an error: no code is executed, no file outside is read or written."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import file_payloads
import pytest
import text_payloads
from sandbox import Payload, Sandbox, watch

PAYLOADS = {payload.name: payload for payload in (*text_payloads.PAYLOADS, *file_payloads.PAYLOADS)}

USED_BYTES = "int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()"


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Sandbox:
    """The working directory is an empty folder; payloads that are executed create `ran` in it."""
    folder = tmp_path / "sandbox"
    (folder / "cwd").mkdir(parents=True)
    monkeypatch.chdir(folder / "cwd")
    return Sandbox(folder, request.getfixturevalue)


def run_payload(mnsa: Any, sandbox: Sandbox, payload: Payload) -> tuple[str, list[str]]:
    """Run the command of a payload. Returns: its error message, and the violations."""
    command = payload.prepare(sandbox)
    json_file = sandbox.folder / "findings.json"
    if command[0] == "check":  # its table cuts long texts
        command += ["--out", json_file]
    with watch(sandbox) as violations:
        result = mnsa(*command)
    assert result.code == 2
    assert "Traceback" not in result.err
    if command[0] == "check":
        findings = json.loads(json_file.read_text(encoding="utf-8"))["findings"]
        return "\n".join(f"{finding['file']} {finding['reason']}" for finding in findings), violations
    assert result.err.startswith("Error: ")
    return result.err, violations


@pytest.mark.filterwarnings("ignore")  # Pillow warns about damaged files
@pytest.mark.parametrize("name", PAYLOADS)
def test_a_payload_is_refused_without_a_violation(mnsa: Any, sandbox: Sandbox, name: str) -> None:
    outside = {path: path.read_bytes() for path in sandbox.outside.iterdir()}
    message, violations = run_payload(mnsa, sandbox, PAYLOADS[name])
    assert PAYLOADS[name].message in message
    assert violations == []
    assert {path: path.read_bytes() for path in sandbox.outside.iterdir()} == outside
    assert list(Path.cwd().iterdir()) == []
    assert {path.name for path in sandbox.folder.iterdir()} <= {"inputs", "outside", "cwd", "findings.json"}


def test_payloads_have_different_names_and_are_more_than_one_hundred() -> None:
    assert len(PAYLOADS) == len(text_payloads.PAYLOADS) + len(file_payloads.PAYLOADS) > 100


def test_the_watch_detects_reading_writing_and_execution(sandbox: Sandbox, tmp_path: Path) -> None:
    with watch(sandbox) as violations:
        (sandbox.outside / "secret.png").read_bytes()
        (tmp_path / "file").write_text("x")
        subprocess.run([sys.executable, "-c", ""], check=True)
    assert [violation.split()[0] for violation in violations] == ["read", "wrote", "subprocess.Popen"]


INSPECT_ALL = """
import sys, warnings
from pathlib import Path
from mnsa.data.validation.inspect import inspect_files
warnings.simplefilter("ignore")
for path in sorted(Path(sys.argv[1]).iterdir()):
    findings = inspect_files(path.parent, 2, (path.name, path.name)).findings
    assert any(finding.severity == 'error' for finding in findings), path
"""


@pytest.mark.slow
def test_invalid_images_need_little_memory(tmp_path: Path) -> None:
    folder = tmp_path.resolve() / "images"
    folder.mkdir()
    for number, (content, _) in enumerate(file_payloads.INVALID_IMAGES.values()):
        (folder / f"{number:02}.png").write_bytes(content)
    assert run_with_memory_limit(600, INSPECT_ALL, folder).returncode == 0


@pytest.mark.slow
def test_a_zip_file_with_very_many_members_needs_little_memory(sandbox: Sandbox) -> None:
    file_payloads.write_zip_with_many_members(sandbox)
    code = "import sys; from mnsa.cli import main; sys.argv[0] = 'mnsa'; main()"
    result = run_with_memory_limit(900, code, "import", "zip", sandbox.inputs / "leaves.zip", "--out", sandbox.out)
    assert (result.returncode, "too many members" in result.stderr) == (2, True)


def run_with_memory_limit(megabytes: int, code: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run Python code that may use so many megabytes more than Python with its libraries imported."""
    limit = f"import resource, torch, mnsa.data.formats.zip_archive, PIL.Image; PIL.Image.init(); used = {USED_BYTES}\n"
    limit += f"resource.setrlimit(resource.RLIMIT_AS, (used + {megabytes << 20},) * 2)\n"
    command = [sys.executable, "-c", limit + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
