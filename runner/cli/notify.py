"""A user's own command at the end of a sweep."""

import logging
import subprocess

TIMEOUT_S = 60.0

log = logging.getLogger(__name__)


def run(command: str, text: str, code: int) -> None:
    """Run a shell command with the end of a sweep; what becomes of it does not change the sweep's own.

    Args:
        command: as given on the command line.
        text: one line, as ``$1`` and on standard input; the shell never reads it as code.
        code: exit code of the sweep, as ``$2``.
    """
    try:
        done = subprocess.run(
            ["sh", "-c", command, "isotherm", text, str(code)], input=f"{text}\n", text=True, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("--notify: %s", error)
    else:
        if done.returncode:
            log.warning("--notify: the command ended with exit code %d", done.returncode)
