"""The data catalog against the files on disk."""

from collections.abc import Iterator

from runner.doctor.context import HostContext
from runner.doctor.finding import Diagnosis, ok
from runner.planning import datasets
from trainables.errors import InputError


def check(place: HostContext) -> Iterator[Diagnosis]:
    """Read every dataset and compare its hash."""
    try:
        checked = datasets.verify(place.data)
    except InputError as error:
        yield _broken(str(error.problems[0].message))
        return
    for one in checked["datasets"]:
        if not one["ok"]:
            yield _broken(f"{one['path']}: {one['message']}")
    good = sum(bool(one["ok"]) for one in checked["datasets"])
    if good or not checked["datasets"]:
        yield ok("data catalog", f"{good} dataset(s) in {place.data} match the catalog")


def _broken(what: str) -> Diagnosis:
    return Diagnosis(
        check="data catalog",
        level="error",
        what=what,
        why="a sweep on that dataset refuses to start",
        fix="isotherm data prepare SWEEP rebuilds it",
    )
