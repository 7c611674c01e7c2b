"""Sweep files: precedence, the grid's product, where problems are placed, shipped configs."""

from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest

from runner.config import sweep_file as sweepfile
from runner.config.settings import RayEnvironment, Secrets, UserSettings, tracker_environment
from trainables.errors import ConfigError
from trainables.schema import SizeRule

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))
Write = Callable[..., Path]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_config_loads(path: Path, folder: Path) -> None:
    sweep = sweepfile.load(path)
    assert sweep.settings.name == path.stem
    assert sweep.variants
    head = path.read_text().splitlines()[:4]
    assert any("run:" in line and ("make sweep" in line) for line in head), (
        "a config opens with the command that runs it"
    )


def test_the_shipped_grids_are_those_of_the_design(folder: Path) -> None:
    grids = {path.stem: sweepfile.load(path).settings.grid for path in SHIPPED}
    assert grids["quickstart"] == {"budget": ["50k", "200k", "1m"], "horizon": [1, 5], "seed": [0, 1]}
    assert grids["budget_grid"]["budget"] == ["20k", "50k", "120k", "300k", "800k", "2m"]
    assert grids["budget_grid_4"]["budget"] == ["2m", "20m", "200m", "2b"]
    assert grids["budget_grid_4"]["horizon"] == [1, 2, 3, 5]


def test_the_grid_is_the_product_of_its_axes(sweep_file: Write) -> None:
    path = sweep_file(("horizon: [1]", "horizon: [1, 5]\n  model.dropout: [0.0, 0.2]\n  data_fraction: [0.5, 1.0]"))
    variants = sweepfile.load(path).variants
    assert len(variants) == 8
    chosen = {(v.task.horizon, v.model.config["dropout"], v.data.fraction) for v in variants}
    assert chosen == {(h, d, f) for h in (1, 5) for d in (0.0, 0.2) for f in (0.5, 1.0)}


