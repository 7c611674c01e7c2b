"""The one owner of every path in a run directory and around it."""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from trainables.errors import ConfigError, Problem, nearest
from trainables.files import real_folder, refuse_links

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# What else is kept in the folder of all runs: MLflow's store with its lock and journals, its artifacts, W&B's folder.
_RESERVED = re.compile(r"mlflow\.db.*|mlartifacts|mlruns|wandb", re.IGNORECASE)
LEVELS = 4  # checkpoints/<key>/<checkpoint>/state.pt is the deepest file that is ours
PAUSED = ".paused"
RUNS = Path("runs")
DATA = Path("data")
TRACKERS = ("mlflow", "wandb")


@dataclass(frozen=True)
class RunPaths:
    """Paths of one run, below `root` (the folder ``runs/<name>``)."""

    root: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.root.name

    def writable(self, path: Path) -> Path:
        """A path of this run that is about to be written: its folders are made where missing, and none is a link.

        Raises:
            ConfigError: a folder on the way is a link or a file.
            OSError: a folder cannot be made.
        """
        real_folder(path.parent, self.root)
        return path

    def refuse_links(self) -> None:
        """Examine the run directory before it is read or written; it may be somebody else's.

        Raises:
            ConfigError: links, pipes or the like in it, each with its place.
        """
        refuse_links(self.root, LEVELS, shallow=self.wandb.name)

    def refuse_linked_store(self) -> None:
        """MLflow's default store is next to the run, in a folder that may be somebody else's as well.

        Raises:
            ConfigError: a part of it is a link.
        """
        for name in (self.mlflow_db.name, f"{self.mlflow_db.name}.lock", "mlartifacts"):
            if (place := self.root.parent / name).is_symlink():
                fix = "remove it, or name the store: tracking.mlflow.uri, or isotherm sync --mlflow-uri"
                raise ConfigError(Problem(place=str(place), message="is a link", fix=fix))

    @property
    def sweep_yaml(self) -> Path:
        """The sweep file as given."""
        return self.root / "sweep.yaml"

    @property
    def resolved(self) -> Path:
        """The settings as understood."""
        return self.root / "resolved.json"

    @property
    def ledger(self) -> Path:
        """The truth: append-only JSON lines."""
        return self.root / "ledger.jsonl"

    @property
    def has_ledger(self) -> bool:
        """Whether there are records of this run, in the ledger or rescued from a change of its file."""
        return self.ledger.is_file() or any(self.root.glob("ledger.rescued-*.jsonl"))

    @property
    def lock(self) -> Path:
        """Held by the one driver that may write here."""
        return self.root / ".lock"

    @property
    def owner(self) -> Path:
        """Who holds the lock."""
        return self.root / ".driver.json"

    @property
    def running(self) -> Path:
        """Stands while trials are to run; without it they save and end."""
        return self.root / ".running"

    @property
    def paused(self) -> Path:
        """Exists while trials are to wait."""
        return self.running.with_name(PAUSED)

    @property
    def stop_request(self) -> Path:
        """Says that the removal of `running` was asked for by a user."""
        return self.root / ".stop"

    def trial_stop_request(self, key: str) -> Path:
        """Asks the driver to end one trial."""
        return self.root / f".stop-{key}"

    @property
    def predictions(self) -> Path:
        """Folder of one parquet a key."""
        return self.root / "predictions"

    def prediction(self, key: str) -> Path:
        """Predictions of one trial: date, asset, split, label, logit (or a logit for each class)."""
        return self.predictions / f"{key}.parquet"

    def regime(self, identity: str) -> Path:
        """Which third of the training windows' volatility each window falls in, for a data set and task.

        Args:
            identity: as of `runner.rundir.comparable.identity`.
        """
        return self.root / "regimes" / f"{hashlib.sha256(identity.encode()).hexdigest()[:12]}.parquet"

    @property
    def checkpoints(self) -> Path:
        """Folder of one folder a key."""
        return self.root / "checkpoints"

    def checkpoint(self, key: str) -> Path:
        """A trial's checkpoints."""
        return self.checkpoints / key

    @property
    def plugins(self) -> Path:
        """Folder of copies of the plugins that the run was started with."""
        return self.root / "plugins"

    def plugin(self, file_name: str) -> Path:
        """A plugin's copy, named after the hash of its text and its own name."""
        return self.plugins / file_name

    @property
    def results_parquet(self) -> Path:
        """One row a key."""
        return self.root / "results.parquet"

    @property
    def results_csv(self) -> Path:
        """The same table as text."""
        return self.root / "results.csv"

    @property
    def winners_csv(self) -> Path:
        """Winners of a search with their deflated and confirmed losses; written with the report."""
        return self.root / "winners.csv"

    @property
    def backtest(self) -> Path:
        """What `isotherm backtest` found; the report shows it."""
        return self.root / "backtest.json"

    @property
    def thermal_parquet(self) -> Path:
        """Temperatures, limits and levels over time."""
        return self.root / "thermal.parquet"

    @property
    def report_html(self) -> Path:
        """The report, self-contained."""
        return self.root / "report.html"

    @property
    def report_md(self) -> Path:
        """The report as Markdown."""
        return self.root / "report.md"

    @property
    def figures(self) -> Path:
        """Folder of the report's PNGs."""
        return self.root / "figures"

    @property
    def logs(self) -> Path:
        """Logs of the driver and of the workers."""
        return self.root / "logs"

    def trial_log(self, key: str) -> Path:
        """What the workers of a trial logged, over all attempts."""
        return self.logs / f"{key}.log"

    def export(self, key: str) -> Path:
        """A trial's model as a folder that torch alone can load."""
        return self.root / "exports" / key

    @property
    def wandb(self) -> Path:
        """W&B's own files."""
        return self.root / "wandb"

    def tracker_runs(self, tracker: str) -> Path:
        """Each trial's run in a tracker, with its address where it has one; written by the tracker's process."""
        return self.root / "trackers" / f"{tracker}.json"

    @property
    def mlflow_db(self) -> Path:
        """MLflow's default store, shared by all runs in the same folder."""
        return self.root.parent / "mlflow.db"


