"""Servers that are down, die, are slow or out of order; drivers that die. Real processes on this machine."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
from pydantic import SecretStr

from runner.tracking.mlflow_tracker import MlflowTarget
from runner.tracking.tracker import TrackerQueue
from runner.tracking.wandb_tracker import WandbTarget
from tests.waiting import PATIENCE_S, wait_for

pytestmark = pytest.mark.slow
IN_TIME_S = 60.0  # for a process to end on a busy machine; nothing that hangs would

A, B = "a" * 12, "b" * 12
KEY = SecretStr("0123456789" * 4)


def shown_by(url: str) -> dict[str, Any]:
    """Children on an MLflow server: status and steps of val_loss, by key."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=url)
    experiment = client.get_experiment_by_name("isotherm")
    shown: dict[str, Any] = {}
    for run in client.search_runs([experiment.experiment_id]):
        key = run.data.tags.get("isotherm.key", "sweep")
        assert key not in shown, "a duplicate"
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "val_loss")]
        artifacts = [file.path for file in client.list_artifacts(run.info.run_id)]
        shown[key] = (run.info.status, steps, artifacts)
    return shown


def test_an_mlflow_server_that_starts_late_and_is_killed(story: Any, mlflow_server: Any) -> None:
    queue = TrackerQueue(MlflowTarget(uri=mlflow_server.url), story.paths)
    story.sweep(A, B)
    for key in (A, B):
        story.cell(key)
        story.attempt(key)
        story.metrics(key, 10)
        queue.start()
    wait_for(lambda: queue._errors)  # down at start
    mlflow_server.start()
    wait_for(lambda: queue._status.delivered == 7)
    mlflow_server.kill()  # in mid-sweep
    story.metrics(A, 20)
    queue.start()
    story.end(A)
    queue.start()
    time.sleep(3)
    story.metrics(B, 20)
    queue.start()
    mlflow_server.start()
    wait_for(lambda: queue._status.delivered == 10)
    story.end(B, "interrupted")
    story.sweep_end(3)
    queue.start()
    report = queue.close(PATIENCE_S)
    assert (report.delivered, report.pending) == (12, 0)
    assert shown_by(mlflow_server.url) == {
        "sweep": ("KILLED", [], ["sweep.json"]),
        A: ("FINISHED", [10, 20], ["result.json", "spec.json"]),
        B: ("KILLED", [10, 20], ["spec.json"]),
    }
    story.sweep(A, B)  # resumed by another driver
    story.attempt(B, 2)
    story.metrics(B, 20, 2)
    story.metrics(B, 30, 2)
    story.end(B, attempt=2)
    later = TrackerQueue(MlflowTarget(uri=mlflow_server.url), story.paths)
    story.sweep_end()
    later.start()
    assert later.close(PATIENCE_S).pending == 0
    assert shown_by(mlflow_server.url) == {
        "sweep": ("FINISHED", [], ["sweep.json"]),
        A: ("FINISHED", [10, 20], ["result.json", "spec.json"]),
        B: ("FINISHED", [10, 20, 30], ["result.json", "spec.json"]),
    }


