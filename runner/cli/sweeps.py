"""Commands on a sweep file: plan, sweep, probe, debug."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from runner.cli.common import (
    BAD_INPUT,
    INTERNAL_ERROR,
    QUICKSTART,
    STOPPED,
    Address,
    ClearCache,
    Json,
    NoCache,
    NoTracking,
    Plugins,
    Set,
    SweepFile,
    console,
    exit_code_of,
    load,
    print_json,
    say,
)
from runner.terminal.console import Console
from trainables.errors import ConfigError, Problem


def plan(
    sweep: SweepFile,
    set_: Set = None,
    plugin: Plugins = None,
    no_cache: NoCache = False,
    clear_cache: ClearCache = False,
    cells: Annotated[bool, typer.Option("--cells", help="a row for each cell, not for each budget")] = False,
    seed_spread: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="for the power: deviation between seeds, as a share of the loss"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the grid as it would run: actual parameters, micro-batches, what is new, done or infeasible, and findings.

    Example: `isotherm plan configs/sweeps/budget_grid.yaml --set training.epochs=3`
    """
    from runner.planning import execution, power
    from runner.planning import plan as planning
    from runner.rundir.paths import DATA, RUNS
    from runner.storage import restore
    from runner.terminal import plan as terminal

    loaded = load(sweep, set_, plugins=plugin)
    restore.bring(loaded.settings, RUNS, DATA, Console(stderr=True))
    folder = execution.cache_folder(use=not no_cache, clear=clear_cache)
    with execution.make_prober(loaded.settings, cache_folder=folder, say=say) as prober:
        built = planning.build(loaded, prober=prober)
    say("")
    known = () if built.errors else power.of_plan(built, cache=folder, spread=seed_spread)
    built = replace(built, findings=(*built.findings, *power.findings(known)))
    if as_json:
        print_json({**built.as_dict(), "power": [one.as_dict() for one in known]})
    else:
        terminal.show(built, console(), power=known, cells=cells)
    if built.errors:
        raise typer.Exit(BAD_INPUT)


def sweep(
    sweep: SweepFile,
    set_: Set = None,
    plugin: Plugins = None,
    no_tracking: NoTracking = False,
    address: Address = None,
    notify: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help="run it in a shell at the end: $1 is a line of text, $2 the exit code"),
    ] = None,
) -> None:
    """Run a sweep, or resume it: only cells that are new or unfinished run.

    Example: `isotherm sweep configs/sweeps/quickstart.yaml --set "grid.seed=[0, 1, 2]"`

    Exit codes: 0 done; 1 a cell failed; 2 bad input, nothing was started; 3 stopped early, run it again to resume;
    4 internal error.
    """
    from runner import sweep as sweeping
    from runner.cli import notify as notifying
    from runner.cli.output import logged_console
    from runner.tune import environment

    with _stopped_early():
        loaded = load(sweep, set_, tracking=not no_tracking, plugins=plugin)
        name = loaded.settings.name
        try:
            code = sweeping.run(loaded, logged_console(), address=address)
        except Exception as error:
            if notify is not None:
                notifying.run(notify, f"{name}: {str(error).splitlines()[0]}", exit_code_of(error))
            raise
        if notify is not None:
            notifying.run(notify, f"{name}: ended with exit code {code}", code)
        environment.leave_lost_ray(code)
        raise typer.Exit(code)


