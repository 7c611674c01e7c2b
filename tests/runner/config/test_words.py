"""Messages on wrong values: what is wrong, what to write; never pydantic's words nor a field's description."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from runner.config import sweep_file
from runner.config.settings import SweepSettings
from runner.config.words import block_of
from trainables.errors import ConfigError

SWEEP = "name: tiny\ngrid: {budget: [20k]}\n"


def problem(path: Path, override: str) -> tuple[str, str]:
    path.write_text(SWEEP)
    with pytest.raises(ConfigError) as caught:
        sweep_file.load(path, [override])
    found = caught.value.problems[0]
    return found.message, found.fix


@pytest.mark.parametrize(
    ("override", "message", "fix"),
    [
        (
            "model.dropout=2",
            "must be below 1 (got 2)",
            "write a number of at least 0 and below 1, such as dropout: 0.1",
        ),
        ("training.epochs=x", "must be a whole number (got 'x')", "from 1 to 1,000,000 or a rule of the size, such as"),
        ("data.fraction=0", "must be above 0 (got 0)", "write a number above 0 and at most 1, such as fraction: 1.0"),
        ("data.timescale=weeky", "must be one of '1min'", "write timescale: weekly"),
        ("execution.device=gpu", "must be one of 'auto', 'cpu' or 'cuda' (got 'gpu')", "write device: "),
        ("execution.micro_batch=all", "(got 'all')", "or auto, such as micro_batch: auto"),
        ("execution.stall_timeout_s=0", "must be above 0", "write a number above 0 of seconds"),
        ("probe.memory_limit=3XB", "must be a size, such as 3GiB (got '3XB')", "write a size such as 3GiB or null"),
        ("tracking.mlflow=yes", "must be a block", "write a block with keys such as uri, experiment"),
        ("data.session.open=570", "must be text (got 570)", 'write text, such as open: "00:00"'),
        ("baselines=prior", "must be a list", "write a list, such as baselines: [prior, volatility, "),
        ("gates.limits.leak=2", "must be at most 1 (got 2)", "write a number from 0.5 to 1, such as leak: 0.95"),
        ("training.early_stopping.patience=-1", "must be at least", "write a whole number"),
    ],
)
def test_each_kind_of_value_has_a_fix_of_its_kind(tmp_path: Path, override: str, message: str, fix: str) -> None:
    shown, advised = problem(tmp_path / "sweep.yaml", override)
    assert message in shown
    assert fix in advised


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        yield prefix + name, field
        inner = block_of(field.annotation)
        if inner is not None and not prefix.count("."):
            yield from fields(inner, f"{prefix}{name}.")


def test_no_key_answers_an_object_of_another_kind_with_its_description_or_pydantic(tmp_path: Path) -> None:
    """Every key of the grammar, given a value that is no value of any."""
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP)
    for name, field in fields(SweepSettings):
        try:
            sweep_file.load(path, [f"{name}={{}}" if name.startswith(("grid", "name")) else f"{name}=[{{a: [1]}}]"])
        except ConfigError as error:
            text = str(error)
            for words in ("Input should", "pydantic", "valid dictionary", "instance of", "could not interpret"):
                assert words not in text, name
            assert not field.description or f"fix: {name.split('.')[-1]}: {field.description}" not in text, name
