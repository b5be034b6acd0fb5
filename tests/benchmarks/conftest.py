"""The benchmarks are scripts that import each other by bare name, as Python does when one of them is run."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
