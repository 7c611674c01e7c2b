"""`isotherm data inspect`: what to write in the sweep file reads the file."""

from pathlib import Path

import pytest
import yaml

from runner.planning.inspection import inspect
from runner.terminal import inspection as terminal
from runner.terminal.console import Console
from tests.runner.planning.conftest import bars
from trainables.data import ohlcv
from trainables.errors import ConfigError
from trainables.schema import DataSpec


def test_what_it_says_to_write_reads_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = bars(300)
    table.loc[40, ["open", "high", "low", "close", "volume"]] = float("nan")
    source = tmp_path / "null.csv"
    table.to_csv(source, index=False, na_rep="null")
    found = inspect(str(source), ())
    assert not found["ok"]
    assert found["fixable"]
    asked = yaml.safe_load(found["yaml"])["data"]
    assert asked["repair"] == {"drop_rows": ["finite"]}
    assert len(ohlcv.load_sources(DataSpec.model_validate(asked)).frames["null"]) == 299
    terminal.show(found, Console())
    shown = capsys.readouterr().out
    assert "open, high, low, close, volume are not finite numbers" in shown
    assert "where the rows cannot be corrected in the source" in shown
    assert "drop_rows: [finite]" in shown


def test_a_table_that_is_no_bars_is_refused_with_its_cause(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "fits.csv"
    source.write_text("n_params,loss,group\n50000,0.65,g0\n")
    terminal.show(inspect(str(source), ()), Console(width=200))
    shown = capsys.readouterr().out
    assert "no separator gives its lines 5 columns" in shown
    assert "data.columns" in shown
    assert "rows" not in shown, "none was read"


def test_what_was_asked_is_part_of_it(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    bars(300).to_csv(source, index=False)
    found = inspect(str(source), ["data.calendar=XNYS", "data.sort=true"])
    assert yaml.safe_load(found["yaml"])["data"] == {"source": str(source), "calendar": {"*": "XNYS"}, "sort": True}
    assert "XNYS was closed" in found["doubts"][0]
    with pytest.raises(ConfigError):
        inspect(str(source), ["data.calendr=XNYS"])