def test_a_slow_mlflow_server_gets_everything_once(
    story: Any, mlflow_server: Any, http_server: Callable[..., Any]
) -> None:
    mlflow_server.start()
    calls: list[str] = []

    def slowly(method: str, path: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        calls.append(path)
        time.sleep(0.8)
        passed_on = {name: headers[name] for name in ("Content-Type",) if headers[name]}
        request = Request(mlflow_server.url + path, data=body or None, method=method, headers=passed_on)
        try:
            with urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            return error.code, error.read()

    queue = TrackerQueue(MlflowTarget(uri=http_server(slowly).url), story.paths)
    story.sweep(A)
    story.cell(A)
    story.attempt(A)
    queue.start()
    slowest = 0.0
    for step in range(100):
        story.metrics(A, step)
        began = time.perf_counter()
        queue.start()
        slowest = max(slowest, time.perf_counter() - began)
        time.sleep(0.05)
    assert slowest < 0.1
    story.end(A)
    story.sweep_end()
    queue.start()
    report = queue.close(PATIENCE_S)
    assert report.pending == 0
    assert len(calls) < 60  # metrics that piled up went together
    assert shown_by(mlflow_server.url)[A] == ("FINISHED", list(range(100)), ["result.json", "spec.json"])


@pytest.mark.parametrize(
    ("what", "said"), [("500", "it returns a server error"), ("sleeps 10 s", None), ("nonsense", "MLflow")]
)
def test_a_server_out_of_order_holds_up_nobody(
    what: str, said: str | None, story: Any, http_server: Callable[..., Any]
) -> None:
    def answer(method: str, path: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        if what == "sleeps 10 s":
            time.sleep(10)
        return (500, b"out of order") if what == "500" else (200, b"<html>hello</html>")

    queue = TrackerQueue(MlflowTarget(uri=http_server(answer).url), story.paths)
    story.whole()
    story.sweep_end()
    queue.start()
    wait_for(lambda: queue._process is not None)
    if said:
        wait_for(lambda: queue._errors)
    else:
        time.sleep(5)
    began = time.monotonic()
    report = queue.close(3)
    assert time.monotonic() - began < 9, "before the server has answered"
    assert (report.delivered, report.pending) == (0, 20)
    assert len(report.errors) == (1 if said else 0)
    assert all(said in error for error in report.errors if said)
    wait_for(lambda: queue._process.poll() is not None, IN_TIME_S)


def test_wandb_online_then_away_then_back(story: Any, wandb_server: Callable[..., Any], monkeypatch: Any) -> None:
    server = wandb_server()
    port = server.http.port
    target = WandbTarget(mode="auto", api_key=KEY)
    queue = TrackerQueue(target, story.paths)
    story.sweep(A, B)
    story.cell(A)
    story.cell(B)
    story.attempt(A)
    story.metrics(A, 10)
    story.metrics(A, 20)
    story.end(A, "interrupted")
    queue.start()
    wait_for(lambda: queue._status.delivered == 7)
    run_id = next(iter(server.runs))
    assert run_id.endswith(A)
    assert [row["step"] for row in server.rows(run_id)] == [10, 20]
    server.http.close()  # unreachable
    story.attempt(A, 2)
    story.metrics(A, 20, 2)
    story.metrics(A, 30, 2)
    queue.start()
    wait_for(lambda: queue._errors)
    assert "it does not answer" in queue._errors[0]
    runs = server.runs
    server = wandb_server(port)
    server.runs = runs
    story.end(A, attempt=2)
    story.sweep_end()
    queue.start()
    report = queue.close(PATIENCE_S)
    assert report.pending == 0
    assert list(server.runs) == [run_id, run_id.replace(A, "sweep")]
    assert [row["step"] for row in server.rows(run_id)] == [10, 20, 30]
    assert [row["_step"] for row in server.rows(run_id)] == [0, 1, 2]
    summary = json.loads(server.runs[run_id]["summary"])
    assert (summary["status"], summary["val_loss"], summary["attempts"]) == ("finished", 0.61, 2)
    assert server.runs[run_id]["exit_code"] == 0
    assert server.runs[run_id]["groupName"] == "quick"

    again = TrackerQueue(target, story.paths)  # as `isotherm sync` does
    again.start()
    assert again.close(PATIENCE_S).pending == 0
    assert len(server.rows(run_id)) == 3
    assert len([path for path in story.paths.wandb.iterdir() if path.is_dir()]) == 2


def test_wandb_offline_first_and_online_later(story: Any, wandb_server: Callable[..., Any], wandb_bench: Any) -> None:
    story.whole()
    wandb_bench.deliver()
    server = wandb_server()
    queue = TrackerQueue(WandbTarget(mode="auto", api_key=KEY), story.paths)
    queue.start()
    assert queue.close(PATIENCE_S).pending == 0
    assert {run_id.rsplit("-", 1)[1] for run_id in server.runs} == {A, B, "sweep"}
    rows = {run_id.rsplit("-", 1)[1]: server.rows(run_id) for run_id in server.runs}
    assert [row["step"] for row in rows[A]] == [10, 20, 30, 40]


@pytest.mark.parametrize(("key", "said"), [(None, "there is no key for the online mode"), (KEY, "it refuses this key")])
def test_wandb_without_access_says_so(
    key: SecretStr | None, said: str, story: Any, http_server: Callable[..., Any], monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    refuse = http_server(lambda *_: (401, b'{"errors": [{"message": "user is not logged in", "code": 401}]}'))
    monkeypatch.setenv("WANDB_BASE_URL", refuse.url)
    queue = TrackerQueue(WandbTarget(mode="online", api_key=key), story.paths)
    story.whole()
    queue.start()
    wait_for(lambda: queue._errors)
    report = queue.close(3)
    assert len(report.errors) == 1
    assert said in report.errors[0]
    assert not list(story.paths.wandb.glob("*run-*"))


def test_wandb_that_never_answers_does_not_hold_up_the_end(story: Any, wandb_server: Callable[..., Any]) -> None:
    server = wandb_server()
    queue = TrackerQueue(WandbTarget(api_key=KEY), story.paths)
    story.sweep(A)
    story.cell(A)
    story.attempt(A)
    story.metrics(A, 10)
    queue.start()
    wait_for(lambda: queue._status.delivered == 4)
    server.http.close()  # with a run open
    story.metrics(A, 20)
    queue.start()
    story.end(A)
    story.sweep_end()
    queue.start()
    report = queue.close(4)
    assert report.pending > 0
    wait_for(lambda: not wandb_processes(queue._process.pid), IN_TIME_S)


def wandb_processes(parent: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "wandb-core" in " ".join(words) and str(parent) in words:
            found.append(process)
    return found


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def test_a_process_ends_when_its_driver_is_killed_while_closing(story: Any) -> None:
    story.whole()
    script = (
        f"from pathlib import Path\nfrom runner.rundir.paths import RunPaths\n"
        f"from runner.tracking.mlflow_tracker import MlflowTarget\nfrom runner.tracking.tracker import TrackerQueue\n"
        f"target = MlflowTarget(uri='http://127.0.0.1:9')\n"
        f"queue = TrackerQueue(target, RunPaths(Path({str(story.paths.root)!r})))\n"
        f"queue.start()\nwhile queue._process is None: pass\n"
        f"print(queue._process.pid, flush=True)\nqueue.close(600)\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    pid = int(driver.stdout.readline())
    time.sleep(2)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    wait_for(lambda: has_ended(pid), IN_TIME_S)


# To close its runs takes a process of a busy host longer than the 5 s that it has without a driver.
PATIENT = """\
import subprocess
start = subprocess.Popen
def patient(command, **options):
    if command[-2:] == ["-m", "runner.tracking.worker"]:
        code = f"from runner.tracking import worker; worker.ORPHANED_S = {PATIENCE}; worker.main()"
        command = [*command[:-2], "-c", code]
    return start(command, **options)
subprocess.Popen = patient
""".replace("{PATIENCE}", str(PATIENCE_S))


@pytest.mark.parametrize("kind", ["mlflow", "wandb"])
def test_a_process_ends_when_its_driver_is_killed(kind: str, story: Any, make_bench: Any) -> None:
    bench = make_bench(kind, story.paths)
    story.sweep(A)
    story.cell(A)
    story.attempt(A)
    story.metrics(A, 10)
    target = "mlflow_tracker import MlflowTarget" if kind == "mlflow" else "wandb_tracker import WandbTarget"
    script = (
        f"import sys, time\n{PATIENT}\nfrom pathlib import Path\nfrom runner.rundir.paths import RunPaths\n"
        f"from runner.tracking.{target} as Target\nfrom runner.tracking.tracker import TrackerQueue\n"
        f"queue = TrackerQueue(Target(), RunPaths(Path({str(story.paths.root)!r})))\nqueue.start()\n"
        f"while queue._status.delivered < 4: time.sleep(0.1)\nprint(queue._process.pid, flush=True)\ntime.sleep(600)\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    pid = int(driver.stdout.readline())
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    driver.stdout.close()
    wait_for(lambda: has_ended(pid))
    wait_for(lambda: not wandb_processes(pid), IN_TIME_S)
    assert bench.shown()[A].metrics["val_loss"][0][0] == 10
    assert not bench.shown()[A].open


def test_signals_for_the_driver_leave_the_tracker_alone(story: Any, wandb_bench: Any) -> None:
    queue = TrackerQueue(WandbTarget(), story.paths)
    story.sweep(A)
    story.cell(A)
    story.attempt(A)
    story.metrics(A, 10)
    queue.start()
    wait_for(lambda: queue._status.delivered == 4)
    assert queue._process is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        queue._process.send_signal(number)
    story.metrics(A, 20)
    story.end(A, "interrupted")
    queue.start()
    report = queue.close(PATIENCE_S)
    assert (report.pending, report.errors) == (0, ())
    assert [step for step, _ in wandb_bench.shown()[A].metrics["val_loss"]] == [10, 20]


def test_a_process_that_hangs_is_ended_in_time(story: Any) -> None:
    queue = TrackerQueue(WandbTarget(), story.paths)
    story.sweep(A)
    queue.start()
    wait_for(lambda: queue._status.delivered == 1)
    assert queue._process is not None
    queue._process.send_signal(signal.SIGSTOP)
    story.cell(A)
    story.attempt(A)
    queue.start()
    report = queue.close(2)
    assert report.pending == 2
    wait_for(lambda: queue._process.poll() is not None, IN_TIME_S)


def test_a_run_folder_named_like_a_library_does_no_harm(tmp_path: Path, new_story: Any, make_bench: Any) -> None:
    from runner.rundir.paths import RunPaths

    paths = RunPaths(tmp_path / "runs" / "wandb")
    paths.root.mkdir(parents=True)
    (tmp_path / "runs" / "json.py").write_text("raise SystemExit('imported from the runs folder')\n")
    new_story(paths).whole()
    queue = TrackerQueue(WandbTarget(), paths)
    queue.start()
    assert queue.close(PATIENCE_S).pending == 0
    assert len(make_bench("wandb", paths).shown()) == 2