@contextmanager
def _stopped_early() -> Iterator[None]:
    """Inside, and until the drain handles them, signals end this process with the code of a sweep to be resumed."""
    before = {number: signal.signal(number, _stop_early) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_early(number: int, _frame: FrameType | None) -> None:
    print(f"isotherm: {signal.Signals(number).name}: stopped before any trial; run it again", file=sys.stderr)
    sys.exit(STOPPED)


def control(
    sweep: SweepFile, set_: Set = None, plugin: Plugins = None, no_tracking: NoTracking = False, address: Address = None
) -> None:
    """Run a sweep's own grid on its bars in random order, and on bars with a law to be found.

    The runs are NAME-null and NAME-teacher; the report of NAME, if that has run, is built again with their verdicts.

    Example: `isotherm control configs/sweeps/quickstart.yaml`

    Exit codes: as of `sweep`, of the first control that does not end with 0.
    """
    import subprocess
    import sys

    from runner.planning import controls
    from runner.rundir.paths import run_paths

    loaded = load(sweep, set_, tracking=not no_tracking, plugins=plugin)
    for kind in controls.KINDS:
        given = [*(set_ or ()), *controls.overrides(loaded, kind)]
        options = [part for text in given for part in ("--set", text)]
        options += [part for path in plugin or () for part in ("--plugin", str(path))]
        options += ["--no-tracking"] * no_tracking + (["--address", address] if address else [])
        # A process of its own each: a driver leaves Ray and its signal handlers behind. It imports nothing from here.
        command = [sys.executable, "-P", "-m", "runner", "sweep", str(sweep), *options]
        if code := subprocess.run(command, check=False).returncode:
            raise typer.Exit(code if code > 0 else 128 - code)
    paths = run_paths(loaded.settings.name)
    if paths.ledger.exists():
        from runner.report import build

        console().print(f"report   {build.build(paths).html}", highlight=False)


def probe(
    budget: Annotated[str, typer.Option("--budget", "-b", help="parameter budget, such as 20m")],
    sweep: Annotated[Path, typer.Argument(metavar="[SWEEP]", help="a sweep file")] = QUICKSTART,
    config: Annotated[Path | None, typer.Option("--config", hidden=True, help="the sweep file, as before")] = None,
    dtype: Annotated[str | None, typer.Option(help="bf16 or fp32; default: as in the sweep file")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: as in the sweep file")] = None,
    memory_limit: Annotated[str | None, typer.Option(help="such as 3GB or 3GiB; default: what the device has")] = None,
    set_: Set = None,
    plugin: Plugins = None,
    no_cache: NoCache = False,
    clear_cache: ClearCache = False,
    as_json: Json = False,
) -> None:
    """Measure one cell: which micro-batch fits and is fastest. A micro-batch in the file is ignored.

    Example: `isotherm probe configs/sweeps/quickstart.yaml --budget 20m --memory-limit 3GB`

    Exit codes: 0 it fits; 2 bad input, or nothing fits.
    """
    from runner.planning import execution, probe_one
    from runner.terminal.probe import show

    given = {"execution.dtype": dtype, "execution.device": device, "probe.memory_limit": memory_limit}
    options = [f"{key}={value}" for key, value in given.items() if value is not None]
    loaded = load(config or sweep, [*(set_ or ()), *options], tracking=False, plugins=plugin)
    folder = execution.cache_folder(use=not no_cache, clear=clear_cache)
    decision = probe_one.run(loaded, budget, cache_folder=folder, say=say)
    say("")
    if as_json:
        print_json(probe_one.as_dict(decision))
    else:
        show(decision, console())
    if not decision.feasible:
        raise typer.Exit(BAD_INPUT)


def debug(
    budget: Annotated[str | None, typer.Option("--budget", "-b", help="parameter budget, such as 2m")] = None,
    sweep: Annotated[Path, typer.Argument(metavar="[SWEEP]", help="a sweep file")] = QUICKSTART,
    key: Annotated[str | None, typer.Option(help="key of a trial of the grid, or of its search")] = None,
    set_: Set = None,
    plugin: Plugins = None,
    steps: Annotated[int | None, typer.Option(min=1, help="stop after this many optimizer steps")] = None,
    overfit_batch: Annotated[
        bool, typer.Option("--overfit-batch", help="train on one batch: the loss must vanish")
    ] = False,
    detect_anomaly: Annotated[
        bool, typer.Option("--detect-anomaly", help="find the operation that makes a NaN")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="time the phases of a step and write a torch profiler trace")
    ] = False,
    test: Annotated[bool, typer.Option("--test", help="judge the test split, too, at the end")] = False,
    post_mortem: Annotated[bool, typer.Option("--post-mortem", help="on an error, open pdb where it happened")] = False,
) -> None:
    """Run one trial in this process: no Ray, no ledger, breakpoints work. Other grid axes take their first value.

    Give a budget, or the key of any trial.

    Example: `isotherm debug --budget 2m --steps 20 --set task.horizon=5`
    """
    from runner import debug as debugging

    if (budget is None) == (key is None):
        message = "give one of --budget and --key"
        raise ConfigError(Problem(place="--budget", message=message, fix="--budget 2m"))
    loaded = load(sweep, set_, tracking=False, plugins=plugin)
    options = debugging.DebugOptions(
        steps=steps, overfit_batch=overfit_batch, detect_anomaly=detect_anomaly, profile=profile, judge_test=test
    )
    try:
        code = debugging.run(loaded, budget or "", options, console(), key=key or "")
    except Exception as error:
        if not post_mortem or exit_code_of(error) == BAD_INPUT:
            raise
        import pdb
        import traceback

        traceback.print_exception(error)
        pdb.post_mortem(error.__traceback__)
        code = INTERNAL_ERROR
    raise typer.Exit(code)
