"""The command line: one verb, one call. torch is imported only after the arguments are valid."""

from mnsa.cli import calibrate, check, data, export, layouts, report, runs, search, serve, traits
from mnsa.cli.app import main

__all__ = ["calibrate", "check", "data", "export", "layouts", "main", "report", "runs", "search", "serve", "traits"]
