"""Errors of trackers, from the real library against a small server: which last, and what is said of them."""

import shutil
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runner.tracking.causes import WANDB, cause_of
from runner.tracking.mlflow_store import MlflowStore
from runner.tracking.mlflow_tracker import MlflowTarget


def failure(store: MlflowStore) -> Exception:
    with pytest.raises(Exception) as raised:  # noqa: PT011
        store.sweep("ledger", "quick", datetime.now(UTC), {})
    return raised.value


def test_what_mlflows_servers_answer(
    http_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in MlflowTarget().environment().items():
        monkeypatch.setenv(name, value)
    for status, body, said, lasting in (
        (401, b"who?", "refuses these credentials", True),
        (403, b'{"error_code": "PERMISSION_DENIED", "message": "no"}', "refuses these credentials", True),
        (403, b"Invalid Host header - possible DNS rebinding attack detected", "names of itself that it knows", True),
        (200, b"<html>Sign in</html>", "such as a sign-in page", True),
        (404, b"<html>not here</html>", "no MLflow API at this address", True),
        (400, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "bad"}', "refuses what it was sent", True),
        (
            400,
            b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "must be active, is in \'deleted\' state"}',
            "a run was deleted",
            False,
        ),
        (500, b"out of order", "a server error", False),
        (503, b"<html>not now</html>", "a server error", False),
    ):
        server = http_server(lambda *_, answer=(status, body): answer)
        store = MlflowStore(server.url, "isotherm", tmp_path / "mlflow.db")
        error = failure(store)
        cause = store.cause(error)
        assert cause is not None, error
        assert (cause.lasting, said in cause.message) == (lasting, True), (error, cause)
        assert store.explain(error).fix == cause.fix
    away = MlflowStore("http://127.0.0.1:9", "isotherm", tmp_path / "mlflow.db")
    cause = away.cause(failure(away))
    assert cause is not None
    assert (cause.lasting, cause.message) == (False, "it does not answer")


@pytest.mark.parametrize(
    ("version", "said", "fix"),
    [("ffffffffffff", "a newer MLflow", "another database"), ("bd07f7e963c5", "an older MLflow", "mlflow db upgrade")],
)
def test_a_database_of_another_mlflow(empty_mlflow: Path, tmp_path: Path, version: str, said: str, fix: str) -> None:
    database = tmp_path / "mlflow.db"
    shutil.copy(empty_mlflow, database)
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
    connection.close()
    store = MlflowStore(None, "isotherm", database)
    error = failure(store)
    assert said in store.explain(error).message
    assert fix in store.explain(error).fix
    cause = store.cause(error)
    assert cause is not None
    assert cause.lasting


@pytest.mark.parametrize(
    ("text", "said", "lasting"),
    [
        ("CommError: failed to upsert bucket: returned error 401: user is not logged in", "refuses this key", True),
        ("AuthenticationError: The API key you provided is either invalid", "refuses this key", True),
        ("UsageError: api_key not configured (no-tty). call wandb.login(key=[your_api_key])", "no key", True),
        ("CommError: returned error 404: project not found", "no such project", True),
        ("CommError: returned error 400: invalid project name", "refuses what it was sent", True),
        ("CommError: Run initialization has timed out after 30.0 sec", "does not answer", False),
        ("URLError: <urlopen error [Errno -3] Temporary failure in name resolution>", "does not answer", False),
        ("CommError: run 4ab401cd-5f403a not reached: connection refused", "does not answer", False),
    ],
)
def test_what_wandb_says(text: str, said: str, lasting: bool) -> None:
    cause = cause_of(text, WANDB)
    assert cause is not None
    assert (said in cause.message, cause.lasting) == (True, lasting)


def test_a_folder_that_cannot_be_written_is_no_refused_key() -> None:
    assert cause_of(PermissionError(13, "Permission denied", "runs/x/wandb"), WANDB) is None
