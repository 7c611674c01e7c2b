"""The commands of the page on using a model run, on a finished run of another name."""

import re
import shlex
from pathlib import Path

from typer.testing import CliRunner

from runner.cli import app

PAGE = Path(__file__).resolve().parents[3] / "docs" / "use.md"


def test_the_commands_of_the_page_run(place: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert {line.split()[1] for line in commands} == {"predict", "evaluate", "export", "backtest"}
    for line in commands:
        _, *arguments = shlex.split(line.replace("quickstart", "tiny"))
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0, f"{line}\n{done.output}"
    assert (place / "predictions.csv").is_file()
    assert (place / "model" / "model.pt2").is_file()
