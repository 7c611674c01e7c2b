"""The settings of a sweep and of this process. The environment is read here and in `runner.config.layers` alone.

Precedence: command line (`--set`), environment (``ISOTHERM_*``, nested with ``__``), ``.env``, the sweep file,
``MLFLOW_TRACKING_URI`` for the one key that it stands for, defaults.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import ByteSize, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from runner.config.gates import GatesSpec
from runner.config.search import SearchSpec
from runner.rundir.paths import wrong_name
from runner.thermal.spec import ThermalSpec
from trainables.errors import ConfigError, Problem
from trainables.schema import (
    BASELINE_NAMES,
    BaselineSpec,
    DataSpec,
    ExecutionSpec,
    MetricSpec,
    ModelSpec,
    NamedPart,
    Spec,
    TaskSpec,
    TrainingSpec,
    with_calibration,
)

PREFIX = "ISOTHERM_"
PLUGINS = f"{PREFIX}PLUGINS"


# An @ behind a host may as well end a password that holds a slash.
_USER_INFO = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#][^\s?#]*@", re.IGNORECASE)
# Names of query parameters that carry credentials in the URIs of one server or filesystem or another.
_SECRET_QUERY = re.compile(
    r"://\S*[?&;#][^=&;#\s]*(key|secret|token|passw|pwd|sig|credential|auth)[^=&;#\s]*=", re.IGNORECASE
)


_MLFLOW_URI = re.compile(r"(https?|sqlite|postgresql|mysql|mssql)(?:\+\w+)?://", re.IGNORECASE)


def holds_credentials(text: str) -> bool:
    """Whether there is a URI in a text with user information or with credentials among its parameters."""
    return bool(_USER_INFO.search(text) or _SECRET_QUERY.search(text))


class ProbeSpec(Spec):
    """The resource probe, which measures what fits before a trial starts."""

    margin: float = Field(0.1, ge=0, lt=0.9, description="share of the memory limit that stays free")
    min_micro_batch: int = Field(1, ge=1, description="smallest micro-batch that `micro_batch: auto` may choose")
    max_micro_batch: int | None = Field(None, ge=1, description="largest one; null = the global batch")
    memory_limit: ByteSize | None = Field(None, description="such as 3GB or 3GiB; null = what the device has")
    seconds_per_model: float = Field(
        8.0, gt=0, description="measuring time for sizes beyond the first; more before long training"
    )
    timeout_s: float = Field(60.0, gt=0, description="of the first step of one size, and of its measurement")


class MlflowSpec(Spec):
    """MLflow tracking."""

    uri: str | None = Field(None, description="tracking server; null = sqlite in runs/mlflow.db, shared by all sweeps")
    experiment: str = Field("isotherm", min_length=1, description="name of the MLflow experiment")
    log_model: Literal["best", "all", "none"] = Field(
        "none", description="models of finished trials: the best of each data set and task, or all"
    )
    register_as: str | None = Field(
        None, min_length=1, max_length=200, description="name in MLflow's registry, of which each model is a version"
    )

    @field_validator("uri")
    @classmethod
    def _no_user_information(cls, value: str | None) -> str | None:
        if value is not None and holds_credentials(value):
            raise ValueError(
                "a URI must not hold user information or credentials, it would be written to files; "
                "use MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment or in .env"
            )
        return value

    @field_validator("uri")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        """A server or a database; trackers run in another folder, so that a relative path would name another file."""
        if value is None or value.startswith("databricks"):
            return value
        if not (form := _MLFLOW_URI.match(value)):
            host = f"http://{value}" if re.fullmatch(r"[\w.-]+:\d+/?", value) else "http://HOST:5000"
            raise ValueError(
                f"{value!r} is no server or database that MLflow tracks to; write {host}, sqlite:////FOLDER/mlflow.db "
                "or postgresql://..., or null for runs/mlflow.db"
            )
        if form[1] == "sqlite" and not value.startswith("sqlite:////"):
            path = Path(value.removeprefix("sqlite:///").removeprefix("sqlite:")).absolute()
            raise ValueError(f"{value!r} is a relative path; write sqlite:///{path}")
        return value


class WandbSpec(Spec):
    """W&B tracking."""

    mode: Literal["auto", "online", "offline"] = Field("auto", description="auto = online with a key, else offline")
    project: str = Field("isotherm", min_length=1, description="name of the W&B project")
    entity: str | None = Field(None, description="W&B team or user; null = your default")

    @field_validator("project", "entity")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if found := sorted(set(value or "") & set("/\\#?%:")):
            message = f"W&B takes no {' '.join(found)} in the name of a project or team"
            raise ValueError(f"{message}; write both apart: project: NAME, entity: TEAM")
        if len(value or "") > 128:
            raise ValueError("W&B takes at most 128 characters as the name of a project or team")
        return value


class TrackerSpec(NamedPart):
    """A tracker of one's own. Further keys are its own; without any, its name alone says the same."""

    name: str = Field(description="tracker; `isotherm parts` lists them, with their keys")


