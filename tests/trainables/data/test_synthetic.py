"""What a universe plants is there, and nothing else is."""

from dataclasses import replace

import numpy as np
import pytest

from trainables.data import sources, synthetic
from trainables.data.synthetic import KINDS, Universe
from trainables.errors import DataError

MANY = 20_000


def returns(universe: Universe) -> np.ndarray:
    return np.diff(np.log(universe.frame()["close"].to_numpy()))


def lagged(values: np.ndarray, back: int = 1) -> float:
    return float(np.corrcoef(values[back:], values[:-back])[0, 1])


@pytest.mark.parametrize("kind", KINDS)
def test_equal_arguments_give_equal_bars_that_a_source_may_have(kind: str) -> None:
    text = f"synthetic:{kind}?bars=500&asset=3&seed=7"
    first, again = sources.read(text), sources.read(text)
    assert first.sha256 == again.sha256
    frame = first.frame
    assert len(frame) == 500
    assert (frame.high >= frame[["open", "close"]].max(axis=1)).all()
    assert (frame.low <= frame[["open", "close"]].min(axis=1)).all()
    assert sources.asset_name(text) == f"{kind}3"
    assert synthetic.parse(synthetic.parse(text.partition(":")[2]).argument()) == synthetic.parse(
        text.partition(":")[2]
    )
    assert sources.read(text.replace("seed=7", "seed=8")).sha256 != first.sha256


def test_a_walk_has_no_memory_and_clusters_have_one_of_size_alone() -> None:
    walk, clusters = returns(Universe("walk", MANY)), returns(Universe("clusters", MANY))
    limit = 4 / np.sqrt(MANY)
    assert abs(lagged(walk)) < limit
    assert abs(lagged(np.abs(walk))) < limit
    assert abs(lagged(np.sign(clusters))) < limit
    assert lagged(np.abs(clusters)) > 3 * limit


def test_who_knows_the_teacher_reaches_the_irreducible_loss_and_who_does_not_the_prior() -> None:
    universe = Universe("teacher", MANY)
    frame = universe.frame()
    rose = np.diff(frame["close"].to_numpy(), prepend=100.0) > 0
    shown = np.column_stack(
        [
            (frame["open"] / frame["close"] - 1) / 0.005,
            (frame["high"] / frame["close"] - 1) / 0.005 - 2,
            (1 - frame["low"] / frame["close"]) / 0.005 - 2,
            np.zeros(len(frame)),
        ]
    )
    chance = universe.chance(shown)
    loss = -np.where(rose, np.log(chance), np.log1p(-chance))
    assert loss.mean() == pytest.approx(universe.irreducible(), abs=4 * loss.std() / np.sqrt(MANY))
    assert universe.irreducible() < 0.5
    assert Universe("walk", MANY).irreducible() == pytest.approx(np.log(2))
    assert replace(universe, gain=1.0).irreducible() > universe.irreducible()
    assert abs(rose.mean() - 0.5) < 0.1


def test_every_seed_of_the_teacher_has_another_function_that_is_as_hard() -> None:
    first, *others = (Universe("teacher", MANY, seed=seed) for seed in range(5))
    shown = np.random.default_rng(0).uniform(-1, 1, size=(MANY, 4))
    for other in others:
        assert np.corrcoef(first.chance(shown), other.chance(shown))[0, 1] < 0.9
        assert other.irreducible() == pytest.approx(first.irreducible(), abs=0.006), (
            "it differed by 0.02 between teachers"
        )


def test_a_regime_turns_around_where_it_says() -> None:
    shown = np.random.default_rng(0).uniform(-1, 1, size=(1000, 4))
    before, after = (Universe(kind, 1000, change=0.6).chance(shown) for kind in ("teacher", "regime"))
    np.testing.assert_allclose(after[:600], before[:600])
    np.testing.assert_allclose(after[600:], 1 - before[600:])


def test_a_leak_is_in_the_volume_of_the_bar_before() -> None:
    frame = Universe("leak", 2000).frame()
    rises = np.diff(frame["close"]) > 0
    known = np.log(frame["volume"].to_numpy()[:-1] / 1e6) > 0
    assert (rises == known).mean() > 0.99


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("techer", "'teacher'"),
        ("walk?bar=500", "'bar' is no key"),
        ("walk?bars=many", "write, for instance"),
        ("walk?bars=5", "bars is 5"),
        ("walk?bars", "write, for instance"),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_fix(argument: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        sources.read(f"synthetic:{argument}")
    assert said in str(caught.value)
