"""``python -m runner`` and the command `isotherm`: a signal ends it quietly in the second of imports, too."""

import os
import signal
from types import FrameType

STOPPED = 3


def _leave(_number: int, _frame: FrameType | None) -> None:
    os._exit(STOPPED)  # nothing was started, nothing is open


def main() -> None:
    """Run the command line. SIGTERM keeps its handler until the command has one of its own."""
    interrupt = signal.signal(signal.SIGINT, _leave)
    signal.signal(signal.SIGTERM, _leave)
    from runner.cli import main as command

    signal.signal(signal.SIGINT, interrupt)
    command()


if __name__ == "__main__":
    main()
