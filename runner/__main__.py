"""``python -m runner``: the same as the command `isotherm`."""

from runner.cli import main

main()
