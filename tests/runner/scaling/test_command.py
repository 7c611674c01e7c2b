import json
import sys
from pathlib import Path

import numpy as np
import pytest

from runner.cli import main
from runner.scaling import read_csv
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
