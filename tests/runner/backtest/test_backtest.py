"""Positions earn the next bar's move, cost what they trade, and are read against luck and buy and hold."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from runner.backtest import returns
from runner.backtest import run as backtests
from runner.cli import app
from runner.report.build import build
from runner.rundir import backtest
from runner.rundir.paths import RunPaths
from tests.finished import SWEEP, finished_run

OPENS = np.array([100.0, 110.0, 99.0, 99.0, 108.9])


def test_a_position_earns_the_move_between_the_next_two_opens() -> None:
    assert returns.net(np.array([1.0, 0, 1, 1, 1]), OPENS, 0) == pytest.approx([-0.1, 0, 0.1])
    costly = returns.net(np.array([1.0, 0, 1, 1, 1]), OPENS, 100)
    assert costly == pytest.approx([-0.11, -0.01, 0.09]), "entry, exit and entry cost 1 % each"


def test_drawdown_is_the_largest_fall_from_a_peak() -> None:
    assert returns.drawdown(np.array([0.1, -0.5, 0.2])) == pytest.approx(0.5)
    assert returns.drawdown(np.array([0.1, 0.2])) == 0


def test_more_trials_deflate_a_sharpe_ratio() -> None:
    random = np.random.default_rng(0)
    found = random.normal(0.05, 1, size=1000)
    others = random.normal(0, 0.03, size=20)
    few, many = (returns.deflated_sharpe(found, others, trials) for trials in (2, 200))
    assert few is not None
    assert many is not None
    assert 0 < many < few < 1
    assert returns.deflated_sharpe(found, others, 1) is None


def test_an_interval_of_a_sharpe_ratio_holds_it() -> None:
    found = np.random.default_rng(0).normal(0.05, 1, size=1000)
    dates = np.datetime64("2020-01-01", "ns") + np.arange(1000) * np.timedelta64(1, "D")
    low, high = returns.sharpe_interval(found, dates, 252)
    ratio = returns.sharpe(found, 252)
    assert low is not None
    assert high is not None
    assert ratio is not None
    assert low < ratio < high
    assert high - low == pytest.approx(4 * np.sqrt(252 / 1000), rel=0.3), "two standard errors on each side"


def test_the_command_has_a_row_for_each_trial_and_baseline_and_for_buy_and_hold(place: Path) -> None:
    done = CliRunner().invoke(app, ["backtest", "tiny", "--cost-bps", "0", "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert "no promise" in found["note"]
    assert found["trials"] == 2
    rows = pd.DataFrame(found["rows"])
    assert sorted(rows["kind"]) == ["baseline"] * 4 + ["buy and hold", "ensemble"] + ["model"] * 2
    hold = rows[rows["kind"] == "buy and hold"].iloc[0]
    bars = pd.read_csv("new.csv").assign(date=lambda frame: pd.to_datetime(frame["Date"])).set_index("date")
    own = pd.read_parquet(next(Path("runs/tiny/predictions").glob("*.parquet")))
    opens = bars.loc[own.loc[own["split"] == "test", "date"].min() :, "Open"]
    assert hold["total"] == pytest.approx(opens.iloc[-2] / opens.iloc[1] - 1, rel=0.02)
    assert hold["exposure"] > 0.99
    models = rows[rows["kind"] == "model"]
    assert models["deflated"].between(0, 1).all()
    assert (models["exposure"] < 0.95).all()
    assert "no promise" in CliRunner().invoke(app, ["backtest", "tiny"], catch_exceptions=False).stdout


def test_bars_after_a_folds_test_split_are_no_flat_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folds = "horizon: [1], seed: [0], data.splits.fold: [0, 1]"
    text = SWEEP.replace("tier: ohlcv", "tier: ohlcv, splits: {folds: 2}").replace("horizon: [1], seed: [0, 1]", folds)
    paths = finished_run(tmp_path, "baselines=[prior]", text=text)
    monkeypatch.chdir(tmp_path)
    rows = {row.name: row for row in backtests.run(paths).rows}
    models = {row.name: row for row in rows.values() if row.kind == "model"}
    assert len(models) == 2
    bars = {}
    for row in models.values():
        table = pd.read_parquet(paths.prediction(row.key))
        hold = rows[f"buy and hold, {row.question}"]
        assert hold.exposure == 1
        bars[row.question] = (row.bars, hold.bars, int((table["split"] == "test").sum()))
    (first, first_hold, windows), (last, last_hold, last_windows) = (bars[name] for name in sorted(bars))
    assert first == first_hold == windows, "each window has the two opens after it"
    assert last == last_hold == last_windows - 1, "the last window of all has one"


def test_the_report_shows_a_backtest_once_there_is_one(place: Path) -> None:
    paths = RunPaths(place / "runs" / "tiny")
    assert "no promise" not in build(paths).markdown.read_text()
    CliRunner().invoke(app, ["backtest", "tiny"], catch_exceptions=False)
    text = paths.report_md.read_text()
    assert text.count("Backtest: no promise of any profit") == 2, "figure and table"
    assert "| 20k-h1-ensemble2 |" in text
    assert (paths.figures / "equity.png").is_file()
    kept = backtest.read(paths)
    assert kept is not None
    hold = next(row for row in kept.rows if row.kind == "buy and hold")
    assert hold.equity[-1][1] == pytest.approx(1 + hold.total, abs=1e-5)
    paths.backtest.write_text('{"rows": 1}')
    assert backtest.read(paths) is None
    assert "no promise" not in build(paths).markdown.read_text()
    assert not (paths.figures / "equity.png").exists()
