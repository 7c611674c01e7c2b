"""Somebody else's run directory, changed in many ways: whatever a command makes of it, nothing outside of it changes.

No trial is trained here: where a change leaves cells to be run, Tune's rounds are left out. Each kind of change that
was found to do harm has a test of its own in `test_somebody_elses_run.py`.
"""

import json
import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.rundir.paths import RunPaths

Mutation = Callable[["Mutant"], str]
DEEP = "[" * 3000 + "]" * 3000
NESTED: Any = "x"
for _ in range(60):
    NESTED = [NESTED]
ODD: list[Any] = [
    None, True, -1, 0, 0.5, 1e308, 10**30, "", "x", "NaN", "5", [], {}, [None], {"a": {"b": []}}, NESTED, "x" * 300_000,
    "../../../canary", "/", "..", "\x00", "\x1b]0;x\x07", "[/data/x]", "<script>alert(1)</script>", "=1+1", "\u202e",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-01-01T00:00:00", "2199-01-01T00:00:00Z",
]  # fmt: skip
DOCUMENTS = ["", "null", "3", '"x"', "[]", "[1]", "{}", "{", DEEP, '{"a":' * 2000, '{"tracking": []}', "\x00\x00", "☃"]
KEYS = ["{canary}", "../../../canary", "..", "/", ".", "", "A" * 12, "g" * 12, "0" * 13, "0" * 11, "0" * 11 + "\n", "*"]


