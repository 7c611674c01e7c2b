"""What preparing, planning and training take with many assets, and with minute bars.

run: .venv/bin/python benchmarks/data_scale.py FOLDER [--assets 10 100 1000 5000] [--minutes 100x500000] [--write]

Bars are made by the universe 'walk' of `isotherm data generate` and written as a folder of parquet files. Each
measurement is a process of its own. Seconds are of this machine, with whatever else it does; CPU seconds (of all
processes) and peaks of memory hardly depend on that. `--only` takes some of the measurements, and `--write` adds what
was measured to the file.

FOLDER needs about 35 GB for 100 assets of 500,000 minute bars, and is emptied at the end.
"""

import argparse
import json
import os
import pickle
import platform
import re
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

RESULTS = Path(__file__).parent / "results" / "data_scale.json"
DAILY_BARS, WORKERS, STEPS = 5000, 4, 60
MEASUREMENTS = ("alone", "prepare", "plan", "train", "workers")
SWEEP = """
name: scale
data: {{source: {folder}, splits: {{train: 0.7, validation: 0.15, test: 0.15}}{more}}}
task: {{kind: direction, horizon: 1, context: 60}}
model: {{name: mlp}}
training: {{epochs: 10, global_batch: 256}}
grid: {{budget: [100k], seed: [0]}}
"""
MINUTES = ", memory_limit: 2GB, timescale: 1min, session: {timezone: UTC}, features: {columns: '*', kind: {'*': as is}}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--assets", type=int, nargs="*", default=[10, 100, 1000])
    parser.add_argument("--minutes", default="", help="assets x bars, such as 100x500000")
    parser.add_argument("--only", nargs="*", default=MEASUREMENTS, choices=MEASUREMENTS)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        name, argument = options.step
        anonymous: list[int] = []
        threading.Thread(target=_sample_anonymous, args=(anonymous,), daemon=True).start()
        result = STEPS_OF[name](options.folder, argument)
        if name in ("prepare", "plan"):
            result[f"{name}_anonymous_peak_bytes"] = max(anonymous, default=0)
        print("RESULT " + json.dumps(result))
        return
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for assets in options.assets:
        row = found.setdefault("daily", {}).setdefault(str(assets), {})
        row |= _measured(options.folder, assets, DAILY_BARS, "", options.only)
    if options.minutes:
        assets, bars = map(int, options.minutes.split("x"))
        found.setdefault("minutes", {}).update(_measured(options.folder, assets, bars, MINUTES, options.only))
    found["machine"] = {
        "processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 1), "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    print(json.dumps(found, indent=2))
    if options.write:
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")


def _measured(root: Path, assets: int, bars: int, more: str, only: Sequence[str]) -> dict[str, Any]:
    shutil.rmtree(root, ignore_errors=True)
    (root / "bars").mkdir(parents=True)
    for number in range(assets):
        _generate(number, bars, minutes=bool(more)).to_parquet(root / "bars" / f"a{number:05d}.parquet", index=False)
    for name, source in (("sweep", root / "bars"), ("one_asset", root / "bars" / "a00000.parquet")):
        (root / f"{name}.yaml").write_text(SWEEP.format(folder=source, more=more))
    row = {"assets": assets, "bars": bars, "rows": assets * bars}
    for step in only:
        row |= _shared(root) if step == "workers" else _step(root, step)
    row["disk_bytes"] = {
        name: sum(file.stat().st_size for file in root.glob(pattern))
        for name, pattern in (("sources", "bars/*"), ("dataset", "data/*.parquet"), ("maps", "data/*.maps/*/*"))
    }
    shutil.rmtree(root)
    return row


def _generate(number: int, bars: int, *, minutes: bool) -> pd.DataFrame:
    from trainables.data.synthetic import Universe

    frame = Universe("walk", bars=bars, asset=number).frame()
    if minutes:
        random = np.random.default_rng(number)
        frame["date"] = pd.date_range("2020-01-01", periods=bars, freq="min")
        frame = frame.assign(**{f"own{column}": random.standard_normal(bars) for column in range(5)})
    return frame


def _step(root: Path, name: str, argument: str = "") -> dict[str, Any]:
    command = [sys.executable, __file__, str(root), "--step", name, argument]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-4000:])
    result: dict[str, Any] = json.loads(done.stdout.rpartition("RESULT ")[2])
    return result


