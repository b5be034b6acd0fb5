"""A report is drawn from a folder alone: `mnsa.report` needs no torch, and no network is built."""

import subprocess
import sys

import pytest

from mnsa.run_folder import RunFolder

pytestmark = pytest.mark.slow


CODE = """
import sys
from pathlib import Path

BLOCKED = ("torch", "torchvision", "lightning", "timm", "torchmetrics")
for name in BLOCKED:
    sys.modules[name] = None  # an import of it raises ImportError

from mnsa.report.run_page import write_run_report
from mnsa.report.study_page import write_study_report
from mnsa.run_folder import RunFolder

write_run_report(RunFolder(Path(sys.argv[1])))
"""


def test_a_report_needs_no_torch(own_reported: RunFolder) -> None:
    command = [sys.executable, "-c", CODE, str(own_reported.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Confusion matrix" in own_reported.report_file.read_text()
