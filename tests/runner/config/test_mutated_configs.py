"""Random damage to every shipped sweep file: each one either resolves or gives a clear message, never a traceback."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.config import sweep_file
from trainables.errors import ConfigError, Problem

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))
ODD = [
    *(
        "",
        "null",
        "~",
        "true",
        "-1",
        "0",
        "1e999",
        ".nan",
        ".inf",
        "-.inf",
        "1_000",
        "0x10",
        "0o7",
        "1:30",
        "1e-3",
        "2m",
    ),
    *("[]", "{}", "[[]]", "[null]", "{a: b}", "'", '"', "{", "[", "]", ": :", "- -", "*a", "&a", "!!python/none", "!x"),
    *("../..", "/etc/passwd", "\\x00", "\t", "☃", "ﬀ", "a" * 500, "2020-01-01", "2020-13-45", "99999999999999999999"),
    *("http://u:p@h", "%d", "${HOME}", "<script>", "\u202e", "|", ">", "? x", "# x", "---", "...", "<<: {a: 1}"),
]


def replace_value(lines: list[str], chance: random.Random) -> None:
    index = chance.randrange(len(lines))
    head, colon, _ = lines[index].partition(":")
    lines[index] = f"{head}{colon} {chance.choice(ODD)}"


def drop_line(lines: list[str], chance: random.Random) -> None:
    del lines[chance.randrange(len(lines))]


def double_line(lines: list[str], chance: random.Random) -> None:
    lines.insert(chance.randrange(len(lines)), chance.choice(lines))


def indent(lines: list[str], chance: random.Random) -> None:
    index = chance.randrange(len(lines))
    lines[index] = " " * chance.randrange(6) + lines[index].lstrip()


def one_character(lines: list[str], chance: random.Random) -> None:
    index = chance.randrange(len(lines))
    line = lines[index]
    place = chance.randrange(len(line) + 1)
    cut = place + chance.randrange(2)
    lines[index] = line[:place] + chance.choice("abz019:-[]{},.'\"#&*!|>%@` \t\\é\x07") + line[cut:]


def swap(lines: list[str], chance: random.Random) -> None:
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]


MUTATIONS: list[Callable[[list[str], random.Random], None]] = [
    replace_value,
    replace_value,
    drop_line,
    double_line,
    indent,
    one_character,
    one_character,
    swap,
]


def mutated(text: str, chance: random.Random) -> str:
    lines = text.splitlines()
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        if lines:
            chance.choice(MUTATIONS)(lines, chance)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("count", [pytest.param(60, id="short"), pytest.param(500, id="long", marks=pytest.mark.slow)])
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_damaged_configs_resolve_or_are_refused_in_words(path: Path, count: int, folder: Path) -> None:
    chance = random.Random(f"{path.stem} {count}")
    target = folder / "sweep.yaml"
    outcomes: dict[str, int] = {"resolved": 0, "refused": 0}
    problems: list[Problem] = []
    for number in range(count):
        text = mutated(path.read_text(), chance)
        target.write_text(text, encoding="utf-8", newline="")
        try:
            sweep_file.load(target)
        except ConfigError as error:
            outcomes["refused"] += 1
            problems += error.problems
        except Exception as error:
            raise AssertionError(f"mutation {number} gave {type(error).__name__}: {error}\n{text}") from error
        else:
            outcomes["resolved"] += 1
    assert min(outcomes.values()) > count / 20, outcomes
    assert len(problems) >= outcomes["refused"]
    assert all(problem.place and problem.message for problem in problems)
