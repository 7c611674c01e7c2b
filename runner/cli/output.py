"""Standard output and error that may go away: a closed terminal, a reader such as `head` that has seen enough."""

import errno
import io
import logging
import os
import sys
from typing import Any, TextIO, cast

from runner.cli.common import console
from runner.terminal.console import Console

log = logging.getLogger("runner.output")
_GONE = (errno.EPIPE, errno.EIO, errno.ENXIO, errno.EBADF)
_LOG_WIDTH = 140


class LastingStream:
    """A text stream that outlives its reader: from then on, what is written goes nowhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write while there is a reader."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._leave(error)
            return len(text)

    def flush(self) -> None:
        """Flush while there is a reader."""
        try:
            self._stream.flush()
        except OSError as error:
            self._leave(error)

    def _leave(self, error: OSError) -> None:
        """Put /dev/null in the stream's place: for what is in its buffer, for child processes and for Python's end."""
        if error.errno not in _GONE:
            raise error
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, self._stream.fileno())
        os.close(descriptor)
        log.info("%s cannot be written any more (%s): the command continues without it", self._stream.name, error)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's own."""
        return getattr(self._stream, name)


class LoggedConsole(Console):
    """A console that logs as plain text, too, what it prints."""

    def print(self, *objects: Any, **options: Any) -> None:
        """See `rich.console.Console.print`."""
        super().print(*objects, **options)
        plain = Console(file=io.StringIO(), width=_LOG_WIDTH, color_system=None)
        plain.print(*objects, **options)
        for line in cast(io.StringIO, plain.file).getvalue().splitlines():
            if line.strip():
                log.info("%s", line)


def logged_console() -> Console:
    """The user's terminal, like `console`, with all that is printed in the log as well."""
    plain = console()
    return LoggedConsole(width=None if plain.is_terminal else plain.width)


def make_lasting() -> None:
    """Keep commands running when the reader of their output is gone; calling it again changes nothing."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, LastingStream):
            setattr(sys, name, LastingStream(stream))
