"""`python -m mnsa` is `mnsa`."""

from mnsa.cli import main

main()
