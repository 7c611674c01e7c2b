"""What a failed cell's line says of its worker's end."""

import pytest

from runner.tune.ledger_callback import _last_words

HEAD = """\
Failure # 1 (occurred at 2026-01-01_00-00-00)
Traceback (most recent call last):
  File "/x/ray/tune/execution/ray_trial_executor.py", line 1, in get_next
    result = ray.get(future)
             ^^^^^^^^^^^^^^^
ray.exceptions.RayTaskError({kind}): ray::IsothermTrial.train() (pid=1, ip=127.0.0.1)
  File "/x/trainables/data/catalog.py", line 7, in load
    raise {kind}(problem)
"""


@pytest.mark.parametrize(
    ("kind", "rest", "expected"),
    [
        ("ValueError", "ValueError: no such thing\n", "ValueError: no such thing"),
        (
            "DataError",
            "trainables.errors.DataError: data/x.parquet: changed since it was prepared\n    fix: prepare it again\n",
            "trainables.errors.DataError: data/x.parquet: changed since it was prepared; fix: prepare it again",
        ),
        (
            "DataError",
            "trainables.errors.DataError: a: is wrong\n    fix: do this\nb: is wrong, too\n    fix: do that\n\n",
            "trainables.errors.DataError: a: is wrong; fix: do this; b: is wrong, too; fix: do that",
        ),
    ],
)
def test_it_has_every_line_of_the_message(kind: str, rest: str, expected: str) -> None:
    assert _last_words(HEAD.format(kind=kind) + rest) == expected


@pytest.mark.parametrize("error", ["", "ray.exceptions.ActorDiedError: The actor died unexpectedly\n"])
def test_a_death_is_said_in_a_line(error: str) -> None:
    assert _last_words(error) == "its worker process died: it was killed, or crashed outside of Python"


def test_a_text_without_a_traceback_is_taken_as_it_is() -> None:
    assert _last_words("out of patience\n") == "out of patience"
