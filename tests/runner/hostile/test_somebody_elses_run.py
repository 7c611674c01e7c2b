"""Somebody else's run directory: each way to do harm that was found, and what is said instead."""

import json
import os
import re
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.rundir.paths import RunPaths, existing_run, run_paths
from runner.thermal import telemetry
from runner.tracking import addresses
from runner.tracking.wandb_tracker import WandbTarget
from trainables.checkpoints.file_store import FileCheckpointStore, remove_checkpoints
from trainables.data import catalog, catalog_lock
from trainables.errors import ConfigError, DataError
from trainables.files import open_appending, real_folder


def rewrite(paths: RunPaths, old: str, new: str) -> None:
    text = paths.ledger.read_text()
    assert old in text
    unchained = re.sub(',"chain":"[0-9a-f]+"', "", text)  # as somebody writes it who edits a ledger
    paths.ledger.write_text(unchained.replace(old, new))


def first_key(paths: RunPaths) -> str:
    return str(json.loads(paths.ledger.read_text().splitlines()[0])["keys"][0])


def refused(isotherm: Any, *arguments: str) -> str:
    """What a command says that ends with 2 and no traceback."""
    code, said = isotherm(*arguments)
    assert code == 2, said
    assert "Traceback" not in said
    return " ".join(said.split())


@pytest.mark.parametrize("command", ["status", "report", "sync", "sweep"])
def test_a_key_is_no_path(place: Any, isotherm: Any, command: str) -> None:
    paths = place.copy("theirs")
    rewrite(paths, first_key(paths), str(place.canary))
    before = place.fingerprint()
    arguments = ("sweep.yaml", "--set", "name=theirs") if command == "sweep" else ("theirs",)
    said = refused(isotherm, command, *arguments)
    assert "theirs/ledger.jsonl:1: damaged record (keys: 0: String should match pattern" in said
    assert "fix: restore the file from a copy" in said
    assert place.fingerprint() == before


def test_what_a_ledger_calls_a_label_does_not_replace_a_key(place: Any, isotherm: Any) -> None:
    paths = place.copy("theirs")
    rewrite(paths, '"labels":{', f'"labels":{{"key":"{place.canary}/x","status":"x",')
    rewrite(paths, '"result":{', '"result":{"key":"../../x",')
    code, said = isotherm("status", "theirs", "--json")
    assert code == 0
    assert json.loads(said)["cells"][0]["key"] == first_key(paths)
    assert isotherm("report", "theirs")[0] == 0
    assert str(place.canary) not in paths.report_md.read_text()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"attempt":1,', '"attempt":"one",', "attempt: Input should be a valid integer"),
        ('"epochs":8', '"epochs":"eight"', "epochs: a number is needed"),
        ('"val_loss":0.52,', '"val_loss":[0.52],', "val_loss: a number is needed"),
        ('"axes":{}', '"axes":' + '{"a":' * 60 + "1" + "}" * 60, "nested deeper than 24 levels"),
        ('"axes":{}', '"axes":' + "[" * 3000 + "]" * 3000, "recursion limit"),
        ('"budget":"20k"', '"budget":"huge"', "'huge' is not a budget"),
        ('"horizon":1,"tier"', '"horizon":"1","tier"', "horizon Input should be a valid integer"),
        ('"seq":3', '"seq":' + "9" * 400, "seq: "),
        ('"time":"2', '"time":"9', "time: Value error, a time between 1970 and 2200"),
        ('Z","kind":"attempt"', '","kind":"attempt"', "time: Input should have timezone info"),
        ('"exit_code":0', '"exit_code":null', "exit_code: Input should be a valid integer"),
    ],
)
def test_wrong_types_in_a_record_are_named(place: Any, isotherm: Any, old: str, new: str, expected: str) -> None:
    paths = place.copy("theirs")
    rewrite(paths, old, new)
    for command in ("status", "report"):
        said = refused(isotherm, command, "theirs")
        assert expected.split()[0] in said, said
        assert "ledger.jsonl:" in said
        assert "fix:" in said


def test_a_line_without_an_end_is_not_read_into_memory(place: Any, isotherm: Any) -> None:
    paths = place.copy("theirs")
    with paths.ledger.open("ab") as handle:
        handle.truncate(40 * 2**30)  # a hole
    assert "a line is longer than" in refused(isotherm, "status", "theirs")


