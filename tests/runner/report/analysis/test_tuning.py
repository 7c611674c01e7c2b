import pytest

from runner.report.analysis.tuning import edges
from runner.rundir.studies import StudyTrial

LOG = {"low": 1e-4, "high": 1e-1, "log": True, "integer": False}
FLAT = {"low": 0.0, "high": 0.4, "log": False, "integer": False}


@pytest.mark.parametrize(
    ("axis", "value", "edge"),
    [
        (LOG, 1.3e-4, 1e-4),
        (LOG, 8e-2, 1e-1),
        (LOG, 3e-3, None),
        (FLAT, 0.39, 0.4),
        (FLAT, 0.2, None),
        (FLAT, 0.0, None),  # a rate of dropout below 0 cannot be tried
        ({"choices": [1e-3, 3e-3, 1e-2]}, 1e-2, 1e-2),
        ({"choices": [3e-3, 1e-3, 1e-2]}, 3e-3, None),
        ({"choices": [1e-3, 1e-2]}, 1e-2, None),
        ({"choices": [0.0, 0.1, 0.2]}, 0.0, None),
        ({"choices": ["adam", "sgd", "lion"]}, "sgd", None),
        ({"choices": [True, False, None]}, True, None),
    ],
)
def test_a_winner_at_the_edge_of_what_was_tried(axis: dict[str, object], value: object, edge: float | None) -> None:
    best = StudyTrial(0, "0" * 12, {"training.lr": value}, "finished", 0.5, {})
    assert edges({"training.lr": axis}, best) == ([] if edge is None else [("training.lr", edge)])


def test_a_depth_of_one_is_no_edge_and_the_deepest_is() -> None:
    for depth, found in ((1, []), (2, []), (3, [("model.depth", 3)])):
        best = StudyTrial(0, "0" * 12, {"model.depth": depth}, "finished", 0.5, {})
        assert edges({"model.depth": {"choices": [1, 2, 3]}}, best) == found