class TrackingSpec(Spec):
    """Trackers; null turns one off."""

    mlflow: MlflowSpec | None = Field(MlflowSpec(), description="null = off")
    wandb: WandbSpec | None = Field(WandbSpec(), description="null = off")
    others: tuple[TrackerSpec, ...] = Field((), description="trackers of your own: names, or blocks with their keys")


@contextmanager
def readable_dotenv() -> Iterator[None]:
    """A ``.env`` that cannot be read is a problem of that file.

    Raises:
        ConfigError: it is not UTF-8, or not for this user.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        message = f"not UTF-8 text (byte {error.start})"
        raise ConfigError(Problem(place=".env", message=message, fix="save it as UTF-8")) from error
    except OSError as error:
        raise ConfigError(Problem(place=".env", message=f"cannot be read: {error.strerror}")) from error


class _Settings(BaseSettings):
    """Settings that may come from a ``.env`` file, which is a user's own text.

    Raises:
        ConfigError: it cannot be read.
    """

    def __init__(self, **values: Any) -> None:
        with readable_dotenv():
            super().__init__(**values)


class SweepSettings(Spec):
    """A whole sweep, as asked; `runner.config.layers` reads the sources.

    Example: ``SweepSettings(name="first", grid={"budget": ["2m", "20m"]})``
    """

    name: str = Field(description="the run directory is runs/<name>")
    data: DataSpec = DataSpec()
    task: TaskSpec = TaskSpec()
    model: ModelSpec = ModelSpec()
    training: TrainingSpec = TrainingSpec()
    grid: dict[str, list[Any]] = Field(
        description="axes: budget, horizon, seed, data_fraction, compute, or any dotted key"
    )
    baselines: tuple[BaselineSpec, ...] = Field(
        tuple(BaselineSpec(name=name) for name in BASELINE_NAMES),
        description="fitted on the windows of each data set and task: names, or blocks with their keys",
    )
    metrics: tuple[MetricSpec, ...] = Field(
        (), description="reported in addition to loss, skill, AUC, AP and Brier score: names, or blocks with their keys"
    )
    search: SearchSpec | None = Field(
        None, description="search in each combination of the axes but seed, then confirm with every seed"
    )
    execution: ExecutionSpec = ExecutionSpec()
    gates: GatesSpec = GatesSpec()
    probe: ProbeSpec = ProbeSpec()
    thermal: ThermalSpec = ThermalSpec()
    tracking: TrackingSpec = TrackingSpec()
    storage_path: str | None = Field(
        None,
        min_length=1,
        description="a folder that exists, or a URI such as s3://bucket/folder, that another machine can go on from",
    )

    @property
    def all_metrics(self) -> tuple[MetricSpec, ...]:
        """The metrics that are asked for, and those that `task.calibrate` adds."""
        return with_calibration(self.metrics, self.task.calibrate)

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if wrong := wrong_name(value):
            raise ValueError(wrong)
        return value

    @field_validator("storage_path")
    @classmethod
    def _no_credentials(cls, value: str | None) -> str | None:
        if value is None or "://" not in value:
            return value
        if "@" in value.partition("?")[0] or holds_credentials(value):
            # The value itself is not repeated: messages end up in logs.
            raise ValueError(
                "a storage URI must not hold user information or credentials, it would be written to files; "
                "pyarrow reads them from the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        return value

    @field_validator("grid")
    @classmethod
    def _axes(cls, grid: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if "budget" not in grid:
            raise ValueError("the axis 'budget' is missing; write budget: [2m, 20m, 200m, 2b]")
        for axis, values in grid.items():
            if not values:
                raise ValueError(f"the axis {axis!r} is empty; give at least one value")
            if len({repr(value) for value in values}) != len(values):
                raise ValueError(f"the axis {axis!r} names a value twice")
        return grid


class UserSettings(_Settings):
    """What belongs to a user and not to a sweep; from the environment or ``.env`` only."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True
    )

    cache_dir: Path = Field(Path(platformdirs.user_cache_dir("isotherm")), description="what the probe measured")
    state_dir: Path = Field(
        Path(platformdirs.user_state_dir("isotherm")), description="addresses of trackers that this user has named"
    )


