import json
import sys
from pathlib import Path

import numpy as np
import pytest

from runner.cli import main
from runner.scaling import Columns, FitOptions, fit, read_csv
from trainables.errors import DataError


def csv(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def good(n: int = 6) -> str:
    sizes = np.geomspace(1e5, 1e8, n)
    return "n_params,loss\n" + "\n".join(f"{size:.6g},{0.5 + 5 * size**-0.3:.8f}" for size in sizes) + "\n"


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["isotherm", "fit", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_json_and_words_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(csv(tmp_path, good()))
    assert command(monkeypatch, path, "--json", "--bootstraps", "30") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "power law"
    assert document["alpha"] == pytest.approx(0.3, abs=0.01)
    assert command(monkeypatch, path, "--bootstraps", "30") == 0
    shown = capsys.readouterr().out
    assert "power law" in shown
    assert document["reason"].split(";")[0] in " ".join(shown.split())


WRONG = {
    "absent": (None, "no such file"),
    "empty": ("", "cannot be read"),
    "only a heading": ("n_params,loss\n", "no rows"),
    "a column is missing": ("n_params,los\n1,2\n", "'loss' is missing"),
    "a word": ("n_params,loss\n1e6,2\n1e7,many\n", "row 2: loss is 'many'"),
    "negative": ("n_params,loss\n-1,2\n", "row 1: n_params is"),
    "zero": ("n_params,loss\n1,0\n", "above 0"),
    "a gap": ("n_params,n_samples,loss\n1,,2\n", "n_samples is 'nan'"),
    "infinite": ("n_params,loss\n1,inf\n", "finite"),
    "no weight": ("n_params,loss,weight\n1,2,-1\n", "weight"),
    "no group": ("n_params,loss,group\n1,2,\n", "group is empty"),
    "unnamed column": ("n_params,loss\n1,2,3\n", "more fields"),
    "ragged": ("n_params,loss\n1,2\n1,2,3\n", "cannot be read"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_tables_end_with_code_2(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text, expected = WRONG[name]
    path = tmp_path / "none.csv" if text is None else csv(tmp_path, text)
    assert command(monkeypatch, str(path)) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert "fix" in said
    assert "Traceback" not in said


def test_binary_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"\xff\xfe\x00n_params")
    with pytest.raises(DataError):
        read_csv(path)


def test_a_byte_order_mark_and_spaces_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"\xef\xbb\xbf n_params , loss , note\n1e6, 2.0, x\n")
    assert read_csv(path).loss[0] == 2.0


RESULTS = """\
key,kind,status,n_params,horizon,model,n_train,val_loss
a0,baseline,finished,,1,linear,900,0.61
a1,model,finished,1e5,1,mlp,900,0.6581
a2,model,finished,3e5,1,mlp,900,0.6137
a3,model,finished,1e6,1,mlp,900,0.5792
a4,model,finished,3e6,1,mlp,900,0.5570
a5,model,finished,1e7,1,mlp,900,0.5397
a6,model,diverged,3e7,1,mlp,900,
b1,model,finished,1e5,5,mlp,900,0.69
"""


def test_a_runs_own_results_are_read_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = csv(tmp_path, RESULTS)
    assert command(monkeypatch, str(path), "--bootstraps", "30") == 2
    assert "--where horizon=1" in capsys.readouterr().err
    arguments = ("--where", "horizon=1", "--bootstraps", "30", "--at", "1e8", "--json")
    assert command(monkeypatch, str(path), *arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["n_points"] == 5, "neither baselines nor trials without a loss"
    (point,) = document["projections"]
    assert point["low"] <= point["loss"] <= point["high"] < 0.54
    assert point["beyond"] == pytest.approx(10)
    assert list(read_csv(path, Columns(where=(("horizon", "1"),))).rows) == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--loss", "los"), "column 'los' is missing"),
        (("--where", "group"), "has no '='"),
        (("--where", "n_params=7"), "no row is left"),
        (("--at", "2e9,1e12"), "it takes n_params"),
        (("--at", "many"), "is not N or N,D"),
    ],
)
def test_what_a_table_lacks_is_said(
    arguments: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(monkeypatch, str(csv(tmp_path, good())), *arguments, "--bootstraps", "20") == 2
    assert said in capsys.readouterr().err


def test_points_are_counted_by_size_samples_and_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{n},{d},{1 + 5 * n**-0.3 + 9 * d**-0.4}" for n in (1e5, 3e5, 1e6, 3e6, 1e7) for d in (1e4, 1e5, 1e6)]
    path = csv(tmp_path, "n_params,n_samples,loss\n" + "\n".join(rows) + "\n")
    assert command(monkeypatch, str(path), "--bootstraps", "20", "--tied", "--at", "1e7,1e7") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "points 15: 5 distinct sizes, 3 distinct numbers of samples, 15 distinct pairs of both; 0 excluded" in shown
    assert "predicted n_params 1e+07, n_samples 1e+07:" in shown


SEARCHED = """\
key,kind,status,n_params,seed,val_loss,role
a0,baseline,finished,,,0.61,
a1,model,finished,19975,0,0.6581,confirmed
a2,model,finished,19975,1,0.6571,confirmed
a3,model,finished,59900,0,0.6137,confirmed
b1,model,finished,19975,1000000,0.9,searched
b2,model,finished,59900,1000000,0.8,searched
b3,model,finished,59900,1000000,0.6,searched
"""


def test_a_law_is_made_of_a_searchs_confirmed_trials(tmp_path: Path) -> None:
    path = csv(tmp_path, SEARCHED)
    table = read_csv(path)
    assert list(table.rows) == [2, 3, 4]
    assert [note for note in fit(table, FitOptions(bootstraps=20)).notes if "3 searched trials are left out" in note]
    asked = read_csv(path, Columns(where=(("role", "searched"),)))
    assert list(asked.rows) == [5, 6, 7]
    assert not asked.notes
    with pytest.raises(DataError, match="all 3 rows are searched trials"):
        read_csv(path, Columns(where=(("seed", "1000000"),)))


def test_numbers_are_asked_for_as_numbers_where_an_empty_field_makes_them_floats(tmp_path: Path) -> None:
    path = csv(tmp_path, SEARCHED)
    asked = {("seed", "0"): [2, 4], ("seed", "1.0"): [3], ("n_params", "19975"): [2, 3], ("n_params", "5.99e4"): [4]}
    assert {pair: list(read_csv(path, Columns(where=(pair,))).rows) for pair in asked} == asked


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ((("n_params", "59900"), ("seed", "7")), "by --where seed=7; 'seed' has 0, 1000000\n    fix: --where seed=0"),
        ((("seed", "many"),), "by --where seed=many; 'seed' has 0, 1, 1000000"),
        ((("role", "none"), ("seed", "0")), "by --where role=none; 'role' has confirmed, searched"),
    ],
)
def test_what_left_no_row_is_named_with_the_values_there_are(
    where: tuple[tuple[str, str], ...], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        read_csv(csv(tmp_path, SEARCHED), Columns(where=where))
    assert said in str(caught.value)


def test_one_row_identifies_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(csv(tmp_path, "n_params,loss\n1000,0.7\n"))
    assert command(monkeypatch, path, "--bootstraps", "20", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "not identifiable"
    assert document["condition"] is None, "infinite"


def test_one_cluster_tells_nothing_of_the_noise_common_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = good().replace("loss\n", "loss,run\n", 1).rstrip().replace("\n", ",a\n").replace("run,a", "run") + ",a\n"
    assert command(monkeypatch, str(csv(tmp_path, text)), "--bootstraps", "20", "--cluster", "run") == 2
    said = capsys.readouterr().err
    assert "all 6 points are of one cluster" in said
    assert "fix" in said
    assert "Traceback" not in said
