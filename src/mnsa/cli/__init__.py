"""The command line: one file per verb. torch is imported only after the arguments are valid."""

from mnsa.cli.app import main

__all__ = ["main"]
