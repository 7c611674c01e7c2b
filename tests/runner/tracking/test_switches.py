"""W&B's own switch, WANDB_MODE: with a key set, nobody is connected to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.config.settings import TrackingSpec, WandbEnvironment, WandbSpec
from runner.tracking import session
from tests.servers import WandbServer


@pytest.mark.parametrize(
    ("asked", "mode"),
    [("auto", ""), ("online", "online"), ("online", "offline"), ("auto", "disabled"), ("auto", "Offline")],
)
def test_a_key_does_not_overrule_the_switch(
    story: Any, http_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: str, asked: str
) -> None:
    seen: list[str] = []
    wandb = WandbServer()

    def answer(method: str, path: str, headers: Any, body: bytes) -> tuple[int, bytes]:
        seen.append(path)
        return wandb.answer(method, path, headers, body)

    monkeypatch.setenv("WANDB_BASE_URL", http_server(answer).url)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_API_KEY", 40 * "k")
    monkeypatch.setenv("WANDB_MODE", mode)
    story.whole()
    started = session.make(TrackingSpec(mlflow=None, wandb=WandbSpec(mode=asked)), story.paths)
    for callback in started:
        callback.queue.start()
    reports = session.close(started, 40)
    wandb.http.close()
    may_leave = mode in ("", "online")
    assert bool(seen) == may_leave, seen
    assert bool(reports) == (mode != "disabled")
    assert all(report.pending == 0 for report in reports), reports
    assert bool(list(story.paths.wandb.glob("offline-run-*"))) == (mode in ("offline", "Offline"))


def test_the_switch_only_ever_keeps_data_here() -> None:
    offline = WandbSpec(mode="offline")
    for mode in ("", "online", "shared", "offline", "dryrun", "anything"):
        assert WandbEnvironment(mode=mode).limit(offline) == offline
    assert WandbEnvironment(mode="disabled").limit(offline) is None
    assert WandbEnvironment(mode="online").limit(None) is None
