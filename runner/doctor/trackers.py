"""Can trackers be reached, and do they accept the credentials? Findings here never stop a sweep."""

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from runner.config.settings import MlflowEnvironment, wandb_base_url
from runner.doctor.context import HostContext
from runner.doctor.finding import Diagnosis, ok
from runner.tracking.causes import MLFLOW, WANDB, cause_of
from runner.tracking.http_limits import limit_answers

TIMEOUT_S = 5.0
MAX_BYTES = 100_000  # of an answer
LARGEST_SKEW_S = 120.0  # certificates and signed requests tolerate a few minutes
WHY = "the sweep runs all the same; what a tracker misses, `isotherm sync RUN` brings later"


@dataclass(frozen=True)
class _Answer:
    """What a server said: a status (0 = it could not be reached), in words, the body, and its clock against ours."""

    status: int
    words: str
    body: str = ""
    skew_s: float = 0.0

    def as_error(self) -> str:
        """The text by which its cause is known."""
        if self.status == 0:
            return self.words
        page = "; not in a valid JSON format" if self.status == 200 else ""
        return f"error code {self.status}{page}: {self.body}"


def check(place: HostContext) -> Iterator[Diagnosis]:
    """Ask each tracker that is on."""
    limit_answers()
    if place.tracking.mlflow is not None:
        yield from _mlflow(place, place.tracking.mlflow.uri)
    wandb = place.wandb.limit(place.tracking.wandb)
    if wandb is not None:
        yield from _wandb(place, wandb.mode)


def check_variables(place: HostContext) -> Iterator[Diagnosis]:
    """Report trackers' own environment variables where they disagree with the sweep. Nothing is sent anywhere."""
    named, mlflow = MlflowEnvironment().tracking_uri, place.tracking.mlflow
    if named and mlflow is not None and mlflow.uri != named:
        yield Diagnosis(
            check="MLflow's address",
            level="warn",
            what=f"MLFLOW_TRACKING_URI is set, and tracking.mlflow.uri wins: {mlflow.uri or 'the database in runs/'}",
            why="what is said for the sweep goes before what is said for all programs",
            fix="take one of them away",
        )
    mode, wandb = place.wandb.mode, place.tracking.wandb
    if wandb is None or place.wandb.limit(wandb) == wandb:
        return
    away = "off" if mode == "disabled" else "kept in files of the run's folder"
    if mode in ("disabled", "dryrun", "offline") and wandb.mode == "auto":
        yield ok("W&B's mode", f"WANDB_MODE is {mode}: W&B is {away}")
        return
    yield Diagnosis(
        check="W&B's mode",
        level="warn",
        what=f"WANDB_MODE is {mode!r}, tracking.wandb.mode is {wandb.mode}: W&B is {away}",
        why="WANDB_MODE can keep data on this host, and whatever it does not know counts as offline",
        fix="unset WANDB_MODE, or set tracking.wandb.mode to auto and WANDB_MODE to online, offline or disabled",
    )


def _mlflow(place: HostContext, uri: str | None) -> Iterator[Diagnosis]:
    if uri is None or urlsplit(uri).scheme not in ("http", "https"):
        yield ok("MLflow", uri or f"a database of this host: {place.runs / 'mlflow.db'}")
        return
    known = place.secrets
    headers = {"Content-Type": "application/json"}
    if not known.are_for(uri):
        pass  # they were set for MLFLOW_TRACKING_URI, which is another server
    elif known.mlflow_tracking_token is not None:
        headers["Authorization"] = f"Bearer {known.mlflow_tracking_token.get_secret_value()}"
    elif known.mlflow_tracking_username and known.mlflow_tracking_password is not None:
        headers["Authorization"] = _basic(known.mlflow_tracking_username, known.mlflow_tracking_password)
    url = f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search"
    answer = _ask(url, headers, {"max_results": 1})
    if answer.status == 200 and _json(answer.body) is not None:
        yield ok("MLflow", f"{uri} is reachable and accepts the credentials")
        yield from _skew("MLflow", answer)
        return
    cause = cause_of(answer.as_error(), MLFLOW)
    yield Diagnosis(
        check="MLflow",
        level="warn",
        what=f"{uri}: {cause.message if cause else 'it does not answer as an MLflow server does'} ({answer.words})",
        why=WHY,
        fix=cause.fix if cause else f"curl {uri.rstrip('/')}/health; start the server, or correct tracking.mlflow.uri",
    )