# ---- links -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["figures", "report.md", "ledger.jsonl", "logs", "logs/driver.log", "logs/mlflow.log", "predictions", "trackers",
     "wandb", "checkpoints", "checkpoints/KEY", "results.csv", ".lock", ".driver.json", "thermal.parquet"],
)  # fmt: skip
def test_no_link_leads_out_of_a_run_directory(place: Any, isotherm: Any, name: str) -> None:
    paths = place.copy("theirs")
    path = paths.root / name.replace("KEY", first_key(paths))
    path.rename(paths.root.parent / "moved") if path.exists() else None
    target = paths.root.parent / "moved" if path.name == "ledger.jsonl" else place.canary
    path.symlink_to(target)
    before, said = place.fingerprint(), f"{path.relative_to(place.work)}: is a link"
    for command in (["status", "theirs"], ["report", "theirs"], ["compare", "base", "theirs"], ["sync", "theirs"]):
        assert said in refused(isotherm, *command)
    assert said in refused(isotherm, "sweep", "sweep.yaml", "--set", "name=theirs")
    assert place.fingerprint() == before


def test_a_pipe_holds_up_nobody(place: Any, isotherm: Any) -> None:
    paths = place.copy("theirs")
    paths.resolved.unlink()
    os.mkfifo(paths.resolved)
    assert "is neither a file nor a folder" in refused(isotherm, "sync", "theirs")


def test_a_run_directory_may_itself_be_reached_through_a_link(place: Any, isotherm: Any) -> None:
    place.copy("elsewhere").root.rename(place.canary.parent / "elsewhere")
    (place.work / "runs" / "mine").symlink_to(place.canary.parent / "elsewhere")
    assert isotherm("status", "mine")[0] == 0


def test_nothing_is_appended_through_a_link_or_a_second_name(tmp_path: Path) -> None:
    (tmp_path / "bashrc").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "bashrc")
    (tmp_path / "dangling").symlink_to(tmp_path / "new")
    os.link(tmp_path / "bashrc", tmp_path / "hard")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "dangling", "hard", "pipe"):
        with pytest.raises(ConfigError, match=name):
            open_appending(tmp_path / name)
    assert (tmp_path / "bashrc").read_text() == "precious"
    assert not (tmp_path / "new").exists()
    for _ in range(2):
        with open_appending(tmp_path / "log") as handle:
            handle.write("line\n")
    assert (tmp_path / "log").read_text() == "line\nline\n"


def test_checkpoints_are_removed_in_real_folders_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside" / "checkpoint-0001-000001"
    outside.mkdir(parents=True)
    root = tmp_path / "run" / "checkpoints"
    root.mkdir(parents=True)
    (root / "linked").symlink_to(tmp_path / "outside")
    (root / "real").mkdir()
    (root / "real" / "checkpoint-0001-000001").symlink_to(outside)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "checkpoints").symlink_to(root)
    for folder in (root / "linked", tmp_path / "other" / "checkpoints" / "real"):
        with pytest.raises(ConfigError, match="is a link"):
            remove_checkpoints(folder)
        with pytest.raises(ConfigError, match="is a link"):
            FileCheckpointStore(folder, 1, "key")
    remove_checkpoints(root / "real")
    assert outside.is_dir()
    (tmp_path / "run" / "figures").write_text("")
    with pytest.raises(ConfigError, match="not a folder"):
        real_folder(tmp_path / "run" / "figures", tmp_path / "run")


# ---- where records are sent --------------------------------------------------------------------------------------


def tracked(paths: RunPaths, uri: str) -> None:
    settings = json.loads(paths.resolved.read_text())
    settings["tracking"] = {"mlflow": {"uri": uri, "experiment": "x"}, "wandb": None}
    paths.resolved.write_text(json.dumps(settings))


def test_an_address_from_somebody_is_not_used(place: Any, isotherm: Any) -> None:
    paths = place.copy("theirs")
    tracked(paths, place.server.url)
    said = refused(isotherm, "sync", "theirs")
    assert f"the tracking address '{place.server.url}' comes from a run directory" in said
    assert f"isotherm sync RUN --mlflow-uri {place.server.url}" in said
    assert not place.requests
    assert "user information" in refused(isotherm, "sync", "theirs", "--mlflow-uri", "http://a:b/c@host")


