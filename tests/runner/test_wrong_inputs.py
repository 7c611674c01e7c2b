"""Wrong inputs, as a user makes them: one clear message, exit code 2, no traceback, nothing started."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runner.cli import main

Write = Callable[..., Path]
CSV_HEAD = "date,open,high,low,close,volume\n"


@dataclass
class Wrong:
    """A change of the minimal sweep file (or another text, or other arguments), and what the message must hold."""

    name: str
    expect: tuple[str, ...]
    change: tuple[tuple[str, str], ...] = ()
    append: str = ""
    text: str | None = None
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ("plan", "sweep.yaml")
    absent: str = "Traceback"


def one(name: str, old: str, new: str, *expect: str) -> Wrong:
    return Wrong(name, expect, ((old, new),))


def own_csv(name: str, body: str, *expect: str, head: str = CSV_HEAD) -> Wrong:
    return Wrong(name, expect, (("source: sp500", "source: bars.csv"),), files={"bars.csv": head + body})


def bars(n: int, change: dict[int, str] | None = None) -> str:
    """Rows of a walk of prices that is fine but for the changed rows."""
    rows = []
    for i in range(n):
        close = 100 + (i * 7919 % 97) / 10
        day = f"{1990 + i // 336:04d}-{i // 28 % 12 + 1:02d}-{i % 28 + 1:02d}"
        rows.append(f"{day},{close},{close + 1},{close - 1},{close},{1000 + i % 13}")
    for number, row in (change or {}).items():
        rows[number] = row
    return "\n".join(rows) + "\n"


TABLE = [
    # the file itself
    Wrong("no such file", ("no such sweep file", "nowhere.yaml"), command=("sweep", "nowhere.yaml")),
    Wrong("empty file", ("not a mapping",), text=""),
    Wrong("a list", ("not a mapping",), text="- 1\n- 2\n"),
    Wrong("broken yaml", ("not valid YAML", "sweep.yaml:"), text="name: [tiny\n"),
    Wrong("a tab", ("not valid YAML",), text="name: tiny\ndata:\n\tsource: sp500\n"),
    Wrong("duplicate key", ("given twice", "first on line 1"), append="name: again\n"),
    Wrong("anchor used twice", ("anchor",), append="tracking: {mlflow: &a {uri: null}, wandb: *a}\n"),
    Wrong("python object", ("cannot be read",), append="tracking: {mlflow: {experiment: !!python/name:os.system x}}\n"),
    Wrong("binary file", ("not UTF-8",), text="\udcff\udcfe"),
    Wrong("a secret in it", ("secret", "environment"), append="tracking: {wandb: {api_key: abc}}\n"),
    Wrong(
        "user and password in a URI",
        ("user information",),
        append="tracking: {mlflow: {uri: 'http://me:hunter2@h/'}}\n",
        absent="hunter2",
    ),
    Wrong(
        "a password with a slash in a URI",
        ("user information or credentials",),
        append="tracking: {mlflow: {uri: 'http://me:hunter2/x@h/'}}\n",
        absent="hunter2",
    ),
    Wrong(
        "a token in a URI",
        ("user information or credentials",),
        append="tracking: {mlflow: {uri: 'http://h/?a=b&token=hunter2'}}\n",
        absent="hunter2",
    ),
    Wrong("a merge key", ("sweep.yaml:23", "merge keys (<<)", "write the keys out"), append="<<: {name: other}\n"),
    Wrong("a merge key inside", ("merge keys (<<)",), append="tracking: {<<: {mlflow: null}}\n"),
    Wrong("nested 300 deep", ("sweep.yaml:23", "nested deeper"), append="tracking: " + "[" * 300 + "]" * 300 + "\n"),
    Wrong("nested 5,000 deep", ("not valid YAML",), append="tracking: " + "[" * 5000 + "]" * 5000 + "\n"),
    # keys and values
    one("unknown top key", "training:", "trainning:", "unknown key 'trainning'", "did you mean 'training'"),
    one("unknown nested key", "epochs: 1", "epoch: 1", "unknown key 'epoch'", "did you mean 'epochs'"),
    one("missing name", "name: tiny\n", "", "'name' is missing"),
    one("missing grid", "grid:\n  budget: [20k]\n  horizon: [1]\n  seed: [0]\n", "", "'grid' is missing"),
    one("name that escapes", "name: tiny", "name: ../evil", "'../evil'", "no path"),
    one("the name of a tracker's store", "name: tiny", "name: mlflow.db", "'mlflow.db' is taken"),
    one("absolute name", "name: tiny", "name: /tmp/evil", "no path"),
    one("word for a number", "epochs: 1", "epochs: many", "must be a whole number", "'many'"),
    one("zero epochs", "epochs: 1", "epochs: 0", "training.epochs", "must be at least 1"),
    one("half a window", "global_batch: 128", "global_batch: 1.5", "training.global_batch"),
    one("negative rate", "lr: 1.0e-3", "lr: -1", "training.lr", "must be above 0"),
    one("infinite rate", "lr: 1.0e-3", "lr: .inf", "training.lr"),
    one("rule without base", "lr: 1.0e-3", "lr: {at: 2m, exponent: 1}", "'base' is missing"),
    one("rule at no budget", "lr: 1.0e-3", "lr: {base: 1, at: big, exponent: 1}", "'big' is not a budget"),
    one(
        "unknown task", "kind: threshold", "kind: guess", "no task 'guess' is registered", "did you mean 'regression'?"
    ),
    one("unknown tier", "tier: a20", "tier: a99", "no feature tier 'a99' is registered"),
    one("unknown key of a tier", "tier: a20", "tier: {name: a20, window: 5}", "unknown key 'window'"),
    one("unknown model", "name: patchtst", "name: patchts", "no architecture 'patchts'", "did you mean 'patchtst'"),
    one("unknown key of the model", "patch: 10", "pach: 10", "unknown key 'pach'", "did you mean 'patch'"),
    one(
        "bad value of a model's key",
        "patch: 10",
        "patch: ten",
        "model.patch",
        "must be a whole number",
        "write a whole number of at least 1, such as patch: 10",
    ),
    one("unknown model on an axis", "seed: [0]", "model.name: [mlp, lsmt]", "no architecture 'lsmt'", "'lstm'"),
    one("another model's key on an axis", "seed: [0]", "model.layers: [1, 2]", "no axis 'model.layers'"),
    one("context too short", "context: 60", "context: 1", "task.context"),
    one("patch does not divide", "patch: 10", "patch: 7", "model.patch 7 does not divide task.context 60"),
    one("list for a block", "training:\n  epochs: 1\n  global_batch: 128\n  lr: 1.0e-3", "training: [1]", "training"),
    one("dropout of one", "lr: 1.0e-3", "lr: 1.0e-3\n  warmup: 1.0", "training.warmup", "must be below 1"),
    # splits
    one("splits above one", "tier: a20", "splits: {train: 0.8, validation: 0.2, test: 0.2}", "add up to 1.2"),
    one("mixed splits", "tier: a20", "splits: {train: 0.7, validation: 2010-01-01, test: 0.1}", "all three as dates"),
    one(
        "dates that do not ascend",
        "tier: a20",
        "splits: {train: 2012-01-01, validation: 2011-01-01, test: 2013-01-01}",
        "ascend",
    ),
    one("no such fold", "tier: a20", "splits: {folds: 3, fold: 3}", "fold 3 does not exist"),
    # grid
    one("grid without budget", "  budget: [20k]\n", "", "'budget' is missing"),
    one("empty axis", "seed: [0]", "seed: []", "'seed' is empty"),
    one("value for a list", "seed: [0]", "seed: 0", "grid.seed", "must be a list"),
    one("value twice", "seed: [0]", "seed: [0, 0]", "names a value twice"),
    one("same budget twice", "budget: [20k]", "budget: [20k, 20000]", "the same budget"),
    one("no budget", "budget: [20k]", "budget: [huge]", "'huge' is not a budget"),
    one("negative budget", "budget: [20k]", "budget: [-2m]", "must be positive"),
    one("unknown axis", "seed: [0]", "sed: [0]", "no axis 'sed'", "did you mean 'seed'"),
    one("axis outside the trial", "seed: [0]", "execution.threads: [1]", "no axis 'execution.threads'"),
    one("bad value on an axis", "seed: [0]", "model.dropout: [0.1, 2]", "grid.model.dropout", "must be below 1"),
    one("too many cells", "seed: [0]", f"seed: {list(range(10_001))}", "10001 cells"),
    one("a budget of 10^30", "budget: [20k]", "budget: [1000000000000000000000000000000]", "10,000b parameters"),
    Wrong(
        "hundreds of axes",
        ("301 axes make about 10^90 cells", "split it"),
        (("  seed: [0]\n", "  seed: [0]\n" + "".join(f"  axis{n}: [1, 2]\n" for n in range(298))),),
        append="",
    ),
    one("a rule beyond all numbers", "lr: 1.0e-3", "lr: {base: 1, at: 1, exponent: 300}", "gives inf at 20,000"),
    one("impossible budget", "budget: [20k]", "budget: [100]", "100"),
    Wrong(
        "a hand-written shape off its budget",  # a tenth of what its name says, as once published
        ("configs/budgets/2m.yaml:1", "172,881 parameters; 2,000,000 were requested", "allowed is 2%"),
        (("budget: [20k]", "budget: [2m]"),),
        files={"configs/budgets/2m.yaml": "patchtst: {width: 80, depth: 2, heads: 4, feed_forward: 320}\n"},
    ),
    # gates
    Wrong("unknown gate", ("unknown key 'leaks'", "did you mean 'leak'"), append="gates: {leaks: warn}\n"),
    Wrong("unknown level", ("gates.leak", "'error', 'warn' or 'off'"), append="gates: {leak: maybe}\n"),
    # execution
    one("CUDA where there is none", "device: cpu", "device: cuda", "no CUDA device"),
    one(
        "threads without end",
        "device: cpu",
        "device: cpu\n  threads: 100000",
        "execution.threads",
        "must be at most 1,024",
    ),
    one("one and a half GPUs", "device: cpu", "device: cpu\n  gpu_share: 1.5", "must be at most 1"),
    one("unknown sensor", "require_sensors: false", "sensor: nvlm", "no sensor 'nvlm' is registered"),
    one("unknown key of a sensor", "require_sensors: false", "sensor: {name: plant, port: 3}", "has no key 'port'"),
    one("sensors wanted", "require_sensors: false", "require_sensors: true", "sensors"),
    # data
    one("no such source", "source: sp500", "source: nowhere.csv", "nowhere.csv"),
    one("source of no kind", "source: sp500", "source: dax", "dax"),
    one("a metric of every trial", "name: tiny", "name: tiny\nmetrics: [hit_rate, auc]", "'auc' is reported for every"),
    one("source twice", "source: sp500", "source: [sp500, sp500]", "named twice"),
    one("yfinance is not installed", "source: sp500", "source: yfinance:SPY", "isotherm[yfinance]"),
    one("unknown column of ours", "tier: a20", "columns: {closing: C}", "closing"),
    own_csv("a column is missing", "1990-01-01,1,1,1,1\n", "low", head="date,open,high,close,volume\n"),
    own_csv("too few rows", bars(5), "bars.csv", "rows"),
    own_csv("not a date", bars(900, {3: "soon,1,1,1,1,1"}), "bars.csv", "soon"),
    own_csv("negative price", bars(900, {7: "1990-01-08,-1,101,99,100,1"}), "1990-01-08"),
    own_csv("high below low", bars(900, {7: "1990-01-08,100,90,99,100,1"}), "1990-01-08"),
    own_csv("negative volume", bars(900, {7: "1990-01-08,100,101,99,100,-5"}), "1990-01-08"),
    own_csv("duplicate date", bars(900, {8: "1990-01-08,100,101,99,100,5"}), "1990-01-08"),
    one("too few samples", "horizon: [1]", "horizon: [200]", "infeasible", "effective"),
    # the command line and the environment
    Wrong("--set without a value", ("--set", "key=value"), arguments=("--set", "training.epochs")),
    Wrong("--set 1,000 deep", ("a key of 1000 parts",), arguments=("--set", ".".join(["a"] * 1000) + "=1")),
    Wrong("--set of a deep value", ("nested deeper",), arguments=("--set", "name=" + "[" * 100 + "]" * 100)),
    Wrong("--set of a very deep value", ("cannot be read",), arguments=("--set", "name=" + "[" * 2000 + "]" * 2000)),
    Wrong("--set of an anchor", ("an anchor is used again",), arguments=("--set", "grid.seed=[&a [1], *a]")),
    Wrong(
        "a token in --set",
        ("credentials",),
        arguments=("--set", "tracking.mlflow.uri=http://h?token=hunter2"),
        absent="hunter2",
    ),
    Wrong(".env that is not UTF-8", (".env: not UTF-8 text",), files={".env": "NAME=\udcff\n"}),
    Wrong(
        "a variable nested deeply",
        ("must be a block with keys",),
        environment={"ISOTHERM_GRID": "[" * 9000 + "]" * 9000},
    ),
    Wrong("--set of an unknown key", ("--set training.epoch", "did you mean"), arguments=("--set", "training.epoch=1")),
    Wrong("unknown variable", ("ISOTHERM_TRAINIG__EPOCHS",), environment={"ISOTHERM_TRAINIG__EPOCHS": "1"}),
    Wrong("wrong variable", ("ISOTHERM_TRAINING__EPOCHS",), environment={"ISOTHERM_TRAINING__EPOCHS": "x"}),
    Wrong(
        "a password in --set",
        ("user information", "MLFLOW_TRACKING_PASSWORD"),
        arguments=("--set", "tracking.mlflow.uri=http://me:hunter2@host/"),
        absent="hunter2",
    ),
    Wrong(
        "a password in the environment",
        ("user information",),
        environment={"ISOTHERM_TRACKING__MLFLOW__URI": "http://me:hunter2@host/"},
        absent="hunter2",
    ),
    Wrong("unknown run", ("no ledger", "isotherm sweep"), command=("status", "nothing")),
    Wrong("report on an unknown run", ("no ledger",), command=("report", "../nothing")),
    Wrong("debug without sense", ("--budget", "not a budget"), command=("debug", "sweep.yaml", "--budget", "x")),
    Wrong("unknown command", ("frobnicate",), command=("frobnicate",)),
    Wrong("unknown option", ("--fast",), arguments=("--fast",)),
]


def test_the_table_is_long_enough() -> None:
    assert len(TABLE) >= 40
    assert len({wrong.name for wrong in TABLE}) == len(TABLE)


@pytest.mark.parametrize("wrong", TABLE, ids=lambda wrong: wrong.name)
def test_wrong_input(
    wrong: Wrong,
    sweep_file: Write,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = sweep_file(*wrong.change, append=wrong.append)
    if wrong.text is not None:
        path.write_bytes(wrong.text.encode("utf-8", "surrogateescape"))
    for name, text in wrong.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    for name, value in wrong.environment.items():
        monkeypatch.setenv(name, value)
    for command in ("plan", "sweep") if wrong.command[0] == "plan" else (wrong.command[0],):
        monkeypatch.setattr(sys, "argv", ["isotherm", command, *wrong.command[1:], *wrong.arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        said = printed.out + printed.err
        flat = " ".join(said.replace("│", " ").split())
        assert ended.value.code == 2, said
        assert "Traceback" not in said
        assert wrong.absent not in said
        for expected in wrong.expect:
            assert expected in flat, said
        assert not (folder / "runs").exists(), "nothing may be started"
