"""The command `isotherm`. Every command imports what it needs when it runs: `--help` must stay instant."""

import json
import logging
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from trainables.errors import InfeasibleError, InputError, IsothermError, LedgerError
from trainables.files import is_storage_trouble

FAILED, BAD_INPUT, INTERNAL_ERROR = 1, 2, 4
QUICKSTART = Path("configs/sweeps/quickstart.yaml")

app = typer.Typer(
    help="Parameter-budget grids of time-series transformers: does the loss follow a power law, and how sure are we?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
data_app = typer.Typer(help="Build and verify datasets.", no_args_is_help=True)
app.add_typer(data_app, name="data")
thermal_app = typer.Typer(help="Temperature protection: live readings, and the policy simulated.", no_args_is_help=True)
app.add_typer(thermal_app, name="thermal")

SweepFile = Annotated[
    Path, typer.Argument(metavar="SWEEP", help="a sweep file, such as configs/sweeps/quickstart.yaml")
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="a run's name, or its folder")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="override a key of the sweep file")]
NoTracking = Annotated[bool, typer.Option("--no-tracking", help="turn MLflow and W&B off")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="measure anew, and keep nothing")]
ClearCache = Annotated[bool, typer.Option("--clear-cache", help="forget what was measured before")]
Address = Annotated[
    str | None,
    typer.Option(metavar="auto|HOST:PORT", help="run on the Ray cluster that this host is a node of"),
]
Json = Annotated[bool, typer.Option("--json", help="one JSON document on stdout; logs go to stderr")]


def main() -> None:
    """Run the command line; the exit codes are those of the design."""
    try:
        app()
    except Exception as error:
        sys.exit(_explain(error))


def _explain(error: Exception) -> int:
    if isinstance(error, InputError):
        noun = "problem" if len(error.problems) == 1 else "problems"
        print(f"isotherm: {len(error.problems)} {noun}; nothing was started", file=sys.stderr)
        print("\n".join(f"  {line}" for line in str(error).splitlines()), file=sys.stderr)
        return BAD_INPUT
    if isinstance(error, LedgerError | InfeasibleError):
        print(f"isotherm: {error}", file=sys.stderr)
        return BAD_INPUT
    if is_storage_trouble(error):
        print(f"isotherm: {error}\n    mend: make room there, or make it writable for this user", file=sys.stderr)
        return BAD_INPUT
    if isinstance(error, IsothermError):
        print(f"isotherm: {error}", file=sys.stderr)
        return INTERNAL_ERROR
    traceback.print_exception(error)
    print("isotherm: internal error; please report the lines above", file=sys.stderr)
    return INTERNAL_ERROR


@app.callback()
def _set_up() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)


def _console() -> Console:
    """The user's terminal; where the output goes to a file, wide enough for every table."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


def _say(text: str) -> None:
    """Progress of the probe; a terminal's line is overwritten by the next one, at last by an empty one."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text and 'probing '}{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(f"probing {text}", file=sys.stderr, flush=True)


def _print_json(document: Any) -> None:
    print(json.dumps(document, indent=2, allow_nan=False, default=str))


# ---- sweeps ------------------------------------------------------------------------------------------------------


@app.command()
def plan(
    sweep: SweepFile,
    set_: Set = None,
    no_cache: NoCache = False,
    clear_cache: ClearCache = False,
    as_json: Json = False,
) -> None:
    """Show the grid as it would run: actual parameters, micro-batches, what is new, done or infeasible, and the gates.

    Example: `isotherm plan configs/sweeps/budget_grid.yaml --set training.epochs=3`
    """
    from runner import plan as planning
    from runner import resources, sweepfile
    from runner.paths import DATA, RUNS
    from runner.storage import restore

    loaded = sweepfile.load(sweep, set_ or ())
    restore.bring(loaded.settings, RUNS, DATA, Console(stderr=True))
    folder = resources.cache_folder(use=not no_cache, clear=clear_cache)
    with resources.make_prober(loaded.settings, cache_folder=folder, say=_say) as prober:
        built = planning.build(loaded, prober=prober)
    _say("")
    if as_json:
        _print_json(built.as_dict())
    else:
        planning.show(built, _console())
    if built.errors:
        raise typer.Exit(BAD_INPUT)