class UserMlflow(_Settings):
    """The tracking server of this user, as far as the environment or ``.env`` names one."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX + "TRACKING__MLFLOW__", env_file=".env", extra="ignore", frozen=True
    )

    uri: str | None = None


class RayEnvironment(BaseSettings):
    """Ray's own variables, as far as a sweep depends on them; from the environment only."""

    model_config = SettingsConfigDict(env_prefix="RAY_", extra="ignore", frozen=True, env_ignore_empty=True)

    address: str = ""
    tmpdir: Path | None = None
    memory_monitor_refresh_ms: str = ""
    auth_mode: str = ""
    auth_token: SecretStr | None = None
    auth_token_path: Path | None = None

    @field_validator("tmpdir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        """Ray's processes run in other folders."""
        return None if value is None else value.absolute()


class MlflowEnvironment(_Settings):
    """MLflow's own variable for the server that its credentials are for; from the environment or ``.env`` only."""

    model_config = SettingsConfigDict(env_prefix="MLFLOW_", env_file=".env", extra="ignore", frozen=True)

    tracking_uri: str | None = None


class Secrets(_Settings):
    """Secrets, from the environment or ``.env`` only. They are shown as stars wherever they are printed."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    wandb_api_key: SecretStr | None = None
    mlflow_tracking_username: str | None = None
    mlflow_tracking_password: SecretStr | None = None
    mlflow_tracking_token: SecretStr | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_absent(cls, value: object) -> object:
        """``WANDB_API_KEY=`` in a compose file means that there is no key."""
        return None if value == "" else value

    def are_for(self, mlflow_uri: str) -> bool:
        """Whether MLflow's credentials may be sent to an address: they were set for it, or for none in particular."""
        own = MlflowEnvironment().tracking_uri
        return not own or own.rstrip("/") == mlflow_uri.rstrip("/")


# A sweep or run of W&B's own that this process happens to be part of: its ids would take the place of ours.
_WANDB_IDS = ("WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_RUN_ID", "WANDB_RESUME")
_TRACKERS_OWN = (
    "WANDB_API_KEY",
    *_WANDB_IDS,
    *(f"MLFLOW_TRACKING_{one}" for one in ("URI", "USERNAME", "PASSWORD", "TOKEN")),
)


def tracker_environment() -> dict[str, str]:
    """The environment of a tracker's process: without address and credentials, which it is given where they belong."""
    return {name: value for name, value in os.environ.items() if name not in _TRACKERS_OWN}


def tracking_of_environment() -> dict[str, Any]:
    """What trackers' own variables say in place of defaults: MLflow's address."""
    uri = MlflowEnvironment().tracking_uri
    return {"mlflow": {"uri": uri}} if uri else {}


class WandbEnvironment(BaseSettings):
    """W&B's own switch, from the environment or ``.env``."""

    model_config = SettingsConfigDict(env_prefix="WANDB_", env_file=".env", extra="ignore", frozen=True)

    mode: str = ""

    def limit(self, spec: WandbSpec | None) -> WandbSpec | None:
        """W&B as far as WANDB_MODE allows it: the variable can keep data here, and never makes them leave.

        A mode that is not known counts as ``offline``; so does ``dryrun``, W&B's former name for it.
        """
        if spec is None or self.mode == "disabled":
            return None
        allowed = self.mode in ("", "online", "run", "shared")
        return spec if allowed else spec.model_copy(update={"mode": "offline"})


def wandb_base_url() -> str:
    """Where W&B is: its own variable, for servers of one's own."""
    return os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"


def plugin_paths() -> tuple[Path, ...]:
    """Python files named in ISOTHERM_PLUGINS. Not from ``.env``, which may have come with somebody's folder."""
    return tuple(Path(one) for one in os.environ.get(PLUGINS, "").split(os.pathsep) if one)