def test_command_line_wins_over_environment_over_dotenv_over_file(
    sweep_file: Write, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sweep_file()

    def epochs(*overrides: str) -> int:
        return sweepfile.load(path, overrides).settings.training.epochs

    assert epochs() == 1
    (folder / ".env").write_text("ISOTHERM_TRAINING__EPOCHS=2\nSOMEBODY_ELSES=1\n")
    assert epochs() == 2
    monkeypatch.setenv("ISOTHERM_TRAINING__EPOCHS", "3")
    assert epochs() == 3
    assert epochs("training.epochs=4") == 4
    assert sweepfile.load(path).settings.training.global_batch == 128, "neighbours of an overridden key stay"


def test_overrides_reach_grid_axes_and_rules(sweep_file: Write) -> None:
    overrides = [
        "grid.budget=[1m, 2m]",
        "grid.model.dropout=[0, 0.5]",
        "training.lr={base: 0.01, at: 2m, exponent: -1}",
    ]
    sweep = sweepfile.load(sweep_file(), overrides)
    assert sweep.settings.grid["budget"] == ["1m", "2m"]
    assert len(sweep.variants) == 4
    rule = sweep.settings.training.lr
    assert isinstance(rule, SizeRule)
    assert rule.value(2_000_000) == pytest.approx(0.01)
    assert rule.value(4_000_000) == pytest.approx(0.005)


def test_no_tracking_turns_both_off(sweep_file: Write) -> None:
    tracking = sweepfile.load(sweep_file(), tracking=False).settings.tracking
    assert tracking.mlflow is None
    assert tracking.wandb is None


def test_all_problems_are_reported_together_each_in_its_place(sweep_file: Write) -> None:
    path = sweep_file(
        ("epochs: 1", "epoch: 1"), ("context: 60", "context: long"), ("kind: threshold", "kind: treshold")
    )
    with pytest.raises(ConfigError) as caught:
        sweepfile.load(path, ["training.clip=-1"])
    text = str(caught.value)
    lines = path.read_text().splitlines()
    for key in ("epoch", "context", "kind"):
        number = next(i for i, line in enumerate(lines, 1) if line.strip().startswith(f"{key}:"))
        assert f"sweep.yaml:{number}: " in text, text
    assert "did you mean 'epochs'" in text
    assert "--set training.clip" in text
    assert len(caught.value.problems) == 4


def test_a_problem_in_the_environment_is_placed_there(sweep_file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOTHERM_TRAINING__EPOCHS", "many")
    monkeypatch.setenv("ISOTHERM_TRANING__CLIP", "1")
    with pytest.raises(ConfigError) as caught:
        sweepfile.load(sweep_file())
    places = [problem.place for problem in caught.value.problems]
    assert "environment: ISOTHERM_TRAINING__EPOCHS" in places
    assert "environment: ISOTHERM_TRANING__CLIP" in places


@pytest.mark.parametrize(
    ("append", "variables", "overrides", "uri"),
    [
        ("", {}, [], "http://everybody:5000"),
        ("tracking: {wandb: null}\n", {}, [], "http://everybody:5000"),
        ("tracking: {mlflow: {experiment: mine}}\n", {}, [], "http://everybody:5000"),
        ("tracking: {mlflow: {uri: 'http://file:1'}}\n", {}, [], "http://file:1"),
        ("tracking: {mlflow: {uri: null}}\n", {}, [], None),
        ("tracking: {mlflow: null}\n", {}, [], "off"),
        ("", {"ISOTHERM_TRACKING__MLFLOW__URI": "http://ours:1"}, [], "http://ours:1"),
        ("", {}, ["tracking.mlflow.uri=http://line:1"], "http://line:1"),
        ("", {}, ["tracking.mlflow=null"], "off"),
    ],
)
def test_mlflows_own_variable_is_the_default_of_its_address(
    sweep_file: Write,
    monkeypatch: pytest.MonkeyPatch,
    append: str,
    variables: dict[str, str],
    overrides: list[str],
    uri: str | None,
) -> None:
    for name, value in {"MLFLOW_TRACKING_URI": "http://everybody:5000", **variables}.items():
        monkeypatch.setenv(name, value)
    tracking = sweepfile.load(sweep_file(append=append), overrides).settings.tracking
    assert (tracking.mlflow.uri if tracking.mlflow else "off") == uri
    assert sweepfile.load(sweep_file(append=append), overrides, tracking=False).settings.tracking.mlflow is None


def test_mlflows_own_variable_with_a_password_is_refused(sweep_file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@h:5000")
    with pytest.raises(ConfigError) as caught:
        sweepfile.load(sweep_file())
    [problem] = caught.value.problems
    assert problem.place == "environment: MLFLOW_TRACKING_URI"
    assert "hunter2" not in str(caught.value)
    sweepfile.load(sweep_file(), tracking=False)  # who tracks nothing does not mind


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "sentinel-value")
    secrets = Secrets()
    assert secrets.wandb_api_key is not None
    assert secrets.wandb_api_key.get_secret_value() == "sentinel-value"
    assert "sentinel" not in repr(secrets) + str(secrets) + secrets.model_dump_json()


@pytest.mark.parametrize("source", ["environment", ".env"])
@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("GRID__BUDGET", "[20k", "must be a list, such as [a, b] (got '[20k')"),
        ("GRID__BUDGET", "20k, 60k", "must be a list, such as [a, b] (got '20k, 60k')"),
        ("METRICS", "precision", "must be a list, such as [a, b] (got 'precision')"),
        ("TRAINING", "3", "must be a block with keys, such as {key: value} (got '3')"),
        ("TRAINING", "{epochs: 3", "must be a block with keys, such as {key: value} (got '{epochs: 3')"),
        ("TRAINING", "{epochs: many}", "must be a whole number (got 'many')"),
        ("TRAINING__EPOCHS", "many", "must be a whole number (got 'many')"),
        ("TRAINING__EPOCS", "3", "unknown key 'epocs'"),
        ("TRAINNG__EPOCHS", "3", "unknown setting"),
        ("TRACKING__MLFLOW__URI", "./mlruns", "'./mlruns' is no server or database"),
        ("TRACKING__MLFLOW__URI", "localhost:5000", "write http://localhost:5000"),
        ("TRACKING__MLFLOW__URI", "postgres://u/x", "or postgresql://..."),
        ("TRACKING__MLFLOW__URI", "sqlite:///my.db", "is a relative path; write sqlite:////"),
        ("TRACKING__WANDB__PROJECT", "team/name", "W&B takes no / in the name of a project or team; write both apart"),
        ("TRACKING__WANDB__PROJECT", "a:b", "W&B takes no : in the name"),
        ("TRACKING__WANDB__ENTITY", "team/name", "W&B takes no / in the name"),
    ],
)
def test_a_wrong_variable_is_said_in_words_with_the_right_form(
    sweep_file: Write,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    words: str,
    source: str,
) -> None:
    """Named in its own place, though the sweep file has the same keys."""
    path = sweep_file(append="tracking: {mlflow: {uri: null}, wandb: {project: isotherm}}\nmetrics: []\n")
    if source == ".env":
        (folder / ".env").write_text(f"# ours\nOTHER=1\nISOTHERM_{variable}={value}\n")
    else:
        monkeypatch.setenv(f"ISOTHERM_{variable}", value)
    with pytest.raises(ConfigError) as refused:
        sweepfile.load(path)
    [problem] = refused.value.problems
    assert problem.place == f"{source if source == 'environment' else '.env:3'}: ISOTHERM_{variable}"
    assert words in problem.message


def test_lists_blocks_and_null_in_variables(sweep_file: Write, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("ISOTHERM_TRAINING={epochs: 2, lr: 0.01}\nISOTHERM_TRACKING__WANDB=null\n")
    monkeypatch.setenv("ISOTHERM_GRID__BUDGET", "[20k, 30k]")
    monkeypatch.setenv("isotherm_training__epochs", "3")
    settings = sweepfile.load(sweep_file()).settings
    assert settings.grid["budget"] == ["20k", "30k"]
    assert (settings.training.epochs, settings.training.lr, settings.tracking.wandb) == (3, 0.01, None)


def test_right_addresses_of_mlflow_are_taken(sweep_file: Write) -> None:
    for uri in (
        "http://mlflow.lan:5000",
        "https://x/y",
        "sqlite:////data/my.db",
        "postgresql+psycopg2://h/d",
        "databricks",
    ):
        mlflow = sweepfile.load(sweep_file(), [f"tracking.mlflow.uri={uri}"]).settings.tracking.mlflow
        assert mlflow is not None
        assert mlflow.uri == uri


def test_an_empty_or_relative_folder_in_a_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOTHERM_CACHE_DIR", "")
    monkeypatch.setenv("RAY_TMPDIR", "./rt")
    assert UserSettings().cache_dir == Path(platformdirs.user_cache_dir("isotherm"))
    assert RayEnvironment().tmpdir == folder / "rt"
    monkeypatch.setenv("WANDB_SWEEP_ID", "of-another")
    assert "WANDB_SWEEP_ID" not in tracker_environment()