def _alone(root: Path, _: str) -> dict[str, Any]:
    """Reading with pyarrow, and TA-Lib's indicators of the tier a20."""
    import pyarrow.parquet as pq
    import talib

    started, started_cpu = time.perf_counter(), time.process_time()
    for file in sorted((root / "bars").iterdir()):
        table = pq.read_table(file, columns=["open", "high", "low", "close", "volume"])
        _, high, low, close, volume = (np.asarray(table[name], dtype=np.float64) for name in table.column_names)
        for bars in (9, 10, 20, 25, 90):
            talib.DEMA(close, timeperiod=bars)
        for bars in (12, 50, 100, 200):
            talib.SMA(close, timeperiod=bars)
        talib.BBANDS(close, timeperiod=20)
        talib.MACD(close)
        talib.RSI(close)
        talib.STOCHRSI(close)
        talib.OBV(close, volume)
        talib.ADOSC(high, low, close, volume)
        talib.ATR(high, low, close)
        talib.ADX(high, low, close)
    return {"alone_seconds": time.perf_counter() - started, "alone_cpu_seconds": time.process_time() - started_cpu}


def _prepare(root: Path, _: str) -> dict[str, Any]:
    from trainables.data import catalog, representation

    sweep = _loaded(root)
    spec = sweep.variants[0].data
    started, started_cpu = time.perf_counter(), _cpu_seconds()
    entry = catalog.prepare(spec, root / "data")
    prepared, prepared_cpu = time.perf_counter(), _cpu_seconds()
    representation.table(catalog.load(entry, root / "data"), spec.representation)
    return {
        "prepare_seconds": prepared - started,
        "prepare_cpu_seconds": prepared_cpu - started_cpu,
        "table_seconds": time.perf_counter() - prepared,
        "table_cpu_seconds": _cpu_seconds() - prepared_cpu,
        "prepare_peak_bytes": _peak(),
        "prepare_process_peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
        "table_bytes": 4 * entry.rows * len(entry.features),
    }


def _plan(root: Path, _: str) -> dict[str, Any]:
    from runner.planning import plan

    started, started_cpu = time.perf_counter(), _cpu_seconds()
    plan.build(_loaded(root), root / "runs", root / "data")
    return {
        "plan_seconds": time.perf_counter() - started,
        "plan_cpu_seconds": _cpu_seconds() - started_cpu,
        "plan_peak_bytes": _peak(),
    }


def _trained(root: Path, _: str) -> dict[str, Any]:
    """Steps on the mapped table, and on the same one in memory, by turns."""
    _plan_trial(root, "sweep")
    trainers = {"mapped": _trainer(root)}
    mapped_peak = 0
    seconds: dict[str, list[float]] = {"mapped": [], "memory": []}
    waited = 0.0
    for turn in range(5):
        for name in ("mapped", "memory"):
            if name == "memory" and turn == 0:
                mapped_peak = _peak()
                trainers["memory"] = _trainer(root, in_memory=True)
            trainer = trainers[name]
            trainer.advance(0)
            began, first = time.perf_counter(), trainer._progress.step
            while trainer._progress.step < first + STEPS:
                trainer.advance(0)
            if turn:
                seconds[name].append((time.perf_counter() - began) / STEPS)
    progress = trainers["mapped"]._progress
    waited = progress.waited_seconds / progress.train_seconds
    step = {f"step_seconds_{name}": float(np.median(values)) for name, values in seconds.items()}
    return {**step, "train_peak_bytes": mapped_peak, "data_wait_share": waited}


def _worker(root: Path, sweep: str) -> dict[str, Any]:
    """A worker in the middle of training; waits until all are there."""
    trainer = _trainer(root, sweep)
    while trainer._progress.step < STEPS:
        trainer.advance(0)
    np.asarray(trainer._data.train.table.values_TF).sum()  # each page of it is this process's, too
    (root / f"there-{os.getpid()}").touch()
    while not (root / "go").exists():
        time.sleep(0.05)
    pss, own = _pss()
    (root / f"read-{os.getpid()}").touch()
    while not (root / "end").exists():
        time.sleep(0.05)
    return {"pss_bytes": pss, "own_bytes": own}


