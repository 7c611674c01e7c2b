"""A real S3 server on loopback.

It lives in an environment of its own, which `make setup-storage` makes: its libraries would pin some of ours to older
versions. It keeps objects in memory, so one that is killed and started again has lost them all.
"""

import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[1]
SECRET = "Zm9yYmlkZGVuLXRleHQ"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "isotherm-test",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_EC2_METADATA_DISABLED": "true",
}


class S3Server:
    """A server with one empty bucket."""

    def __init__(self, folder: Path) -> None:
        command = ROOT / ".venv-s3" / "bin" / "moto_server"
        found = str(command) if command.exists() else shutil.which("moto_server")
        if found is None:
            pytest.skip("needs the S3 server that `make setup-storage` installs")
        self.folder = folder
        self._command, self._log = found, folder / "s3.log"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def uri(self) -> str:
        """Its bucket, as a storage path."""
        return f"s3://bucket/sweeps?scheme=http&endpoint_override=127.0.0.1:{self.port}&region=us-east-1"

    def start(self) -> None:
        """Start it, with an empty bucket."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._command, "-H", "127.0.0.1", "-p", str(self.port)], stdout=log, stderr=log
            )
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/bucket", method="PUT")
        deadline = time.monotonic() + 180
        while True:
            try:
                urllib.request.urlopen(request, timeout=10).close()
                return
            except OSError:
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.1)

    def hang(self) -> None:
        """Stop answering: connections are still accepted, by the kernel."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it, by its process id."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=30)
            self._process = None
