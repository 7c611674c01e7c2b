"""What is wrong with the block `search` of a sweep."""

from collections.abc import Callable, Iterator

from pydantic import ValidationError

from runner.config import axes, parts
from runner.config.search import Around, Choices, Range, SearchSpec
from runner.config.settings import SweepSettings
from runner.config.variants import AXIS_BLOCKS, block_keys, has_field, variant_of, whole
from runner.config.words import words_of
from runner.config.yaml_lines import Location
from runner.rundir import comparable
from trainables.errors import ConfigError, Problem, nearest
from trainables.schema import parse_budget
from trainables.training.metric_registry import METRICS, lower_is_better


def problems(settings: SweepSettings, place: Callable[[Location], str]) -> Iterator[Problem]:
    """What is wrong with the block `search`, values in combination aside."""
    if (search := settings.search) is None:
        return
    seeds = settings.grid.get("seed", [settings.training.seed])
    if search.seed in seeds:
        message = f"search.seed {search.seed} is a seed that confirms; the search would choose by it"
        yield Problem(place=place(("search", "seed")), message=message, fix="give a number that grid.seed lacks")
    if search.metric == "selection_loss" and not settings.data.splits.selection:
        message = "metric selection_loss needs a part of validation that only chooses"
        yield Problem(
            place=place(("search", "metric")), message=message, fix="give data.splits.selection, such as 0.33"
        )
    yield from _metric_problems(settings, search, place)
    yield from _ladder_problems(settings, search, place)
    yield from _transfer_problems(settings, search, place)
    for dotted, dimension in search.dimensions.items():
        where = place(("search", "ladder") if search.ladder else ("search", "space", dotted))
        if (wrong := _space_problem(settings, dotted)) is not None:
            yield Problem(place=where, message=wrong[0], fix=wrong[1])
            continue
        for message, fix in _condition_problems(settings, search, dotted):
            yield Problem(place=where, message=message, fix=fix)
        if isinstance(dimension, Around):
            given = comparable.setting({block: getattr(settings, block).model_dump() for block in AXIS_BLOCKS}, dotted)
            if not (isinstance(given, dict) and "base" in given) and not (
                isinstance(given, int | float) and not isinstance(given, bool) and given > 0
            ):
                yield Problem(place=where, message=f"{dotted} has no value above 0 to search around", fix="give one")
            continue
        for value in dimension.choices if isinstance(dimension, Choices) else (dimension.low, dimension.high):
            try:
                variant_of(settings, {"budget": settings.grid["budget"][0]}, {dotted: whole(value)})
            except ValidationError as error:
                yield Problem(place=where, message=f"{words_of(error.errors()[0])} (got {value!r})")
            except ConfigError as error:
                yield Problem(place=where, message=f"{error.problems[0].message} (got {value!r})")
            except ValueError as error:
                yield Problem(place=where, message=f"{error} (got {value!r})")


BY_EPOCH = ("val_loss", "val_auc", "val_ap", "val_brier", "skill", "selection_loss")


def _metric_problems(
    settings: SweepSettings, search: SearchSpec, place: Callable[[Location], str]
) -> Iterator[Problem]:
    where, named = place(("search", "metric")), [f"val_{one.column}" for one in settings.all_metrics]
    if search.metric not in BY_EPOCH and search.metric not in named:
        message = f"{search.metric!r} is a number of no trial"
        fix = f"{nearest(search.metric, (*BY_EPOCH, *named))}; another one is named in `metrics`, too"
        yield Problem(place=where, message=message, fix=fix)
    elif search.metric not in BY_EPOCH and search.pruner != "none":
        message = (
            f"{search.metric} is known at the end of a trial alone, and the pruner {search.pruner} needs it before"
        )
        yield Problem(place=where, message=message, fix=f"pruner: none, or one of {', '.join(BY_EPOCH)}")


def higher_is_better(settings: SweepSettings) -> bool:
    """Which way the metric of a search goes."""
    assert settings.search is not None
    metric = settings.search.metric.removeprefix("val_")
    names = {one.column: one.name for one in settings.all_metrics}
    return metric != "selection_loss" and not lower_is_better(METRICS.get(names.get(metric, metric)))


def _ladder_problems(
    settings: SweepSettings, search: SearchSpec, place: Callable[[Location], str]
) -> Iterator[Problem]:
    """A ladder needs sizes; budgets that are none are found elsewhere."""
    if not search.ladder:
        return
    try:
        sizes = {parse_budget(budget) for budget in settings.grid["budget"]}
    except ValueError:
        return
    if len(sizes) < 3:
        where = place(("search", "ladder"))
        yield Problem(
            place=where, message=f"a ladder takes 3 sizes; there are {len(sizes)}", fix="give grid.budget more"
        )


def _transfer_problems(
    settings: SweepSettings, search: SearchSpec, place: Callable[[Location], str]
) -> Iterator[Problem]:
    if not search.transfer:
        return
    where = place(("search", "transfer"))
    if len(settings.grid["budget"]) < 3:
        yield Problem(
            place=where, message="the two smallest sizes predict larger ones", fix="give grid.budget 3 or more"
        )
    if not any(isinstance(one, Around) or (isinstance(one, Range) and one.log) for one in search.space.values()):
        message = "nothing to transfer: rules of the size are those of logarithmic ranges"
        yield Problem(place=where, message=message, fix="give a range of search.space log: true, or {around: rule}")
    if search.sampler == "grid":
        message = "sampler grid has no place to start at"
        yield Problem(place=where, message=message, fix="drop search.transfer, or take sampler tpe")


def _condition_problems(settings: SweepSettings, search: SearchSpec, dotted: str) -> Iterator[tuple[str, str]]:
    for key, value in search.dimensions[dotted].when.items():
        other = search.dimensions.get(key)
        if other is None or key == dotted:
            if key == dotted or not _is_known(settings, key):
                yield f"when names no key {key!r}", nearest(key, [*search.dimensions, *_fields(settings)])
        elif not isinstance(other, Choices) or other.when:
            yield f"when names {key}, which is not one of several choices at all times", "give it choices, without when"
        elif value not in other.choices:
            yield f"when {key} is {value!r}, which it never is", f"name one of {', '.join(map(repr, other.choices))}"


def _is_known(settings: SweepSettings, dotted: str) -> bool:
    block, _, rest = dotted.partition(".")
    return block in AXIS_BLOCKS and (has_field(AXIS_BLOCKS[block], rest) or rest in parts.keys(settings, block))


def _fields(settings: SweepSettings) -> list[str]:
    return [f"{one}.{key}" for one in AXIS_BLOCKS for key in (*block_keys(one), *parts.keys(settings, one))]


def _space_problem(settings: SweepSettings, dotted: str) -> tuple[str, str] | None:
    """Why a key cannot be searched, and the fix."""
    block = dotted.partition(".")[0]
    if not _is_known(settings, dotted):
        return f"no key {dotted!r}", nearest(dotted, _fields(settings))
    if dotted == "training.seed" or (block in comparable.BLOCKS and dotted not in comparable.INPUTS):
        return f"{dotted} changes what is judged, so that losses cannot be compared", "make it an axis of grid"
    if axes.canonical(dotted) in settings.grid:
        return f"{dotted} is an axis of grid, too", "drop one of the two"
    return None