def _wandb(place: HostContext, mode: str) -> Iterator[Diagnosis]:
    key = place.secrets.wandb_api_key
    if mode == "offline" or (mode == "auto" and key is None):
        yield ok("W&B", "offline: files are kept in the run's folder")
        return
    if key is None:
        yield Diagnosis(
            check="W&B",
            level="warn",
            what="tracking.wandb.mode is online, and there is no WANDB_API_KEY",
            why=WHY,
            fix="put WANDB_API_KEY=... into .env, or set tracking.wandb.mode to auto",
        )
        return
    url = f"{wandb_base_url().rstrip('/')}/graphql"
    headers = {"Content-Type": "application/json", "Authorization": _basic("api", key)}
    answer = _ask(url, headers, {"query": "query { viewer { username } }"})
    if answer.status == 200 and _viewer(answer.body):
        yield ok("W&B", f"{url} answers and knows the key")
        yield from _skew("W&B", answer)
        return
    known = answer.status == 200 and _json(answer.body) is not None  # it answers, and knows no such user
    cause = cause_of("error code 401" if known else answer.as_error(), WANDB)
    yield Diagnosis(
        check="W&B",
        level="warn",
        what=f"{url}: {cause.message if cause else 'it does not answer as W&B does'} ({answer.words})",
        why=WHY,
        fix=cause.fix if cause else "look at the network and at WANDB_BASE_URL, or set tracking.wandb.mode to offline",
    )


def _json(body: str) -> Any:
    """What a JSON text says; None for anything else, such as a page."""
    try:
        return json.loads(body)
    except ValueError:
        return None


def _viewer(body: str) -> bool:
    try:
        return bool(_json(body)["data"]["viewer"])
    except (KeyError, TypeError):
        return False


def _skew(check: str, answer: _Answer) -> Iterator[Diagnosis]:
    if abs(answer.skew_s) > LARGEST_SKEW_S:
        yield Diagnosis(
            check="clock",
            level="warn",
            what=f"this clock differs by {answer.skew_s:+.0f} s from the one of {check}'s server",
            why="records are ordered by their time, and servers refuse requests from another time",
            fix="timedatectl set-ntp true",
        )


def _basic(user: str, password: SecretStr) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password.get_secret_value()}".encode()).decode()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: `urllib` would send the credentials along, to whatever server it leads to."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None: the redirect itself is the answer."""


_OPENER = urllib.request.build_opener(_NoRedirect)


def _ask(url: str, headers: dict[str, str], body: dict[str, object]) -> _Answer:
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with _OPENER.open(request, timeout=TIMEOUT_S) as response:
            date = response.headers.get("Date")
            skew_s = time.time() - parsedate_to_datetime(date).timestamp() if date else 0.0
            return _Answer(response.status, "OK", response.read(MAX_BYTES).decode(errors="replace"), skew_s)
    except urllib.error.HTTPError as error:
        with error:
            elsewhere = error.headers.get("Location") if 300 <= error.code < 400 else None
            away = f", to {elsewhere[:200]!r}; redirects are not followed" if elsewhere else ""
            said = error.read(MAX_BYTES).decode(errors="replace")
            return _Answer(error.code, f"HTTP {error.code} {error.reason}{away}", said)
    except (OSError, ValueError) as error:
        return _Answer(0, str(getattr(error, "reason", error)))
