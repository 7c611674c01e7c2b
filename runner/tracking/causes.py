"""What errors of trackers mean: in plain words, with the fix, and whether trying again can help."""

from collections.abc import Sequence
from dataclasses import dataclass
from re import DOTALL, IGNORECASE, search

from trainables.errors import Problem

_LATER = "what is missing is sent when it is reachable, or later by `isotherm sync`"


@dataclass(frozen=True)
class Cause:
    """A kind of error: a regular expression for its text, what it means, the fix.

    A `lasting` one stays until somebody changes something: it is not tried again by itself.
    """

    pattern: str
    message: str
    fix: str
    lasting: bool = False


MLFLOW = (
    Cause(
        "invalid host header",
        "it accepts only names of itself that it knows, and not this one",
        "start the server with --allowed-hosts and this host's name, or use an address that it knows",
        lasting=True,
    ),
    Cause(
        r"error code 40[13]\b|unauthorized|permission_denied|unauthenticated",
        "it refuses these credentials",
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
        lasting=True,
    ),
    Cause(
        r"not in a valid json format|error code 30\d\b",
        "it answers with a page of another program, such as a sign-in page, and not as MLflow does",
        "set MLFLOW_TRACKING_TOKEN for the proxy in front of it, or take an address behind the sign-in",
        lasting=True,
    ),
    Cause(
        r"error code 40[45]\b",
        "there is no MLflow API at this address",
        "correct tracking.mlflow.uri: scheme, host, port and the path, if MLflow has one",
        lasting=True,
    ),
    Cause(r"deleted'? state", "a run was deleted there", "nothing: it is made anew"),
    Cause(
        "the experiment .* was deleted",
        "the experiment was deleted there",
        "restore it, or name another one: tracking.mlflow.experiment",
        lasting=True,
    ),
    Cause(
        "invalid_parameter_value|bad_request|error code 400",
        "it refuses what it was sent",
        "see mlflow.log in the run's logs for its reason; then `isotherm sync RUN`",
        lasting=True,
    ),
    Cause(r"answer is longer than", "its response is longer than that of any MLflow server", "check what runs there"),
    Cause(r"timed out|timeout exception", "no answer in time", f"look at its load; {_LATER}"),
    Cause(r"too many 5\d\d error|error code 5\d\d", "it returns a server error", f"look at its log; {_LATER}"),
    Cause(
        r"refused|connection aborted|remotedisconnected|reset by peer|unreachable|resolve|name or service",
        "it does not answer",
        f"start it, or correct tracking.mlflow.uri; {_LATER}",
    ),
    Cause(
        r"out-of-date database schema|can't locate revision",
        "the database was made by a newer MLflow than this one",
        "name another database or server in tracking.mlflow.uri, or install that version of MLflow here; "
        "`mlflow db upgrade` cannot help",
        lasting=True,
    ),
    Cause(r"database is locked", "another program holds the database", f"end it; {_LATER}"),
)
# Of a database whose version this MLflow knows.
OLDER_DATABASE = Cause(
    "out-of-date database schema",
    "the database was made by an older MLflow",
    "copy it, then bring it up to date: mlflow db upgrade",
    lasting=True,
)

WANDB = (
    Cause(
        r"api_key not configured|no api key|not logged in with|usageerror.*api.key",
        "there is no key for the online mode",
        "set WANDB_API_KEY, or tracking.wandb.mode: offline",
        lasting=True,
    ),
    Cause(
        r"\b401\b|\b403\b|authenticationerror|invalid api key|api key must|not logged in",
        "it refuses this key",
        "correct WANDB_API_KEY, or tracking.wandb.entity and project",
        lasting=True,
    ),
    Cause(
        r"\b404\b|not found",
        "there is no such project or team, or no W&B at this address",
        "correct tracking.wandb.entity and project, or WANDB_BASE_URL",
        lasting=True,
    ),
    Cause(
        r"\b400\b|invalid project|invalid character",
        "it refuses what it was sent",
        "see wandb.log in the run's logs for its reason; correct tracking.wandb.entity and project",
        lasting=True,
    ),
    Cause(
        r"connection refused|deadline exceeded|timed out|timeout|commerror|urlerror|http error 5",
        "it does not answer",
        f"look at the network, or set tracking.wandb.mode: offline; {_LATER}",
    ),
)


def cause_of(error: Exception | str, causes: Sequence[Cause]) -> Cause | None:
    """The first cause that an error's type and text name."""
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return next((cause for cause in causes if search(cause.pattern, text, IGNORECASE | DOTALL)), None)


def problem(error: Exception, cause: Cause | None, place: str, log: str) -> Problem:
    """An error in plain words; one that is not known in its own, with the log that has it all."""
    if cause is not None:
        return Problem(place=place, message=cause.message, fix=cause.fix)
    return Problem(
        place=place, message=f"{type(error).__name__}: {str(error)[:500]}", fix=f"see {log} in the run's logs"
    )