def _pss() -> tuple[int, int]:
    """Proportional memory of this process: all of it, and that of no file but a dataset's maps."""
    found = [0, 0]
    for mapping in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.M)[1:]:
        head, fields = mapping.split("\n", 1)
        size = 1024 * int(re.search(r"^Pss:\s+(\d+) kB", fields, re.M)[1])  # type: ignore[index]
        found[0] += size
        found[1] += size * ("/" not in head or ".maps/" in head)
    return found[0], found[1]


def _shared(root: Path) -> dict[str, Any]:
    """Memory of workers together (PSS: a page that several have counts once).

    Of the data is what they take beyond as many workers that train on one asset, which have the same interpreter,
    libraries, model and optimizer. Pages of libraries are left out of it: other programs on the machine have them, too.
    """
    totals: dict[tuple[str, int], list[int]] = {}
    for sweep in ("one_asset", "sweep"):
        _plan_trial(root, sweep)
        _trainer(root, sweep)  # all maps are there before anything is measured
    for sweep, count in (("one_asset", 1), ("one_asset", WORKERS), ("sweep", 1), ("sweep", WORKERS)):
        command = [sys.executable, __file__, str(root), "--step", "worker", sweep]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        for mark, then in (("there-*", "go"), ("read-*", "end")):
            while len(list(root.glob(mark))) < count:
                time.sleep(0.1)
            (root / then).touch()
        outputs = [one.communicate()[0] for one in running]
        results = [json.loads(text.rpartition("RESULT ")[2]) for text in outputs]
        totals[sweep, count] = [sum(one[name] for one in results) for name in ("pss_bytes", "own_bytes")]
        for mark in ("there-*", "read-*", "go", "end"):
            for file in root.glob(mark):
                file.unlink()
    one, four = (totals["sweep", count][0] for count in (1, WORKERS))
    of_data = {count: totals["sweep", count][1] - totals["one_asset", count][1] for count in (1, WORKERS)}
    return {
        "one_worker_pss_bytes": one,
        "four_workers_pss_bytes": four,
        "four_to_one": four / one,
        "one_worker_data_pss_bytes": of_data[1],
        "four_workers_data_pss_bytes": of_data[WORKERS],
        "four_to_one_of_data": of_data[WORKERS] / of_data[1],
    }


def _loaded(root: Path, sweep: str = "sweep") -> Any:
    from runner.config.sweep_file import load

    return load(root / f"{sweep}.yaml")


def _plan_trial(root: Path, sweep: str) -> None:
    """Prepare a sweep's data and write down its trial: a worker is given one, and plans nothing."""
    from runner.planning.grid import expand

    cell = expand(_loaded(root, sweep), root / "data").cells[0]
    (root / f"{sweep}.trial").write_bytes(pickle.dumps((cell.spec, cell.record, cell.entry)))


def _trainer(root: Path, sweep: str = "sweep", *, in_memory: bool = False) -> Any:
    import torch

    from trainables.data import catalog, windows
    from trainables.training.gate import NullGate
    from trainables.training.loop import Trainer

    spec, record, entry = pickle.loads((root / f"{sweep}.trial").read_bytes())
    data = windows.build(catalog.load(entry, root / "data"), spec.data, spec.task, torch.device("cpu"))
    if in_memory:
        table = data.train.table
        table.values_TF = torch.from_numpy(np.array(table.values_TF))
        table._x_WLF = table.values_TF.as_strided(table._x_WLF.shape, table._x_WLF.stride())
    return Trainer(spec, record, data, gate=NullGate())


def _cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    one = os.times()
    return one.user + one.system + one.children_user + one.children_system


def _sample_anonymous(found: list[int]) -> None:
    """Memory that the kernel could not take back by dropping pages of files, as those of a map, every 20 ms."""
    status = Path("/proc/self/status")
    while match := re.search(r"RssAnon:\s*(\d+) kB", status.read_text()):
        found[:] = [max([*found, int(match[1]) * 1024])]
        time.sleep(0.02)


def _peak() -> int:
    match = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1]) * 1024


STEPS_OF = {"alone": _alone, "prepare": _prepare, "plan": _plan, "train": _trained, "worker": _worker}

if __name__ == "__main__":
    main()
