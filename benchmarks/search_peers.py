"""A search against those of its peers, on one data set with a known optimum and as many optimizer steps, with a kill.

    .venv/bin/python benchmarks/search_peers.py                                # some minutes on one core; prints
    .venv/bin/python benchmarks/search_peers.py --neuralforecast PYTHON --write  # PYTHON: of an environment that has it

Bars follow an autoregression of order 1 of their log returns, so that no forecast of the next one has a squared error
below 1 - PHI^2 of the variance. Searched: learning rate, weight decay and dropout (neuralforecast: without decay) of a
PatchTST of about 20,000 parameters.

- isotherm: `search` with tpe and asha, one trial at a time. The steps of its searched trials are everybody's budget.
- Ray Tune: its OptunaSearch and ASHAScheduler, the trainer of isotherm as a function, until the steps are used up.
- neuralforecast: AutoPatchTST with its Ray backend, OptunaSearch and ASHAScheduler, until the steps are used up.

Each is run undisturbed, and once killed (SIGKILL of its driver and workers) at half of its time and started again:
isotherm by the same command, Ray Tune by `Tuner.restore`, neuralforecast by the same call.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

RESULTS = Path(__file__).parent / "results" / "search_peers.json"
PHI, BARS, TRIALS, EPOCHS, CONTEXT, BATCH = 0.6, 3000, 20, 9, 20, 128
SWEEP = f"""\
name: peers
data: {{source: bars.csv, tier: ohlcv}}
task: {{kind: regression, context: {CONTEXT}}}
model: {{name: patchtst, patch: 10}}
training: {{epochs: {EPOCHS}, global_batch: {BATCH}, lr: 1.0e-3}}
grid: {{budget: [20k], horizon: [1], seed: [0]}}
baselines: [prior]
search:
  space:
    training.lr: {{low: 1.0e-4, high: 1.0e-1, log: true}}
    training.weight_decay: {{low: 1.0e-3, high: 10, log: true}}
    model.dropout: {{low: 0.0, high: 0.4}}
  trials: {TRIALS}
  pruner: asha
execution: {{device: cpu, micro_batch: {BATCH}, threads: 2, checkpoint_interval_s: 0.5}}
thermal: {{require_sensors: false}}
"""


def write_bars(folder: Path) -> None:
    """Daily bars; a log return is PHI times the one before it, and noise."""
    noise = np.random.default_rng(0).normal(0, 0.01, BARS)
    returns = np.zeros(BARS)
    for day in range(1, BARS):
        returns[day] = PHI * returns[day - 1] + noise[day]
    close = 100 * np.exp(np.cumsum(returns - returns.mean()))
    before = np.concatenate([[100.0], close[:-1]])
    bars = {
        "date": pd.bdate_range("2008-01-01", periods=BARS),
        "open": before,
        "high": np.maximum(before, close) * 1.001,
        "low": np.minimum(before, close) * 0.999,
        "close": close,
        "volume": np.random.default_rng(1).integers(10**6, 2 * 10**6, BARS),
    }
    pd.DataFrame(bars).to_csv(folder / "bars.csv", index=False)


def error_share(predictions: pd.DataFrame) -> float:
    """Mean squared error on validation as a share of the labels' variance."""
    those = predictions[predictions["split"] == "validation"]
    return float(((those["label"] - those["logit"]) ** 2).mean() / those["label"].var())


# ---- the three, each in processes of its own -------------------------------------------------------------------------


def isotherm(folder: Path) -> None:
    """The child of a search by isotherm."""
    os.execv(sys.executable, [sys.executable, "-m", "runner", "sweep", "sweep.yaml", "--no-tracking"])


def found_by_isotherm(folder: Path) -> dict[str, Any]:
    from runner.rundir import ledger
    from runner.rundir.studies import states

    run = folder / "runs" / "peers"
    view = ledger.read(run / "ledger.jsonl")
    (study,) = states(view)
    ends = [view.cells[trial.key].ended for trial in study.trials]
    best = study.best
    return {
        "trials": len(study.trials),
        "finished": sum(trial.finished for trial in study.trials),
        "steps": sum(int(end.result.get("steps") or 0) for end in ends if end),
        "error_share": error_share(pd.read_parquet(run / "predictions" / f"{best.key}.parquet")) if best else None,
        "starts_of_trials": sum(len(view.cells[trial.key].attempts) for trial in study.trials),
    }