def test_nothing_in_a_run_directory_makes_an_address_ones_own(
    place: Any, isotherm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = place.copy("theirs")
    tracked(paths, place.server.url)
    sweep = paths.sweep_yaml.read_text()
    paths.sweep_yaml.write_text(sweep.replace("mlflow: null", f"mlflow: {{uri: '{place.server.url}'}}"))
    for folder in (paths.root, paths.root.parent):
        (folder / "tracking_addresses.txt").write_text(place.server.url)
    assert "comes from a run directory" in refused(isotherm, "sweep", str(paths.sweep_yaml))
    assert "comes from a run directory" in refused(isotherm, "doctor", str(paths.sweep_yaml))
    assert "comes from a run directory" in refused(isotherm, "sync", "theirs")
    noted = tmp_path / "state" / "tracking_addresses.txt"
    noted.parent.mkdir(exist_ok=True)
    noted.write_text(place.server.url + "\n")
    noted.chmod(0o666)  # others may write to it
    assert not addresses.is_own(place.server.url)
    noted.chmod(0o600)
    assert addresses.is_own(place.server.url + "/")
    noted.unlink()
    monkeypatch.setenv("ISOTHERM_TRACKING__MLFLOW__URI", place.server.url)
    assert addresses.is_own(place.server.url)
    assert not place.requests


@pytest.mark.slow
def test_credentials_go_to_the_address_they_were_set_for(
    place: Any, isotherm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.tracking.session.SYNC_TIMEOUT_S", 20.0)
    tracked(place.copy("mine"), place.server.url)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://other.example")
    assert isotherm("sync", "mine", "--mlflow-uri", place.server.url)[0] == 1  # it answers, but not as MLflow does
    assert place.requests
    assert "canary-token" not in " ".join(place.requests)
    place.requests.clear()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert isotherm("sync", "mine")[0] == 1  # named before: no longer asked for
    assert "canary-token" in " ".join(place.requests)


def test_w_and_b_takes_no_settings_from_next_to_a_run(tmp_path: Path) -> None:
    assert WandbTarget().working_folder(tmp_path / "runs" / "theirs") == Path(tmp_path.anchor)


def test_mlflows_store_is_no_link_and_no_name_of_a_run(place: Any, isotherm: Any) -> None:
    paths = place.copy("theirs")
    settings = json.loads(paths.resolved.read_text())
    settings["tracking"] = {"mlflow": {}, "wandb": None}
    paths.resolved.write_text(json.dumps(settings))
    paths.mlflow_db.symlink_to(place.canary / "new.db")
    assert "mlflow.db: is a link" in refused(isotherm, "sync", "theirs")
    for name in ("mlflow.db", "MLflow.DB-journal", "mlartifacts", "wandb"):
        with pytest.raises(ConfigError, match="is taken"):
            run_paths(name)
    assert run_paths("mlflow").name == "mlflow"


# ---- what is read ------------------------------------------------------------------------------------------------


LOST = "temperatures: some cannot be read"


def damage(path: Path, content: bytes | str | None) -> None:
    if content is None:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(path.read_bytes()[:900] if isinstance(content, str) else content)


@pytest.mark.parametrize("content", [b"", b"PAR1", "cut", None])
def test_whatever_cannot_be_read_as_temperatures_is_lost_and_set_aside(place: Any, content: bytes | str | None) -> None:
    path = place.copy("theirs").thermal_parquet
    assert telemetry.lost(path) == []
    damage(path, content)
    assert telemetry.lost(path) == ["thermal.parquet"]
    assert "renamed to thermal.damaged-1.parquet" in telemetry.set_aside(path)
    assert not path.exists()
    assert telemetry.lost(path) == ["thermal.damaged-1.parquet"]


def test_a_damaged_thermal_file_is_named_and_set_aside(place: Any, isotherm: Any) -> None:
    paths = place.copy("theirs")
    path = paths.thermal_parquet
    damage(path, "cut")
    assert isotherm("report", "theirs")[0] == 0
    text = paths.report_md.read_text()
    assert LOST in text
    assert "thermal.parquet" in text[text.index(LOST) :]
    assert path.exists(), "a report moves nothing"
    for _ in range(2):
        code, said = isotherm("sweep", "sweep.yaml", "--set", "name=theirs")
        assert code == 0, said
    said = paths.ledger.read_text()
    assert said.count("renamed to thermal.damaged-1.parquet") == 1, said
    assert not path.exists()
    assert paths.root.joinpath("thermal.damaged-1.parquet").exists()
    assert isotherm("report", "theirs")[0] == 0
    assert "thermal.damaged-1.parquet" in paths.report_md.read_text()
    assert LOST in paths.report_html.read_text()


def test_a_table_is_measured_before_it_is_read(place: Any, isotherm: Any, tmp_path: Path) -> None:
    rows = 40_000_000
    zeros = pa.array(np.zeros(rows, dtype=np.float64))
    pq.write_table(pa.table({"close": zeros}), tmp_path / "bars.parquet", compression="zstd")
    packed = (tmp_path / "bars.parquet").stat().st_size
    assert packed < 1_000_000
    (place.work / "bars.yaml").write_text(
        (place.work / "sweep.yaml").read_text().replace("source: sp500", f"source: {tmp_path}/bars.parquet")
    )
    assert "would take 0.3 GB in memory" in refused(isotherm, "plan", "bars.yaml")


def test_a_text_that_all_rows_share_is_counted_for_each(place: Any, isotherm: Any) -> None:
    paths = place.copy("theirs")
    path = paths.prediction(first_key(paths))
    table = pq.read_table(path)
    rows = 3_000
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype="int32")), pa.array(["x" * 1_000_000]))
    big = table.take(pa.array(np.zeros(rows, dtype="int64"))).set_column(1, "asset", texts)
    pq.write_table(big, path, store_schema=False)  # a plain text column, as far as anybody can see
    assert path.stat().st_size < 2_000_000
    assert "would take 3.0 GB in memory" in refused(isotherm, "report", "theirs")


