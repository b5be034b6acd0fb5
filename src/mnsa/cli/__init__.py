"""The command line: one verb, one call. torch is imported only after the arguments are valid."""

from mnsa.cli import check, data, export, layouts, report, runs, search, traits
from mnsa.cli.app import main

__all__ = ["check", "data", "export", "layouts", "main", "report", "runs", "search", "traits"]