def budget(folder: Path, of_report: Callable[[str, dict[str, Any]], dict[str, Any]] | None = None) -> Any:
    """Ends an experiment of Tune when the steps in `log.jsonl` have reached those of `steps.json`.

    `of_report` makes lines of the log from reports, where the trials write none.
    """
    from ray import tune

    log, most = (folder / "log.jsonl").resolve(), json.loads((folder / "steps.json").read_text())

    class Budget(tune.Stopper):
        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            if of_report is not None:
                with log.open("a") as lines:
                    lines.write(json.dumps(of_report(trial_id, result)) + "\n")
            return False

        def stop_all(self) -> bool:
            made = sum(json.loads(line)["steps"] for line in log.read_text().splitlines()) if log.exists() else 0
            return bool(made >= most)

    return Budget()


def ray_tune(folder: Path) -> None:
    """The child of a search by Ray Tune over the same trainer, until `steps.json`'s steps are used up."""
    import torch
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    from runner.config import sweep_file
    from runner.planning.grid import Builder
    from runner.search.space import applied
    from trainables.data import catalog, windows
    from trainables.training.gate import NullGate
    from trainables.training.loop import Trainer

    sweep = sweep_file.load(Path("sweep.yaml"), tracking=False)
    place, log = folder.resolve(), (folder / "log.jsonl").resolve()

    def train(config: dict[str, Any]) -> None:
        os.chdir(place)
        builder = Builder.of(sweep, Path("data"))
        cell = builder.cell(applied(sweep.variants[0], config))
        data = windows.build(
            catalog.load(cell.entry, Path("data")), cell.spec.data, cell.spec.task, torch.device("cpu")
        )
        trainer = Trainer(cell.spec, cell.record, data, gate=NullGate(), judge_test=False)
        done = 0
        while not trainer.done:
            for row in trainer.advance(0).rows:
                while row.epoch == EPOCHS and not trainer.done:
                    trainer.advance(0)
                share = error_share(trainer.predictions()) if trainer.done else None
                with log.open("a") as lines:
                    line = {"trial": tune.get_context().get_trial_id(), "steps": row.step - done, "epoch": row.epoch}
                    lines.write(json.dumps({**line, "share": share}) + "\n")
                done = row.step
                tune.report({"loss": row.values["val_loss"], "steps": row.step})

    trainable = tune.with_resources(train, {"cpu": 2})
    if tune.Tuner.can_restore(str(place / "ray" / "peers")):
        tuner = tune.Tuner.restore(
            str(place / "ray" / "peers"), trainable, restart_errored=True, resume_unfinished=True
        )
    else:
        space = {
            "training.lr": tune.loguniform(1e-4, 1e-1),
            "training.weight_decay": tune.loguniform(1e-3, 10),
            "model.dropout": tune.uniform(0, 0.4),
        }
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(
                metric="loss",
                mode="min",
                num_samples=10 * TRIALS,
                max_concurrent_trials=1,
                search_alg=OptunaSearch(seed=0),
                scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=1, reduction_factor=3),
            ),
            run_config=tune.RunConfig(name="peers", storage_path=str(place / "ray"), stop=budget(folder), verbose=0),
        )
    tuner.fit()


