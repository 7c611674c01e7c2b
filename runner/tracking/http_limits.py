"""What a server may answer: so many bytes, within so much time.

A client's time limit holds for each piece that arrives: a server that sends a byte a second, or never ends, keeps a
client for hours or fills its memory. `urllib.request`, requests and urllib3 all read by `http.client`.
"""

import http.client
import io
import socket
import time
from typing import Any

MAX_BYTES = 64 * 2**20  # a page of 1,000 MLflow runs with their parameters has about 10 MB


class _Limited(io.RawIOBase):
    """The bytes that arrive on a socket, until there are too many or the socket's own time limit is over in all."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._socket = sock
        self._timeout_s = sock.gettimeout()
        self._deadline = float("inf") if self._timeout_s is None else time.monotonic() + self._timeout_s
        self._left = MAX_BYTES

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, buffer: Any) -> int | None:
        if self._timeout_s is not None:
            rest_s = self._deadline - time.monotonic()
            if rest_s <= 0:
                raise TimeoutError(f"timed out: the answer was not complete after {self._timeout_s:g} s")
            self._socket.settimeout(rest_s)
        try:
            count: int | None = self._raw.readinto(buffer)
        finally:
            self._socket.settimeout(self._timeout_s)
        self._left -= count or 0
        if self._left < 0:
            raise OSError(f"the answer is longer than {MAX_BYTES // 2**20} MiB")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _LimitedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *positional: Any, **named: Any) -> None:
        super().__init__(sock, *positional, **named)
        self.fp = io.BufferedReader(_Limited(self.fp.detach(), sock))


def limit_answers() -> None:
    """From now on, every answer in this process is limited."""
    http.client.HTTPConnection.response_class = _LimitedResponse