@app.command()
def sweep(sweep: SweepFile, set_: Set = None, no_tracking: NoTracking = False, address: Address = None) -> None:
    """Run a sweep. Run again, it resumes, and runs only cells that are new or unfinished.

    Example: `isotherm sweep configs/sweeps/quickstart.yaml --set "grid.seed=[0, 1, 2]"`

    Exit codes: 0 done; 1 a cell failed; 2 bad input, nothing was started; 3 stopped early, run it again to resume;
    4 internal error.
    """
    from runner import sweep as sweeping
    from runner import sweepfile

    loaded = sweepfile.load(sweep, set_ or (), tracking=not no_tracking)
    raise typer.Exit(sweeping.run(loaded, _console(), address=address))


@app.command()
def probe(
    budget: Annotated[str, typer.Option("--budget", "-b", help="parameter budget, such as 20m")],
    config: Annotated[Path, typer.Option("--config", metavar="SWEEP", help="a sweep file")] = QUICKSTART,
    dtype: Annotated[str | None, typer.Option(help="bf16 or fp32; default: as the sweep file says")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: as the sweep file says")] = None,
    memory_limit: Annotated[str | None, typer.Option(help="such as 3GB or 3GiB; default: what the device has")] = None,
    set_: Set = None,
    no_cache: NoCache = False,
    clear_cache: ClearCache = False,
    as_json: Json = False,
) -> None:
    """Measure one cell: which micro-batch fits and is fastest. Whatever the file pins, the micro-batch is free here.

    Example: `isotherm probe --budget 20m --memory-limit 3GB --set training.global_batch=4096`

    Exit codes: 0 it fits; 2 bad input, or nothing fits.
    """
    from runner import probing, resources, sweepfile

    given = {"execution.dtype": dtype, "execution.device": device, "probe.memory_limit": memory_limit}
    options = [f"{key}={value}" for key, value in given.items() if value is not None]
    loaded = sweepfile.load(config, [*(set_ or ()), *options], tracking=False)
    folder = resources.cache_folder(use=not no_cache, clear=clear_cache)
    decision = probing.run(loaded, budget, cache_folder=folder, say=_say)
    _say("")
    if as_json:
        _print_json(probing.as_dict(decision))
    else:
        probing.show(decision, _console())
    if not decision.feasible:
        raise typer.Exit(BAD_INPUT)


@app.command()
def debug(
    budget: Annotated[str, typer.Option("--budget", "-b", help="parameter budget, such as 2m")],
    sweep: Annotated[Path, typer.Argument(metavar="[SWEEP]", help="a sweep file")] = QUICKSTART,
    set_: Set = None,
    steps: Annotated[int | None, typer.Option(min=1, help="stop after this many optimizer steps")] = None,
    overfit_batch: Annotated[
        bool, typer.Option("--overfit-batch", help="train on one batch: the loss must vanish")
    ] = False,
    detect_anomaly: Annotated[
        bool, typer.Option("--detect-anomaly", help="find the operation that makes a NaN")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="write a torch profiler trace and print its table")
    ] = False,
) -> None:
    """Run one trial in this process: no Ray, no ledger, breakpoints work. Grid axes take their first value.

    Example: `isotherm debug --budget 2m --steps 20 --set task.horizon=5`
    """
    from runner import debug as debugging
    from runner import sweepfile

    loaded = sweepfile.load(sweep, set_ or (), tracking=False)
    options = debugging.Options(
        steps=steps, overfit_batch=overfit_batch, detect_anomaly=detect_anomaly, profile=profile
    )
    raise typer.Exit(debugging.run(loaded, budget, options, _console()))


@app.command()
def status(run: RunName, as_json: Json = False) -> None:
    """Show the progress of a running or ended sweep, from its ledger alone.

    Example: `isotherm status quickstart`
    """
    from runner import status as statuses
    from runner.paths import existing_run

    collected = statuses.collect(existing_run(run))
    if as_json:
        _print_json(collected)
    else:
        statuses.show(collected, _console())