def found_by_ray(folder: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    epochs = pd.DataFrame(lines)
    lost = folder / "lost.jsonl"
    return {
        "trials": int(epochs["trial"].nunique()),
        "finished": len({line["trial"] for line in lines if line["epoch"] == EPOCHS}),
        "steps": int(epochs["steps"].sum()),
        "error_share": min((line["share"] for line in lines if line["epoch"] == EPOCHS), default=None),
        "epochs_trained_twice": int(epochs.duplicated(["trial", "epoch"]).sum())
        + (len(lost.read_text().splitlines()) if lost.exists() else 0),
    }


def neuralforecast(folder: Path) -> None:
    """The child of a search by neuralforecast's AutoPatchTST, which knows nothing of an earlier call."""
    from neuralforecast import NeuralForecast
    from neuralforecast.auto import AutoPatchTST, RayOptions
    from neuralforecast.losses.pytorch import MSE
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    if (folder / "log.jsonl").exists():
        (folder / "log.jsonl").rename(folder / "lost.jsonl")
    bars = pd.read_csv(folder / "bars.csv", parse_dates=["date"])
    returns = np.log(bars["close"]).diff().fillna(0.0)
    n_train, n_val = int(0.7 * BARS), int(0.15 * BARS)
    scaled = ((returns - returns[:n_train].mean()) / returns[:n_train].std())[: n_train + n_val]
    variance = float(scaled[n_train:].var())
    frame = pd.DataFrame({"unique_id": "bars", "ds": bars["date"][: n_train + n_val], "y": scaled})
    per_epoch = n_train // BATCH
    config = {
        "input_size": CONTEXT, "hidden_size": 32, "n_heads": 4, "encoder_layers": 2, "linear_hidden_size": 64,
        "patch_len": 10, "stride": 5, "scaler_type": "identity", "revin": False, "max_steps": EPOCHS * per_epoch,
        "val_check_steps": per_epoch, "batch_size": 1, "windows_batch_size": BATCH, "random_seed": 1,
        "learning_rate": tune.loguniform(1e-4, 1e-1), "dropout": tune.uniform(0.0, 0.4), "enable_progress_bar": False,
    }  # fmt: skip

    def line(trial: str, result: dict[str, Any]) -> dict[str, Any]:
        epoch, share = result["training_iteration"], float(result["loss"]) / variance
        return {"trial": trial, "steps": per_epoch, "epoch": epoch, "share": share}

    options = RayOptions(
        run_config=tune.RunConfig(storage_path=str(folder.resolve() / "ray"), stop=budget(folder, line), verbose=0),
        scheduler=ASHAScheduler(max_t=EPOCHS, grace_period=1, reduction_factor=3),
        cpus=2,
    )
    search = OptunaSearch(seed=0)
    model = AutoPatchTST(
        h=1, loss=MSE(), valid_loss=MSE(), config=config, search_alg=search, num_samples=10 * TRIALS,
        ray_options=options,
    )  # fmt: skip
    NeuralForecast(models=[model], freq="B").fit(frame, val_size=n_val)


CHILDREN: dict[str, tuple[Callable[[Path], None], Callable[[Path], dict[str, Any]]]] = {
    "isotherm": (isotherm, found_by_isotherm),
    "ray_tune": (ray_tune, found_by_ray),
    "neuralforecast": (neuralforecast, found_by_ray),
}


# ---- undisturbed and killed ------------------------------------------------------------------------------------------


def run(name: str, python: str, folder: Path, steps: int, kill_after_s: float | None = None) -> dict[str, Any]:
    """One search to its end, killed once where that is asked for."""
    folder.mkdir(parents=True)
    write_bars(folder)
    (folder / "sweep.yaml").write_text(SWEEP)
    (folder / "steps.json").write_text(str(steps))
    seconds = []
    for pause in (kill_after_s, None) if kill_after_s else (None,):
        started = time.monotonic()
        command = [python, str(Path(__file__).resolve()), "--child", name]
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        }
        with (folder / "log.txt").open("a") as log:
            child = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True
            )
            if pause is not None:
                time.sleep(pause)
                kill(child)
            code = child.wait()
        seconds.append(time.monotonic() - started)
        if pause is None and code:
            raise RuntimeError(f"{name} ended with {code}: {(folder / 'log.txt').read_text()[-3000:]}")
    return {**CHILDREN[name][1](folder), "seconds": [round(one, 1) for one in seconds]}


def kill(child: "subprocess.Popen[bytes]") -> None:
    """SIGKILL for a process and all that it has started."""
    for one in [*psutil.Process(child.pid).children(recursive=True), psutil.Process(child.pid)]:
        try:
            one.send_signal(signal.SIGKILL)
        except psutil.Error:
            continue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--neuralforecast", metavar="PYTHON", help="interpreter of an environment that has it")
    parser.add_argument("--only", choices=CHILDREN, nargs="+", default=list(CHILDREN))
    parser.add_argument("--steps", type=int, help="budget; else the steps that isotherm takes")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        CHILDREN[given.child][0](Path())
        return
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found: dict[str, Any] = {**known, "lowest_error_share": round(1 - PHI**2, 4)}
    steps = given.steps or known.get("isotherm", {}).get("undisturbed", {}).get("steps", 0)
    with tempfile.TemporaryDirectory(prefix="isotherm-peers-") as scratch:
        for name in given.only:
            python = given.neuralforecast if name == "neuralforecast" else sys.executable
            if python is None:
                continue
            calm = run(name, python, Path(scratch) / name / "calm", steps)
            steps = steps or calm["steps"]
            killed = run(name, python, Path(scratch) / name / "killed", steps, calm["seconds"][0] / 2)
            found[name] = {"undisturbed": calm, "killed_at_half": killed}
            print(name, json.dumps(found[name]), flush=True)
    if given.write:
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
