"""The axis `data_fraction` in a real sweep: the report fits L(N, D)."""

import pytest

from runner.report.analysis.collect import collect
from runner.rundir.paths import RunPaths
from tests.integration.workplace import Workplace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SWEEP = """\
name: small
data: {source: sp500, tier: ohlcv}
task: {kind: threshold, context: 20}
model: {name: mlp}
training: {epochs: 1, global_batch: 128, lr: 1.0e-3}
grid:
  budget: [10k, 20k, 40k, 80k, 160k]
  horizon: [1]
  seed: [0]
  data_fraction: [0.3, 0.55, 1.0]
execution: {device: cpu, micro_batch: 128, threads: 1}
thermal: {require_sensors: false}
"""


def test_losses_are_fitted_by_parameters_and_samples(workplace: Workplace) -> None:
    workplace.write(SWEEP)
    workplace.run("sweep", "sweep.yaml", "--no-tracking")
    table = workplace.results()
    assert sorted(table["n_train"].unique()) == sorted(table.groupby("data_fraction")["n_train"].first())
    assert table["n_train"].nunique() == 3
    assert table["train_skill"].notna().all()
    collected = collect(RunPaths(workplace.folder / "runs" / "small"))
    (one,) = collected.verdicts
    assert len(one.series.trials) == 15
    if one.fits:  # whether there is anything to fit is for the data to say
        assert one.fit is not None
        assert one.fit.form == "L = E + A/N^alpha + B/D^beta"
        assert "compute (FLOP)" in {fit.variable for fit in collected.fits}
    gates = {found.partition(":")[0] for found in collected.gates}
    assert {"base rate", "distribution drift", "temperature sensors"} <= gates
