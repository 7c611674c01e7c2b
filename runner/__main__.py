"""``python -m runner`` and the command `isotherm`: a signal ends it quietly in the second of imports, too."""

import os
import signal
import sys
from types import FrameType

STOPPED, BAD_INPUT = 3, 2


def _leave(_number: int, _frame: FrameType | None) -> None:
    os._exit(STOPPED)  # nothing was started, nothing is open


def main() -> None:
    """Run the command line. SIGTERM keeps its handler until the command has one of its own."""
    interrupt = signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGTERM, _leave)
    try:
        from runner.cli import main as command
    except Exception:
        _blame_shadows()
        raise
    signal.signal(signal.SIGINT, interrupt)
    command()


def _blame_shadows() -> None:
    """Where a user's file is in the place of a module that was to be imported, say so and end."""
    from runner.host import shadows

    if said := shadows.found():
        print("isotherm: it cannot be imported; nothing was started", *said, sep="\n  ", file=sys.stderr)
        print("      fix: rename what is named, or start isotherm from another folder", file=sys.stderr)
        sys.exit(BAD_INPUT)


if __name__ == "__main__":
    main()
