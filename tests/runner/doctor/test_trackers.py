"""Trackers, against real small servers on this host."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from runner.config.settings import Secrets, TrackingSpec, WandbEnvironment
from runner.doctor import trackers
from tests.servers import RawServer, drip, drip_heads

GOOD = "Basic " + base64.b64encode(b"ann:word").decode()
GOOD_KEY = "Basic " + base64.b64encode(b"api:key").decode()


class Handler(BaseHTTPRequestHandler):
    """MLflow's search and W&B's viewer, as far as they are asked; anything else is not found."""

    date = ""
    moved: ClassVar[list[str | None]] = []  # what came with requests that followed a redirect

    def do_GET(self) -> None:
        self.moved.append(self.headers.get("Authorization"))
        self.answer(200, {"experiments": []})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        given = self.headers.get("Authorization")
        if self.path == "/graphql":
            self.answer(200, {"data": {"viewer": {"username": "ann"} if given == GOOD_KEY else None}})
        elif self.path == "/open/api/2.0/mlflow/experiments/search" or given == GOOD:
            self.answer(200, {"experiments": []})
        elif self.path.startswith("/moved/"):
            self.answer(302, {}, Location="/elsewhere")
        elif self.path == "/closed/api/2.0/mlflow/experiments/search":
            self.answer(401, {})
        elif self.path.startswith("/signin/"):
            self.answer(200, "<html>Sign in</html>")
        elif self.path.startswith("/hosts/"):
            self.answer(403, "Invalid Host header - possible DNS rebinding attack detected")
        else:
            self.answer(404, {})

    def answer(self, status: int, body: dict[str, Any] | str, **headers: str) -> None:
        self.send_response_only(status)
        self.send_header("Date", self.date or self.date_time_string())
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def tracking(uri: str | None = None, mode: str = "offline") -> TrackingSpec:
    return TrackingSpec.model_validate({"mlflow": {"uri": uri}, "wandb": {"mode": mode}})


def test_local_trackers_are_not_asked(place: Any) -> None:
    assert [finding.level for finding in trackers.check(place)] == ["ok", "ok"]


def test_an_mlflow_server(one: Any, server: str) -> None:
    assert one(trackers.check, "MLflow", tracking=tracking(f"{server}/open")).level == "ok"
    found = one(trackers.check, "MLflow", tracking=tracking(f"{server}/closed"))
    assert found.level == "warn"
    assert "MLFLOW_TRACKING_USERNAME" in found.fix
    known = Secrets.model_validate({"mlflow_tracking_username": "ann", "mlflow_tracking_password": "word"})
    assert one(trackers.check, "MLflow", tracking=tracking(f"{server}/closed"), secrets=known).level == "ok"
    for path, what, fix in (
        ("nothing", "no MLflow API at this address (HTTP 404", "tracking.mlflow.uri"),
        ("signin", "a page of another program, such as a sign-in page", "behind the sign-in"),
        ("hosts", "accepts only names of itself that it knows", "--allowed-hosts"),
    ):
        found = one(trackers.check, "MLflow", tracking=tracking(f"{server}/{path}"))
        assert found.level == "warn"
        assert what in found.what
        assert fix in found.fix


def test_credentials_follow_no_redirect(one: Any, server: str) -> None:
    known = Secrets.model_validate({"mlflow_tracking_token": "canary"})
    found = one(trackers.check, "MLflow", tracking=tracking(f"{server}/moved"), secrets=known)
    assert found.level == "warn"
    assert "to '/elsewhere'; redirects are not followed" in found.what
    assert Handler.moved == []


def test_a_server_that_is_not_there(one: Any) -> None:
    found = one(trackers.check, "MLflow", tracking=tracking("http://127.0.0.1:9"))
    assert found.level == "warn"
    assert "refused" in found.what
    assert "isotherm sync" in found.why


@pytest.mark.parametrize("pieces", [drip, drip_heads])
def test_a_server_that_answers_a_byte_at_a_time(one: Any, monkeypatch: pytest.MonkeyPatch, pieces: Any) -> None:
    monkeypatch.setattr(trackers, "TIMEOUT_S", 1.0)
    slow = RawServer(pieces, 0.1)
    began = time.monotonic()
    found = one(trackers.check, "MLflow", tracking=tracking(slow.url))
    assert time.monotonic() - began < 10
    assert "timed out" in found.what
    slow.close()


def test_wandb(one: Any, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", server)
    online = tracking(mode="online")
    found = one(trackers.check, "W&B", tracking=online)
    assert "there is no WANDB_API_KEY" in found.what
    good = Secrets.model_validate({"wandb_api_key": "key"})
    assert one(trackers.check, "W&B", tracking=online, secrets=good).level == "ok"
    bad = Secrets.model_validate({"wandb_api_key": "another"})
    found = one(trackers.check, "W&B", tracking=online, secrets=bad)
    assert found.level == "warn"
    assert "another" not in f"{found}"
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert "refused" in one(trackers.check, "W&B", tracking=online, secrets=good).what


@pytest.mark.parametrize("mode", ["offline", "disabled", "dryrun", "ofline"])
@pytest.mark.parametrize("asked", ["auto", "online"])
def test_wandb_is_not_asked_where_its_own_switch_is_off(
    place: Any, server: str, monkeypatch: pytest.MonkeyPatch, mode: str, asked: str
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", server)
    monkeypatch.setattr(trackers, "_ask", lambda *_: pytest.fail("somebody was asked"))
    here = replace(
        place,
        tracking=tracking(mode=asked),
        wandb=WandbEnvironment(mode=mode),
        secrets=Secrets.model_validate({"wandb_api_key": "key"}),
    )
    assert {finding.level for finding in trackers.check(here)} == {"ok"}
    [said] = trackers.check_variables(here)
    assert mode in said.what
    assert said.level == ("ok" if asked == "auto" and mode != "ofline" else "warn")


def test_an_address_that_does_not_win_is_named(one: Any, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://everybody:5000")
    found = one(trackers.check_variables, "MLflow's address", tracking=tracking("http://127.0.0.1:9"))
    assert found.level == "warn"
    assert "http://127.0.0.1:9" in found.what
    same = replace(place, tracking=tracking("http://everybody:5000"))
    assert not list(trackers.check_variables(same))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert not list(trackers.check_variables(place))


def test_a_clock_that_differs(one: Any, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "date", "Mon, 01 Jan 2001 00:00:00 GMT")
    found = one(trackers.check, "clock", tracking=tracking(f"{server}/open"))
    assert found.level == "warn"
    assert found.what.startswith("this clock differs by +")
