"""Servers on this machine: a real MLflow, and stand-ins for W&B and for servers out of order."""

import gzip
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests.waiting import PATIENCE_S


class HttpServer:
    """A server on a free port of this machine. `answer` gets the method, path, headers and body."""

    def __init__(self, answer: Callable[[str, str, Any, bytes], tuple[int, bytes]], port: int = 0) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                status, body = answer(self.command, self.path, self.headers, read_body(self))
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    self.close_connection = True  # the client has given up

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that was killed

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class RawServer:
    """A server that answers every connection with pieces of bytes, with a pause between them."""

    def __init__(self, pieces: Callable[[], Iterator[bytes]], pause_s: float = 0.0) -> None:
        self._pieces, self._pause_s = pieces, pause_s
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.asked = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            self.asked += 1
            try:
                for piece in self._pieces():
                    connection.sendall(piece)
                    time.sleep(self._pause_s)
            except OSError:
                return

    def close(self) -> None:
        self._listening.close()


def drip() -> Iterator[bytes]:
    """An honest head, then a body that takes minutes."""
    yield HEAD + b"Content-Length: 1000\r\n\r\n"
    for _ in range(1000):
        yield b"x"


def drip_heads() -> Iterator[bytes]:
    """A head that takes minutes."""
    yield HEAD
    for number in range(1000):
        yield b"X-%d: y\r\n" % number


def endless() -> Iterator[bytes]:
    """A body without end."""
    yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"100000\r\n" + 0x100000 * b"x" + b"\r\n"


def bomb() -> Iterator[bytes]:
    """32 MB that unpack to 32 GB."""
    member = gzip.compress(bytes(32 * 2**20))
    yield HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % (1000 * len(member))
    for _ in range(1000):
        yield member


def read_body(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers.get("Transfer-Encoding") == "chunked":
        body = b""
        while size := int(handler.rfile.readline(), 16):
            body += handler.rfile.read(size)
            handler.rfile.readline()
        handler.rfile.readline()
    else:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    return gzip.decompress(body) if handler.headers.get("Content-Encoding") == "gzip" else body


class WandbServer:
    """As much of W&B's server as its client needs: runs, their histories and summaries."""

    def __init__(self, port: int = 0) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.http = HttpServer(self.answer, port)

    def rows(self, run_id: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.runs[run_id]["history"]]

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        request = json.loads(body) if body.startswith(b"{") else {}
        query, variables = request.get("query", ""), request.get("variables") or {}
        answer: dict[str, Any] = {}
        if "UpsertBucket" in query:
            answer = {"data": {"upsertBucket": {"bucket": self.upsert(variables), "inserted": True}}}
        elif "RunResumeStatus" in query:
            bucket = self.bucket(variables["name"]) if variables["name"] in self.runs else None
            entity = {"id": "e", "name": "team"}
            answer = {"data": {"model": {"id": "p", "name": "isotherm", "entity": entity, "bucket": bucket}}}
        elif "CreateRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.http.url}/upload"} for name in variables["files"]]
            answer = {"data": {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}}
        elif path.endswith("/file_stream"):
            self.take(path.split("/")[-2], request)
        return 200, json.dumps(answer).encode()

    def upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        fresh = {"history": [], "summary": "{}", "config": "{}", "exit_code": None}
        run = self.runs.setdefault(variables["name"], fresh)
        run.update({name: value for name, value in variables.items() if value is not None})
        return self.bucket(variables["name"])

    def bucket(self, name: str) -> dict[str, Any]:
        run = self.runs[name]
        project = {"id": "p", "name": "isotherm", "entity": {"id": "e", "name": "team"}}
        return {
            "id": name,
            "name": name,
            "displayName": run.get("displayName"),
            "description": None,
            "sweepName": None,
            "project": project,
            "config": run["config"],
            "summaryMetrics": run["summary"],
            "historyLineCount": len(run["history"]),
            "historyTail": json.dumps(run["history"][-1:]),
            "logLineCount": 0,
            "eventsLineCount": 0,
            "eventsTail": "[]",
            "tags": [],
            "notes": None,
            "wandbConfig": '{"t": 1}',
        }

    def take(self, run_id: str, request: dict[str, Any]) -> None:
        run = self.runs[run_id]
        files = request.get("files") or {}
        if chunk := files.get("wandb-history.jsonl"):
            run["history"][chunk["offset"] :] = chunk["content"]
        if chunk := files.get("wandb-summary.json"):
            run["summary"] = chunk["content"][-1]
        if request.get("complete"):
            run["exit_code"] = request.get("exitcode")


def free_port() -> int:
    """A port below those that the kernel gives to others, such as to Ray's processes, before it is used here."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class MlflowServer:
    """A real MLflow server, in a process of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.url, self.port, self._folder = f"http://127.0.0.1:{port}", port, folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self._folder / 'server.db'}", "--workers", "1"]
        command += ["--artifacts-destination", str(self._folder / "server-artifacts")]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=self._folder)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                urlopen(f"{self.url}/health", timeout=1).close()
                return
            except (OSError, HTTPException):
                time.sleep(0.2)
        raise TimeoutError((self._folder / "server.log").read_text())

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)  # the server and its own workers
            self._process.wait()
            self._process = None
