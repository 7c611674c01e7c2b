"""One small sweep with a part of one's own of every other kind: the files of `examples/`, as a user names them."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.integration.workplace import Workplace

EXAMPLES = Path(__file__).parents[2] / "examples"
KINDS = ("tier", "metric", "baseline", "sensor", "tracker", "source")
SWEEP = """\
name: own
data: {source: sp500, tier: {name: momentum, span: 10}, splits: {train: 0.5, validation: 0.25, test: 0.25}}
task: {kind: direction, context: 10}
model: {name: mlp}
training: {epochs: 1, global_batch: 256, lr: 1.0e-3}
grid: {budget: [20k], horizon: [1], seed: [0]}
baselines: [prior, {name: neighbours, count: 50}]
metrics: [hit_rate, {name: top_precision, share: 0.2}]
execution: {device: cpu, threads: 1, micro_batch: 128}
thermal: {sensor: {name: file, path: celsius}}
tracking: {mlflow: null, wandb: null, others: [table]}
gates: {distribution_drift: "off", base_rate: "off"}
"""


@pytest.mark.slow
def test_a_sweep_with_parts_of_ones_own_of_every_kind(workplace: Workplace) -> None:
    workplace.write(SWEEP)
    (workplace.folder / "celsius").write_text("45")
    plugins = [word for kind in KINDS for word in ("--plugin", str(EXAMPLES / f"my_{kind}.py"))]
    workplace.run("sweep", "sweep.yaml", *plugins)
    run = workplace.folder / "runs" / "own"
    table = pd.read_parquet(run / "results.parquet").set_index("model")
    assert (table["status"] == "finished").all()
    assert set(table.index) == {"mlp", "prior", "neighbours"}
    assert table[["metric:val_hit_rate", "metric:test_top_precision_low"]].notna().all().all()
    assert table.loc["mlp", "max_celsius"] == 45.0
    assert {row["name"] for row in json.loads((run / "table.json").read_text())} == {
        "20k-h1-s0",
        "prior-h1",
        "neighbours-h1",
    }
    assert len(list((run / "plugins").iterdir())) == len(KINDS)
    assert r"val\_top\_precision" in (run / "report.md").read_text()