class Mutant:
    """A run directory, and the dice that change it."""

    def __init__(self, paths: RunPaths, canary: Path, url: str, chance: random.Random) -> None:
        self.paths, self.canary, self.url, self.chance = paths, canary, url, chance

    def records(self) -> list[dict[str, Any]]:
        """Without the lines' hashes, as somebody leaves them out who edits a ledger: a change gets past the chain."""
        records = [json.loads(line) for line in self.paths.ledger.read_text().splitlines()]
        return [{name: value for name, value in one.items() if name != "chain"} for one in records]

    def write(self, records: list[dict[str, Any]]) -> None:
        """Half of the time numbered anew, where one is missing."""
        if len(records) != len(self.records()) and self.chance.random() < 0.5:
            records = [one | {"seq": number} for number, one in enumerate(records)]
        self.paths.ledger.write_text("".join(json.dumps(one) + "\n" for one in records))

    def any_file(self) -> Path:
        return self.chance.choice(sorted(path for path in self.paths.root.rglob("*") if path.is_file()))

    def any_path(self) -> Path:
        return self.chance.choice(sorted(self.paths.root.rglob("*")))

    def remove(self, path: Path) -> None:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def leaves(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value, as a container and an index."""
    places = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for index, inner in list(items):
        places.append((value, index))
        places += leaves(inner)
    return places


def key(mutant: Mutant) -> str:
    """One key everywhere, or in one record: what becomes a path."""
    new = mutant.chance.choice(KEYS).replace("{canary}", str(mutant.canary))
    records = mutant.records()
    old = mutant.chance.choice([one["key"] for one in records if "key" in one])
    if mutant.chance.random() < 0.6:
        mutant.write(json.loads(json.dumps(records).replace(json.dumps(old), json.dumps(new))))
    else:
        mutant.chance.choice([one for one in records if one.get("key") == old])["key"] = new
        mutant.write(records)
    return f"key {new!r}"


def hidden_key(mutant: Mutant) -> str:
    """A path where a label, a size or a result replaces what is known of a cell."""
    records = mutant.records()
    field = mutant.chance.choice(["labels", "sizes", "result", "spec", "execution"])
    one = mutant.chance.choice([one for one in records if field in one])
    name = mutant.chance.choice(["key", "kind", "status", "name", "axes", "val_loss", "steps", "data_sha256"])
    one[field][name] = mutant.chance.choice([str(mutant.canary), 3, None, [], {"a": 1}])
    mutant.write(records)
    return f"{field}.{name} = {one[field][name]!r}"


def value(mutant: Mutant) -> str:
    """Any value of any record."""
    records = mutant.records()
    container, index = mutant.chance.choice(leaves(mutant.chance.choice(records)))
    container[index] = mutant.chance.choice(ODD)
    mutant.write(records)
    return f"{index} = {str(container[index])[:60]!r}"


def missing(mutant: Mutant) -> str:
    """A value, or a whole record, is not there."""
    records = mutant.records()
    if mutant.chance.random() < 0.3:
        return f"without {records.pop(mutant.chance.randrange(len(records)))['kind']}{mutant.write(records) or ''}"
    container, index = mutant.chance.choice(leaves(mutant.chance.choice(records)))
    del container[index]
    mutant.write(records)
    return f"without {index}"


def text(mutant: Mutant) -> str:
    """Bytes of the ledger."""
    data = bytearray(mutant.paths.ledger.read_bytes())
    for _ in range(mutant.chance.choice([1, 3])):
        data[mutant.chance.randrange(len(data))] = mutant.chance.randrange(256)
    line = mutant.chance.choice([b"", DEEP.encode() + b"\n", b"[]\n", b"\x00" * 50 + b"\n", b'{"kind": "event"}\n'])
    mutant.paths.ledger.write_bytes(bytes(data) if mutant.chance.random() < 0.5 else line + bytes(data) + line)
    return "bytes of the ledger"


def document(mutant: Mutant) -> str:
    """Another document in the place of any file."""
    path, content = mutant.any_file(), mutant.chance.choice(DOCUMENTS)
    path.write_text(content)
    return f"{path.name} holds {content[:20]!r}"


def torn(mutant: Mutant) -> str:
    """A parquet file, torn or changed."""
    path = mutant.chance.choice(sorted(mutant.paths.root.rglob("*.parquet")))
    data = bytearray(path.read_bytes())
    if mutant.chance.random() < 0.5:
        path.write_bytes(data[: mutant.chance.randrange(len(data))])
    else:
        for _ in range(8):
            data[mutant.chance.randrange(len(data))] = mutant.chance.randrange(256)
        path.write_bytes(data)
    return f"{path.name} damaged"


def link(mutant: Mutant) -> str:
    """Any path leads out of the run directory."""
    path = mutant.any_path()
    folder = path.is_dir()
    mutant.remove(path)
    name = "" if folder else mutant.chance.choice(["bashrc", "new"])
    if not folder and name == "bashrc" and mutant.chance.random() < 0.3:
        os.link(mutant.canary / name, path)
        return f"{path.relative_to(mutant.paths.root)} is a hard link"
    path.symlink_to(mutant.canary / name)
    return f"{path.relative_to(mutant.paths.root)} is a link"


def kind(mutant: Mutant) -> str:
    """Another kind of file: a folder, a pipe, a socket."""
    path = mutant.any_path()
    new = mutant.chance.choice(["folder", "pipe", "socket", "file"])
    mutant.remove(path)
    if new == "folder":
        path.mkdir()
    elif new == "pipe":
        os.mkfifo(path)
    elif new == "file":
        path.write_text("")
    else:
        with socket.socket(socket.AF_UNIX) as one:
            here = Path.cwd()
            os.chdir(path.parent)  # such a name must be short
            one.bind(path.name)
            os.chdir(here)
    return f"{path.relative_to(mutant.paths.root)} is a {new}"


def address(mutant: Mutant) -> str:
    """Tracking leads elsewhere."""
    canary = mutant.canary
    uris = [mutant.url, f"sqlite:///{canary}/x.db", f"file://{canary}", f"http://me:pa/ss@{mutant.url[7:]}", "x://", 7]
    settings = json.loads(mutant.paths.resolved.read_text())
    settings["tracking"] = mutant.chance.choice(
        [{"mlflow": {"uri": uri, "experiment": "x"}, "wandb": None} for uri in uris]
    )
    mutant.paths.resolved.write_text(json.dumps(settings))
    (mutant.paths.wandb / "settings").write_text(f"[default]\nbase_url = {mutant.url}\napi_key = {'0' * 40}\n")
    return f"tracking = {settings['tracking']}"


def size(mutant: Mutant) -> str:
    """More than anybody reads."""
    path = mutant.chance.choice([mutant.paths.ledger, mutant.paths.resolved, mutant.paths.thermal_parquet])
    with path.open("ab") as handle:
        handle.truncate(mutant.chance.choice([20, 70, 3000]) * 2**20)  # a hole: no disk is used
    return f"{path.name} is huge"


MUTATIONS: list[Mutation] = [key, key, hidden_key, value, value, value, missing, text, document, torn]
MUTATIONS += [link, link, kind, address, size]


def commands(name: str, paths: RunPaths) -> list[list[str]]:
    return [
        ["status", name],
        ["report", name],
        ["compare", "base", name],
        ["sync", name],
        ["sweep", "sweep.yaml", "--set", f"name={name}"],
        ["fit", str(paths.root / "losses.csv"), "--bootstraps", "20"],
    ]


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("count", "every"),
    [(20, False), pytest.param(None, True, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])],
    ids=["some", "all"],
)
def test_a_mutated_run_harms_nobody(
    count: int | None, every: bool, place: Any, isotherm: Any, monkeypatch: pytest.MonkeyPatch, mutations: int
) -> None:
    count = count or mutations
    monkeypatch.setattr("runner.sweep.SweepRun.trials", lambda run: None)
    chance, before = random.Random(f"mutated {every}"), place.fingerprint()
    codes: dict[int, int] = {}
    for number in range(count):
        paths = place.copy(f"m{number}")
        mutation = MUTATIONS[number % len(MUTATIONS)]
        told = mutation(Mutant(paths, place.canary, place.server.url, chance))
        asked = commands(paths.name, paths)
        for arguments in asked if every else [asked[0], asked[1 + number // len(MUTATIONS) % 5]]:
            code, said = isotherm(*arguments)
            about = f"{number}: {mutation.__name__}, {told}: isotherm {' '.join(arguments)}\n{said[-3000:]}"
            assert code in (0, 1, 2, 3), about
            assert "Traceback" not in said, about
            assert place.fingerprint() == before, about
            assert not place.requests, about
            codes[code] = codes.get(code, 0) + 1
        shutil.rmtree(paths.root)
    assert codes[2] > count / 4, codes
    assert codes[0] > count / 4, codes
