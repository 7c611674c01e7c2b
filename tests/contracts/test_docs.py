"""The documents are true: links lead somewhere, the configuration table is the code's, the README's commands run."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pytest

from tests.waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
MAKE = re.compile(r"^make [^#\n]*", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    broken = [link for link in LINK.findall(text) if "://" not in link and not (page.parent / link).exists()]
    assert not broken, broken


@pytest.mark.parametrize("page", ["configuration", "architecture"])
def test_pages_made_from_the_code_are_current(page: str) -> None:
    module = importlib.import_module(f"make_{page}")
    assert module.TARGET.read_text() == module.document(), f"run: python docs/make_{page}.py"


@pytest.mark.parametrize(("page", "at_least"), [("trust", 30), ("cases", 70)])
def test_the_tests_that_a_page_names_exist(page: str, at_least: int) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / f"{page}.md").read_text())
    assert len(named) >= at_least
    missing = [f"{path}::{test}" for path, test in named if f"def {test}(" not in (ROOT / path).read_text()]
    assert not missing, missing


def test_every_message_of_the_troubleshooting_page_is_in_the_code() -> None:
    sources = [path.read_text() for package in ("runner", "trainables") for path in (ROOT / package).rglob("*.py")]
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    messages = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(messages) >= 30
    missing = [message for message in messages if not any(message in source for source in sources)]
    assert not missing, missing


def test_every_make_target_is_in_the_help_and_every_mentioned_target_exists() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = set(re.findall(r"^  ([a-z-]+) ", shown, re.MULTILINE))
    phony = set(re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE).group(1).split())  # type: ignore[union-attr]
    assert targets == phony
    for page in PAGES:
        for mentioned in re.findall(r"`make ([a-z-]+)", page.read_text()) + re.findall(
            r"^make ([a-z-]+)", page.read_text(), re.MULTILINE
        ):
            assert mentioned in targets, f"{page.name}: make {mentioned}"


# What the commands of the README do less of here: a third of the trials; tests inside a test of theirs are collected.
LESS = {
    "make sweep": "--set grid.budget=[50k,100k] --set grid.seed=[0]",
    "make test": "--collect-only -n0",
    "make debug": "--steps 5",
    "make probe": "--set probe.seconds_per_model=2",
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tracked and untracked files of this tree in an empty folder, with this environment."""
    if not (ROOT / ".venv").exists():
        pytest.skip("needs the environment that `make setup` makes")
    folder = tmp_path_factory.mktemp("copy")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("needs a git checkout")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


@pytest.mark.slow
def test_the_commands_of_the_readme_run(copy: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (copy / "README.md").read_text(), re.DOTALL)
    commands = [command.strip() for block in blocks for command in MAKE.findall(block)]
    assert "make sweep" in commands
    assert "make test" in commands
    # MAKEFLAGS would pass on the variables of the make that runs these tests.
    ours = ("ISOTHERM_", "WANDB_", "MAKE", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    for command in commands:
        less = {"ARGS": next((given for start, given in LESS.items() if command.startswith(start)), "")}
        done = subprocess.run(
            command, shell=True, cwd=copy, env=environment | less, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    results = pd.read_parquet(copy / "runs" / "quickstart" / "results.parquet")
    baselines = results[results["kind"] == "baseline"]
    assert len(baselines) == 8, "four for each horizon"
    results = results[results["kind"] == "model"]
    assert list(results["status"]) == ["finished"] * 4
    assert not results["collapsed"].any()
    skill = results.set_index("horizon")["skill"]
    assert (skill.loc[1] > 0.1).all()
    assert skill.loc[5].mean() > 0.02, "little"


@pytest.mark.slow
def test_the_snippets_of_the_api_page_run(tmp_path: Path) -> None:
    """All in one program, a real sweep planned, run and read; and a training loop of one's own."""
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
    own = "# train.py\n"  # begins a program of its own
    text = "\n".join(snippet for snippet in snippets if not snippet.startswith(own))
    assert "sweep.run()" in text
    assert "trial.model()" in text
    guarded = 'if __name__ == "__main__":\n' + textwrap.indent(text, "    ")
    (tmp_path / "program.py").write_text(guarded)
    [train] = [snippet for snippet in snippets if snippet.startswith(own)]
    (tmp_path / "train.py").write_text(train)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ISOTHERM_", "WANDB_"))}
    environment |= {"ISOTHERM_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    for program in ("train.py", "program.py"):
        command = [sys.executable, program]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert (tmp_path / "runs" / "first" / "report.html").is_file()
