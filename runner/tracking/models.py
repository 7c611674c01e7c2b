"""Models of finished trials in MLflow: exported by a process of their own, logged once, registered where asked."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from runner.rundir.paths import RunPaths
from trainables.parts import plugins

KEY = "isotherm.key"
EXPORT_TIMEOUT_S = 600.0
exporting: set[int] = set()  # processes whose memory is a model's, and not that of a tracking library


class ModelExportError(Exception):
    """A trial's model cannot be exported; trying again changes nothing."""


@dataclass(frozen=True)
class Exporter:
    """Exports trials of a run into ``exports/<key>``."""

    paths: RunPaths
    data_root: Path

    def folder(self, key: str) -> Path:
        """The export of a trial, made where it is missing.

        torch would take this process half a gigabyte, and would stay.

        Raises:
            ModelExportError: it cannot be made.
        """
        done = self.paths.export(key)
        if (done / "config.json").is_file():
            return done
        aside = self.paths.writable(self.paths.export(f".{key}"))
        shutil.rmtree(aside, ignore_errors=True)  # of a process that was ended
        named = [str(self.paths.plugin(one.file_name).resolve()) for one in plugins.loaded()]
        command = [sys.executable, "-P", "-m", "runner", "export", str(self.paths.root.resolve()), "--key", key]
        command += ["--to", str(aside.resolve()), *(part for name in named for part in ("--plugin", name))]
        process = subprocess.Popen(
            command, cwd=self.data_root.parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        exporting.add(process.pid)
        try:
            _, said = process.communicate(timeout=EXPORT_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.communicate()
            raise ModelExportError(f"{key}: no export within {EXPORT_TIMEOUT_S:.0f} s") from error
        finally:
            exporting.discard(process.pid)
        if process.returncode:
            raise ModelExportError(f"{key}: {said.strip()[-500:]}")
        os.replace(aside, done)
        return done


def log(client: Any, uri: str, experiment: str, run_id: str, folder: Path, register: str | None) -> str:
    """Log an export as a model of a run, unless one is there; returns its id.

    Raises:
        Exception: MLflow's own; what was logged is found again at the next call.
    """
    import mlflow
    import numpy as np
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    config = json.loads((folder / "config.json").read_text())
    known = client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'")
    ready = [model for model in known if model.tags.get(KEY) == config["key"] and str(model.status) == "READY"]
    if ready:
        return str(ready[0].model_id)
    data = config["spec"]["model"]["data"]
    shapes = {
        "x": (-1, data["context"], data["n_features"]),
        **dict.fromkeys(("unit", "origin"), (-1, data["n_features"])),
    }
    names, n_outputs = config["inputs"], data["n_outputs"]
    double = np.dtype("float64")
    inputs = [TensorSpec(double, shapes[name], name if len(names) > 1 else None) for name in names]
    output = TensorSpec(np.dtype("float32"), (-1, n_outputs) if n_outputs > 1 else (-1,))
    example = [np.array(one) for one in json.loads((folder / "example.json").read_text())["inputs"]]
    served = find_spec("runner.serving")
    assert served is not None
    assert served.submodule_search_locations
    mlflow.set_tracking_uri(uri)  # of this process, which is the tracker's own
    mlflow.set_experiment(experiment_id=experiment)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its advice to authors of models
        logged = Model.log(
            None,
            mlflow.pyfunc,
            name="model",
            run_id=run_id,
            registered_model_name=register,
            tags={KEY: config["key"]},
            python_model=str(Path(served.submodule_search_locations[0]) / "mlflow_model.py"),
            artifacts={"export": str(folder)},
            signature=ModelSignature(Schema(inputs), Schema([output])),
            input_example=example[0] if len(names) == 1 else dict(zip(names, example, strict=True)),
            pip_requirements=[f"torch=={config['torch'].split('+')[0]}", "numpy"],
        )
    return str(logged.model_id)