@pytest.mark.parametrize("content", ["garbage", "[1]", "3", '{"pid": []}', "", "[" * 5000])
def test_whoever_holds_a_run_is_named_as_far_as_known(place: Any, isotherm: Any, content: str) -> None:
    paths = place.copy("theirs")
    paths.owner.write_text(content)
    with filelock.FileLock(paths.lock):
        said = refused(isotherm, "sweep", "sweep.yaml", "--set", "name=theirs")
    assert "another sweep writes here: process ?" in said


@pytest.mark.parametrize("content", ["[]", "3", "{", "[" * 5000, '{"tracking": 3}', '{"tracking": {"mlflow": []}}'])
def test_settings_that_cannot_be_read_are_named(place: Any, isotherm: Any, content: str) -> None:
    place.copy("theirs").resolved.write_text(content)
    assert "theirs/resolved.json: cannot be read" in refused(isotherm, "sync", "theirs")


@pytest.mark.parametrize("path", ["../x.parquet", "/etc/x.parquet", ".hidden.parquet", "a/b.parquet", "x.csv", "x\n"])
def test_a_catalog_names_files_of_its_own_folder_alone(place: Any, tmp_path: Path, path: str) -> None:
    document = json.loads((place.work / "data" / "catalog.json").read_text())
    (entry,) = document["entries"].values()
    (tmp_path / "catalog.json").write_text(json.dumps({**document, "entries": {"x": {**entry, "path": path}}}))
    with pytest.raises(DataError, match="is not a catalog"):
        catalog.entries(tmp_path)
    with pytest.raises(DataError, match="path is wrong"):
        catalog.entry_of({**entry, "path": path}, "ledger")


@pytest.mark.parametrize("content", ["[" * 5000, "[]", "3", '{"format": 1, "entries": []}', "\x00"])
def test_a_catalog_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "catalog.json").write_text(content)
    with pytest.raises(DataError, match="is not a catalog"):
        catalog.entries(tmp_path)


def test_a_catalog_that_is_held_is_waited_for_with_words_and_an_end(
    place: Any, isotherm: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(catalog_lock, "WAIT_QUIET_S", 0.05)
    monkeypatch.setattr(catalog_lock, "WAIT_S", 0.1)
    (place.work / "data" / ".catalog-holder.json").write_text('{"pid": 77, "host": "desk", "since": "2026-01-02"}')
    with filelock.FileLock(place.work / "data" / ".catalog.lock"):
        said = refused(isotherm, "data", "prepare", "sweep.yaml")
    assert "is held by process 77 on 'desk' since 2026-01-02; waiting for up to" in caplog.text
    assert "is held by process 77 on 'desk' since 2026-01-02, longer than 0 s" in said


def test_existing_runs_are_examined(place: Any) -> None:
    paths = place.copy("theirs")
    (paths.root / "note").symlink_to(place.canary)
    with pytest.raises(ConfigError, match="is a link"):
        existing_run("theirs")
