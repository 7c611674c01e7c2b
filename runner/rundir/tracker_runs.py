"""What ``trackers/<tracker>.json`` says: each trial's run in a tracker. A convenience, never a reason to fail."""

import logging
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter

from trainables.files import read_json

log = logging.getLogger(__name__)


class TrackerRun(BaseModel):
    """A trial's run: its id, and its address where a server has it."""

    model_config = ConfigDict(frozen=True)

    run: str
    url: Annotated[str | None, BeforeValidator(lambda url: url if isinstance(url, str) else None)] = None


_RUNS: TypeAdapter[dict[str, TrackerRun]] = TypeAdapter(dict[str, TrackerRun])


def read(path: Path) -> dict[str, TrackerRun]:
    """Runs by key; none where nothing is noted yet, or what is there is damaged."""
    try:
        return _RUNS.validate_python(read_json(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read and is left out: %s", path, str(error).splitlines()[0])
        return {}
