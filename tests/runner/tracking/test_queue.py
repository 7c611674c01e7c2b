"""The queue with its process: the driver is never held up, and what it does not deliver it says."""

import logging
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import SecretStr

from runner.config.settings import Secrets
from runner.rundir.paths import RunPaths
from runner.tracking.callbacks import MlflowCallback, WandbCallback
from runner.tracking.mlflow_tracker import MlflowTarget
from runner.tracking.tracker import TrackerQueue, close_all
from runner.tracking.wandb_tracker import WandbTarget
from tests.integration.workplace import command_line
from tests.waiting import PATIENCE_S, wait_for

A, B = "a" * 12, "b" * 12
SECRET = "5ent1nel" * 5  # the form of a W&B key: 40 letters and digits


def process_of(queue: TrackerQueue) -> psutil.Process:
    me = psutil.Process()
    for _ in range(200):
        for child in me.children():
            if queue._process and child.pid == queue._process.pid and "runner.tracking.worker" in command_line(child):
                return child
        time.sleep(0.05)
    raise AssertionError("no process")


def test_both_trackers_from_records_to_report(
    story: Any, mlflow_bench: Any, make_bench: Any, caplog: pytest.LogCaptureFixture
) -> None:
    queues = [TrackerQueue(MlflowTarget(), story.paths), TrackerQueue(WandbTarget(), story.paths)]
    appended = story.ledger.append

    def append_and_start(record: Any) -> Any:
        numbered = appended(record)
        for queue in queues:
            queue.start()
        return numbered

    story.ledger.append = append_and_start
    story.whole()
    reports = close_all(queues, PATIENCE_S)
    assert [(report.name, report.delivered, report.pending, report.errors) for report in reports] == [
        ("mlflow", 19, 0, ()),
        ("wandb", 19, 0, ()),
    ]
    wandb_bench = make_bench("wandb", story.paths)
    for bench in (mlflow_bench, wandb_bench):
        assert [step for step, _ in bench.shown()[A].metrics["val_loss"]] == [10, 20, 30, 40]
        assert not any(shown.open for shown in bench.shown().values())
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert not [one for one in psutil.Process().children(recursive=True) if "tracking.worker" in command_line(one)]


def test_a_dead_server_delays_nobody(story: Any, caplog: pytest.LogCaptureFixture) -> None:
    queue = TrackerQueue(MlflowTarget(uri="http://127.0.0.1:9"), story.paths)
    story.whole()
    for _ in range(3):
        story.event("x")
    for _ in range(10_000):
        queue.start()
    wait_for(lambda: queue._errors)
    report = queue.close(2.0)
    assert (report.delivered, report.pending) == (0, 22)
    (error,) = report.errors
    assert error == (
        "mlflow: MLflow at http://127.0.0.1:9: it does not answer\n"
        "    fix: start it, or correct tracking.mlflow.uri; what is missing is sent when it is reachable, "
        "or later by `isotherm sync`"
    )
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == [
        error,
        f"mlflow: 22 of 22 records have not arrived\n    fix: isotherm sync {story.paths.root}",
    ]


def test_a_killed_process_is_replaced(story: Any, wandb_bench: Any) -> None:
    queue = TrackerQueue(WandbTarget(), story.paths)
    story.sweep(A)
    story.cell(A)
    story.attempt(A)
    story.metrics(A, 10)
    queue.start()
    wait_for(lambda: queue._status.delivered >= 4)
    process_of(queue).kill()
    story.metrics(A, 20)
    queue.start()
    story.end(A)
    story.sweep_end()
    queue.start()
    report = queue.close(PATIENCE_S)
    assert (report.delivered, report.pending) == (7, 0)
    assert len(report.errors) == 1
    assert "it ended with code -9" in report.errors[0]
    assert [step for step, _ in wandb_bench.shown()[A].metrics["val_loss"]] == [10, 20]


def test_without_records_there_is_no_process(paths: RunPaths) -> None:
    queue = TrackerQueue(MlflowTarget(), paths)
    report = queue.close(5)
    assert (report.delivered, report.pending) == (0, 0)
    assert not paths.logs.exists()


def test_after_closing_nothing_is_taken(story: Any) -> None:
    queue = TrackerQueue(WandbTarget(), story.paths)
    queue.close(1)
    story.sweep(A)
    queue.start()
    assert queue.close(1).pending == 1


# ---- callbacks and secrets --------------------------------------------------------------------------------------


def callbacks(paths: RunPaths, uri: str | None = None) -> list[Any]:
    secrets = Secrets(
        wandb_api_key=SecretStr(SECRET),
        mlflow_tracking_username="somebody",
        mlflow_tracking_password=SecretStr(SECRET),
        mlflow_tracking_token=None,
    )
    return [MlflowCallback(uri).of_sweep(secrets, paths), WandbCallback().of_sweep(secrets, paths)]


def test_a_pickled_callback_holds_no_secret_and_is_harmless(story: Any) -> None:
    for callback in callbacks(story.paths):
        dumped = pickle.dumps(callback)
        assert SECRET.encode() not in dumped
        copy = pickle.loads(dumped)
        copy.on_trial_result(1, [], None, {})  # a callback that raises ends the experiment
        assert copy.queue is None


def test_a_callback_that_fails_does_not_raise(caplog: pytest.LogCaptureFixture) -> None:
    callback = MlflowCallback()
    callback.on_trial_start(1, [], None)
    assert "MlflowCallback failed and does nothing more; the experiment continues" in caplog.text


def test_secrets_are_in_no_repr(paths: RunPaths) -> None:
    target = MlflowTarget(password=SecretStr(SECRET))
    assert SECRET not in repr(target) + str(target) + target.model_dump_json()
    assert SECRET not in repr(WandbTarget(api_key=SecretStr(SECRET)))


def test_secrets_reach_the_server_and_no_file(
    story: Any,
    tmp_path: Path,
    http_server: Callable[..., Any],
    wandb_server: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []

    def refuse(method: str, path: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        seen.append(headers["Authorization"])
        return 401, b'{"error_code": "UNAUTHENTICATED", "message": "no"}'

    server = wandb_server()
    mlflow, wandb = callbacks(story.paths, http_server(refuse).url)
    story.sweep(A)
    story.cell(A)
    story.attempt(A)
    story.metrics(A, 10)
    for callback in (mlflow, wandb):
        callback.on_trial_result(1, [], None, {})
    wait_for(lambda: mlflow.queue._errors and wandb.queue._status.delivered == 4)
    lines = [line for queue in (mlflow.queue, wandb.queue) for line in process_of(queue).cmdline()]
    environments = [process_of(queue).environ() for queue in (mlflow.queue, wandb.queue)]
    reports = close_all([mlflow.queue, wandb.queue], 60)
    assert seen[0].startswith("Basic ")
    assert "it refuses these credentials" in reports[0].errors[0]
    assert reports[1].pending == 0
    assert len(server.runs) == 1
    assert SECRET not in " ".join(lines) + str(environments) + caplog.text + str(reports) + "".join(capfd.readouterr())
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