@app.command()
def report(run: RunName, as_json: Json = False) -> None:
    """Build the report again, from the run directory alone, offline.

    Example: `isotherm report quickstart`
    """
    from runner import report as reporting
    from runner.paths import existing_run

    built = reporting.build(existing_run(run))
    if as_json:
        _print_json(built.as_dict())
    else:
        _console().print(f"report   {built.html}\n         {built.markdown}", highlight=False)


@app.command()
def sync(run: RunName, as_json: Json = False) -> None:
    """Bring MLflow and W&B level with a run's ledger. Doing it twice changes nothing.

    Example: `isotherm sync quickstart`
    """
    from runner import trackers
    from runner.paths import existing_run

    paths = existing_run(run)
    reports = trackers.sync(paths)
    if as_json:
        _print_json(trackers.as_dict(reports))
    else:
        if not reports:
            _console().print("this run was started without trackers")
        for one in reports:
            _console().print(f"{one.name}: {one.delivered} records are there, {one.pending} are not", highlight=False)
    if any(one.pending for one in reports):
        raise typer.Exit(FAILED)


@app.command()
def doctor(
    sweep: Annotated[Path | None, typer.Argument(metavar="[SWEEP]", help="a sweep file, for what it asks")] = None,
    set_: Set = None,
    fast: Annotated[bool, typer.Option("--fast", help="only what is looked at before each sweep")] = False,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Check this host or container for what a sweep needs; each finding comes with what mends it.

    Example: `isotherm doctor configs/sweeps/quickstart.yaml`

    Exit codes: 0 nothing would stop a sweep; 1 something would; 2 bad input.
    """
    from runner import doctor as doctors
    from runner import sweepfile

    settings = None if sweep is None else sweepfile.load(sweep, set_ or ()).settings
    place = doctors.Place.of(settings, cluster=address is not None)
    findings = doctors.examine(place, fast=fast)
    if address is not None:
        from runner.tune import environment

        environment.prepare(cluster=True)
        environment.join(address)
        from runner.tune import cluster

        execution = place.execution if settings is None else settings.execution
        findings += cluster.check(cluster.survey(execution, place.thermal, place.shared))
        environment.stop()
    if as_json:
        _print_json(doctors.as_dict(findings))
    else:
        doctors.show(findings, _console())
    if not doctors.as_dict(findings)["ok"]:
        raise typer.Exit(FAILED)


# ---- fits --------------------------------------------------------------------------------------------------------


@app.command()
def fit(
    table: Annotated[Path, typer.Argument(metavar="CSV", help="columns n_params, loss, optionally n_samples")],
    delta: Annotated[float, typer.Option(min=1e-9, help="width of the Huber terms, in log loss")] = 1e-3,
    bootstraps: Annotated[int, typer.Option(min=20, max=10_000, help="resamples for the intervals")] = 200,
    exclude_outliers: Annotated[
        bool, typer.Option("--exclude-outliers", help="leave points beyond 4 robust deviations out, and name them")
    ] = False,
    weight: Annotated[str | None, typer.Option(help="column of weights; default: weight, if there is one")] = None,
    group: Annotated[str | None, typer.Option(help="column of groups; default: group, if there is one")] = None,
    as_json: Json = False,
) -> None:
    """Fit L = E + A/N^alpha (+ B/D^beta where n_samples varies) to any table, with intervals and a verdict.

    Example: `isotherm fit losses.csv --exclude-outliers --json`
    """
    from runner import scaling
    from runner.scaling.show import show

    options = scaling.Options(delta=delta, bootstraps=bootstraps, exclude_outliers=exclude_outliers)
    fitted = scaling.fit(scaling.read_csv(table, weight=weight, group=group), options)
    if as_json:
        _print_json(fitted.as_dict())
    else:
        show(fitted, _console())


# ---- data --------------------------------------------------------------------------------------------------------


@data_app.command("prepare")
def data_prepare(sweep: SweepFile, set_: Set = None, as_json: Json = False) -> None:
    """Build the sweep's datasets anew and enter them in data/catalog.json.

    Example: `isotherm data prepare configs/sweeps/quickstart.yaml`
    """
    from runner import datasets, sweepfile

    entries = datasets.prepare(sweepfile.load(sweep, set_ or ()))
    if as_json:
        _print_json(datasets.as_dict(entries))
    else:
        datasets.show(entries, _console())


@data_app.command("verify")
def data_verify(as_json: Json = False) -> None:
    """Check every catalog entry against its file on disk; exit code 2 where one differs.

    Example: `isotherm data verify`
    """
    from runner import datasets

    checked = datasets.verify()
    if as_json:
        _print_json(checked)
    else:
        datasets.show_verification(checked, _console())
    if not checked["ok"]:
        raise typer.Exit(BAD_INPUT)


# ---- temperature -------------------------------------------------------------------------------------------------


@thermal_app.command("watch")
def thermal_watch(
    sweep: Annotated[Path | None, typer.Argument(metavar="[SWEEP]", help="a sweep file, for its thermal block")] = None,
    set_: Set = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="stop after so long; default: until Ctrl-C")] = None,
    as_json: Json = False,
) -> None:
    """Show all temperature sensors live, with their limits and what the policy says. --json: the first readings.

    Example: `isotherm thermal watch --seconds 30`

    Exit codes: 0; 1 no temperature can be read here; 2 bad input.
    """
    from runner.thermal import watch

    spec = None
    if sweep is not None or set_:
        from runner import sweepfile

        spec = sweepfile.load(sweep or QUICKSTART, set_ or (), tracking=False).settings.thermal
    watched = watch.open_all(spec)
    if as_json:
        _print_json(watch.first(watched))
    else:
        watch.show(watched, _console(), seconds)
    if not watched.stations:
        raise typer.Exit(FAILED)


@thermal_app.command("simulate")
def thermal_simulate(
    ambient: Annotated[float, typer.Option(help="temperature of the surroundings, Celsius")] = 25.0,
    resistance: Annotated[float, typer.Option(help="thermal resistance, degrees a watt")] = 0.2,
    time_constant: Annotated[float, typer.Option(help="seconds to 63 % of a change")] = 40.0,
    power: Annotated[float, typer.Option(help="watts under load")] = 400.0,
    idle_power: Annotated[float, typer.Option(help="watts at rest")] = 0.0,
    target: Annotated[float, typer.Option(help="temperature to hold, Celsius")] = 80.0,
    hold: Annotated[float | None, typer.Option(help="default: target + 3")] = None,
    resume: Annotated[float | None, typer.Option(help="default: target - 5")] = None,
    stop: Annotated[float | None, typer.Option(help="default: hold + 6")] = None,
    noise: Annotated[float, typer.Option(help="standard deviation of a reading, degrees")] = 0.0,
    quantum: Annotated[float, typer.Option(help="readings are multiples of this, degrees; 0 = exact")] = 1.0,
    delay: Annotated[float, typer.Option(help="age of what a reading shows, seconds")] = 0.0,
    dropout: Annotated[
        list[str] | None, typer.Option(metavar="START:END", help="seconds without a reading; may be given again")
    ] = None,
    seconds: Annotated[float, typer.Option(help="simulated time")] = 3600.0,
    seed: Annotated[int, typer.Option(min=0, help="of the noise")] = 0,
    policy: Annotated[str, typer.Option(metavar="duty_cycle|bang_bang", help="what is simulated")] = "duty_cycle",
    as_json: Json = False,
) -> None:
    """Run the policy against a simulated device that always wants to work.

    Example: `isotherm thermal simulate --ambient 35 --power 450 --noise 1 --delay 3`
    """
    from runner.thermal import simulate

    limits = {"target": target, "hold": hold, "resume": resume, "stop": stop}
    plant = {
        "ambient_celsius": ambient,
        "resistance": resistance,
        "time_constant_s": time_constant,
        "power_watts": power,
        "idle_power_watts": idle_power,
        "noise_celsius": noise,
        "quantum_celsius": quantum,
        "delay_s": delay,
        "seed": seed,
    }
    outcome = simulate.from_options(plant, limits, dropout or [], seconds=seconds, strategy=policy)
    if as_json:
        _print_json(outcome.as_dict())
    else:
        simulate.show(outcome, _console())


if __name__ == "__main__":
    main()
