"""Metrics of ours on the page that Prometheus reads: a real Ray, scraped over HTTP."""

from collections.abc import Iterator
from contextlib import suppress
from urllib.request import urlopen

import pytest

from runner.rundir.ledger import CellRecorded, LedgerView, SweepStarted
from tests.servers import free_port
from tests.waiting import wait_for

pytest.importorskip("opencensus", reason="Ray without its extra `default` has no page: pip install isotherm[cluster]")
pytestmark = pytest.mark.slow


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The page of a Ray of this process's own."""
    import ray

    port = free_port()
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    ray.init(num_cpus=1, _metrics_export_port=port, include_dashboard=False, object_store_memory=100 << 20)
    yield f"http://127.0.0.1:{port}/metrics"
    ray.shutdown()


def test_prometheus_reads_the_trials_of_a_sweep(address: str) -> None:
    from runner.tune.metrics import RayMetrics

    view, metrics = LedgerView(), RayMetrics("first")
    for seq, record in enumerate((
        SweepStarted(run="first", keys=("a" * 12,), config={}, code_version="1", versions={}),
        CellRecorded(key="a" * 12, name="a", labels={}, sizes={}, spec={}),
    )):  # fmt: skip
        numbered = record.model_copy(update={"seq": seq})
        view.apply(numbered)
        metrics.on_record(numbered, view)
    lines: list[str] = []

    def shown() -> bool:
        with suppress(OSError):
            page = urlopen(address, timeout=5).read().decode()
            lines.extend(line for line in page.splitlines() if line.startswith("ray_isotherm_trials{"))
        return bool(lines)

    wait_for(shown)
    [waiting] = [line for line in lines if 'state="waiting"' in line]
    assert 'run="first"' in waiting
    assert waiting.split()[-1] == "1.0"
