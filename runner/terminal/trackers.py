"""Where a run's trackers are, on a terminal."""

from collections.abc import Sequence

from runner.config.settings import TrackingSpec
from runner.rundir.paths import RunPaths
from runner.terminal.console import Console
from runner.tracking.tracker import TrackerReport


def show(reports: Sequence[TrackerReport], spec: TrackingSpec, paths: RunPaths, console: Console) -> None:
    """Say where each tracker is and what it has not got."""
    places = {"wandb": str(paths.wandb), "mlflow": f"sqlite:///{paths.mlflow_db}"}
    if spec.mlflow is not None and spec.mlflow.uri is not None:
        places["mlflow"] = spec.mlflow.uri
    for report in reports:
        missing = f"; {report.pending} records have not arrived: isotherm sync {paths.root}" if report.pending else ""
        console.print(f"{report.name:<8} {places.get(report.name, '')}{missing}", highlight=False, markup=False)