def wrong_name(name: str) -> str:
    """Why this cannot be a run's name, or an empty text."""
    if not RUN_NAME.fullmatch(name):
        return f"{name!r} is no run name: letters, digits, '.', '_', '-', 64 at most, no path"
    if _RESERVED.fullmatch(name):
        return f"the name {name!r} is taken: trackers keep their own files under it in the folder of all runs"
    return ""


def run_paths(name: str, runs: Path = RUNS) -> RunPaths:
    """Paths of a run to be written.

    Raises:
        ConfigError: the name could leave the runs directory or is not free; or the run directory holds links.
    """
    if wrong := wrong_name(name):
        raise ConfigError(Problem(place="name", message=wrong, fix="choose another name"))
    paths = RunPaths(runs / name)
    paths.refuse_links()
    return paths


def existing_run(run: str | Path, runs: Path = RUNS) -> RunPaths:
    """Paths of a run that exists, given by name or by folder.

    Raises:
        ConfigError: there is no ledger there, or the run directory holds links.
    """
    for root in (Path(run), runs / str(run)):
        if RunPaths(root).has_ledger:
            paths = RunPaths(root if root.name else root.resolve())
            paths.refuse_links()
            return paths
    known = sorted(path.parent.name for path in runs.glob("*/ledger.jsonl"))
    near = nearest(Path(run).name, known).replace("known:", "runs here:")
    raise ConfigError(
        Problem(
            place=f"run {str(run)!r}",
            message=f"no ledger in {os.path.join(str(run), '')} nor in {runs / str(run)}",
            fix=near if known else "start one with `isotherm sweep SWEEP`",
        )
    )
