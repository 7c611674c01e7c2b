"""A finished trial as a folder that torch alone can load: program, scaling, features, model card, example."""

import importlib.util
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from runner.host.versions import code_version
from runner.rundir.ledger import CellState, LedgerView
from runner.rundir.paths import RunPaths
from runner.serving.predictor import Predictor, open_predictor
from runner.serving.program import Program, needs_units
from trainables.data import new_bars
from trainables.data.scaling import statistic_names
from trainables.errors import ConfigError, Problem
from trainables.files import real_folder, replace_text, replacing

PROGRAM, CONFIG, WEIGHTS = "model.pt2", "config.json", "weights.safetensors"
EXAMPLES = 4  # windows of the example, with the outputs that are expected
FORMULAS = {
    "close": "ln(close / close of the bar before)",
    "change": "ln(value / value of the bar before)",
    "level": "value / close - 1",
    "range": "value / close",
    "square": "value / close^2",
    "volume": "ln(1 + value / mean volume of the last 20 bars) - ln 2",
    "flow": "value / mean volume of the last 20 bars",
    "cumulative": "(value - value of the bar before) / mean volume of the last 20 bars",
    "percent": "value / 100 - 1/2",
    "signed": "value / 100",
    "share": "value - 1/2",
    "number": "value",
}  # of `trainables.data.representation`, relative

log = logging.getLogger(__name__)


def export(predictor: Predictor, state: CellState, folder: Path, run: str) -> Path:
    """Write the folder, which must not exist or be empty, and return it.

    Args:
        predictor: the trial.
        state: as the ledger has it.
        folder: to be written.
        run: its name, for the model card.

    Raises:
        ConfigError: the folder holds something, or the model cannot be exported.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        fix = "name another folder, or remove it"
        raise ConfigError(Problem(place=str(folder), message="is there already, and not empty", fix=fix))
    folder.mkdir(parents=True, exist_ok=True)
    real_folder(folder, folder.parent)
    inputs = _example(predictor)
    program = Program(predictor.model, predictor.spec, predictor.fitted, predictor.calibrated).eval()
    with torch.no_grad():
        expected = program(*inputs)
    with replacing(folder / PROGRAM) as aside:
        aside.write_bytes(_bytes_of(_exported(program, inputs, predictor.spec.model.name)))
    if importlib.util.find_spec("safetensors") is not None:  # no dependency: the program holds the weights, too
        save = importlib.import_module("safetensors.torch").save
        with replacing(folder / WEIGHTS) as aside:
            aside.write_bytes(save({name: part.contiguous() for name, part in predictor.model.state_dict().items()}))
    config = _config(predictor, state, run)
    replace_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    example = {"inputs": [one.tolist() for one in inputs], "outputs": expected.tolist()}
    replace_text(folder / "example.json", json.dumps(example) + "\n")
    pages = Environment(
        loader=PackageLoader("runner.serving", "templates"), undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    for name in ("README.md", "example.py"):
        replace_text(folder / name, pages.get_template(f"{name}.j2").render(config=config))
    return folder


def of_run(paths: RunPaths, view: LedgerView, state: CellState, folder: Path, data_root: Path) -> Path:
    """Export a finished trial of a run; see `export` and `runner.serving.predictor.open_predictor`."""
    predictor = open_predictor(paths, view, state, data_root)
    return export(predictor, state, folder, paths.name)


def _example(predictor: Predictor) -> tuple[torch.Tensor, ...]:
    """The last windows of the training data: features as presented, and units and origins where they are needed."""
    spec = predictor.spec
    found = new_bars.windows_of(predictor.trained_on, spec.data, spec.task, predictor.fitted)
    ends_N = found.index.ends_N[-EXAMPLES:]
    rows_NL = ends_N[:, None] + np.arange(1 - spec.task.context, 1)
    arrays = [found.data.values_TF[rows_NL]]
    if needs_units(spec):
        arrays += [found.data.unit_TF[ends_N], found.data.origin_TF[ends_N]]
    return tuple(torch.from_numpy(np.ascontiguousarray(one, dtype=np.float64)) for one in arrays)


def _exported(program: Program, inputs: tuple[torch.Tensor, ...], name: str) -> Any:
    batch = torch.export.Dim("batch", min=1)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return torch.export.export(program, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs), strict=False)
    except Exception as error:  # whatever a model of somebody's own raises while it is traced
        first = (str(error).splitlines() or [type(error).__name__])[0]
        message = f"torch.export cannot take it as a program: {first}"
        fix = "write its forward without branches on values; its weights can be had by `Trial.model`"
        raise ConfigError(Problem(place=f"architecture {name}", message=message, fix=fix)) from error


def _bytes_of(exported: Any) -> bytes:
    from io import BytesIO

    sink = BytesIO()
    torch.export.save(exported, sink)
    return sink.getvalue()


def _config(predictor: Predictor, state: CellState, run: str) -> dict[str, Any]:
    spec, standard = predictor.spec, predictor.fitted.standard
    columns = spec.data.features if spec.data.scaling != "revin" else statistic_names(spec.data.features)
    result = state.ended.result if state.ended else {}
    relative = spec.data.representation == "relative"
    return {
        "run": run,
        "key": predictor.key,
        "name": state.cell.name,
        "code_version": code_version(),
        "torch": str(torch.__version__),
        "spec": spec.model_dump(mode="json"),
        "inputs": ["x"] + (["unit", "origin"] if needs_units(spec) else []),
        "output": {"binary": "logit", "classes": "logits", "value": "value"}[spec.task.outcome],
        "calibration": predictor.calibrate,
        "features": [
            {"name": name, "kind": str(kind), "presented_as": FORMULAS[str(kind)] if relative else "value"}
            for name, kind in predictor.trained_on.entry.kinds_of_features.items()
        ],
        "scaling": {
            "how": spec.data.scaling,
            "mean": {} if standard is None else dict(zip(columns, standard.mean_F.tolist(), strict=True)),
            "deviation": {} if standard is None else dict(zip(columns, standard.std_F.tolist(), strict=True)),
        },
        "labels": {"mean": predictor.fitted.label_mean, "variance": predictor.fitted.label_variance},
        "trained_until": str(predictor.fitted.last.astype("datetime64[D]")),
        "sizes": state.cell.sizes,
        "results": {
            name: result[name]
            for name in (
                "val_loss", "val_loss_low", "val_loss_high", "prior_loss", "skill", "skill_low", "skill_high",
                "val_auc", "val_auc_low", "val_auc_high", "test_loss", "test_skill", "test_auc",
            )
            if isinstance(result.get(name), float)
        },
    }  # fmt: skip
