"""The commands `thermal watch` and `thermal simulate`."""

from pathlib import Path
from typing import Annotated

import typer

from runner.cli.common import FAILED, QUICKSTART, Json, Set, console, print_json

app = typer.Typer(help="Temperature protection: live readings, and the policy simulated.", no_args_is_help=True)


@app.command("watch")
def thermal_watch(
    sweep: Annotated[Path | None, typer.Argument(metavar="[SWEEP]", help="a sweep file, for its thermal block")] = None,
    set_: Set = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="stop after so long; default: until Ctrl-C")] = None,
    as_json: Json = False,
) -> None:
    """Show all temperature sensors live, with their limits and the policy's level. --json: the first readings.

    Example: `isotherm thermal watch --seconds 30`

    Exit codes: 0; 1 no temperature can be read here; 2 bad input.
    """
    from runner.terminal.thermal import show_watched
    from runner.thermal import watch

    spec = None
    if sweep is not None or set_:
        from runner.config import sweep_file

        spec = sweep_file.load(sweep or QUICKSTART, set_ or (), tracking=False).settings.thermal
    watched = watch.open_all(spec)
    if as_json:
        print_json(watch.first(watched))
    else:
        show_watched(watched, console(), seconds)
    if not watched.stations:
        raise typer.Exit(FAILED)


@app.command("simulate")
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
    from runner.terminal.thermal import show_simulated
    from runner.thermal.simulation import simulate

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
        print_json(outcome.as_dict())
    else:
        show_simulated(outcome, console())
