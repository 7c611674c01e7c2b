import json
from dataclasses import replace

import numpy as np
import pytest

from runner.scaling import FitOptions, FitTable, fit, verdict
from runner.scaling.direction import Change, Direction
from runner.scaling.fit import Fit
from runner.scaling.model_comparison import CONSTANT, LOG_LINEAR, POWER_LAW, Comparison
from runner.scaling.verdict import Evidence
from trainables.errors import ConfigError

QUICK = FitOptions(bootstraps=60)
G = np.random.default_rng(1).normal(size=1000)


def points(n: int, seeds: int, low: float = 5e4, high: float = 2e7) -> np.ndarray:
    return np.repeat(np.geomspace(low, high, n), seeds)


def law(n_params: np.ndarray, e: float = 0.5, share: float = 0.15, alpha: float = 0.3) -> np.ndarray:
    return e + share * (n_params / 5e4) ** -alpha


def noisy(loss: np.ndarray, noise: float) -> np.ndarray:
    return loss * np.exp(noise * G[: len(loss)])


def of(n_params: np.ndarray, loss: np.ndarray, **more: object) -> Fit:
    return fit(FitTable(n_params, loss, **more), QUICK)  # type: ignore[arg-type]


@pytest.mark.parametrize(("n", "seeds", "noise"), [(5, 3, 0.001), (6, 1, 0.0), (8, 3, 0.003), (12, 1, 0.002)])
def test_a_power_law_is_called_one_and_its_exponent_covered(n: int, seeds: int, noise: float) -> None:
    n_params = points(n, seeds)
    found = of(n_params, noisy(law(n_params), noise))
    assert found.verdict == "power law"
    low, high = found.intervals["alpha"]
    assert low - 1e-3 <= 0.3 <= high + 1e-3
    assert found.extrapolation is not None
    assert abs(found.extrapolation.relative_error) < 0.02


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_fewer_than_five_sizes_are_never_a_power_law(n: int) -> None:
    n_params = points(n, 3)
    found = of(n_params, law(n_params))
    assert found.verdict == "not identifiable"
    assert f"{n} distinct size" in found.reason


def test_no_change_is_flat() -> None:
    n_params = points(6, 3)
    assert of(n_params, noisy(np.full(18, 0.5), 0.001)).verdict == "flat"


def test_a_rise_is_inverse() -> None:
    n_params = points(6, 3)
    assert of(n_params, noisy(0.5 + 0.01 * np.log(n_params / 5e4), 0.003)).verdict == "inverse"


def test_a_straight_line_in_the_logs_identifies_no_irreducible_loss() -> None:
    n_params = points(8, 3)
    found = of(n_params, noisy(2 * n_params**-0.05, 0.003))
    assert found.verdict == "not identifiable"
    assert "falls" in found.reason


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_parabola_is_no_law_whichever_way_it_opens(sign: float) -> None:
    x = np.log(points(9, 2))
    loss = 0.8 + sign * 0.01 * (x - x.mean() - 1.0) ** 2
    assert of(np.exp(x), noisy(loss, 0.002)).verdict == "not identifiable"


def test_noise_alone_gives_no_verdict() -> None:
    n_params = points(6, 2)
    assert of(n_params, noisy(np.full(12, 0.5), 0.1)).verdict == "not identifiable"


@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_a_large_table_of_two_variables_with_outliers(noise: float) -> None:
    random = np.random.default_rng(7)
    compute = 10 ** random.uniform(18.5, 21.5, 240)
    n_params = np.sqrt(compute / 120) * np.exp(random.normal(0, 0.8, 240))
    n_samples = compute / 6 / n_params
    loss = noisy(1.82 + 482 * n_params**-0.348 + 2085 * n_samples**-0.366, noise)
    loss[:6] *= 1.3
    table = FitTable(n_params, loss, n_samples)
    plain = fit(table, QUICK)
    excluding = fit(table, FitOptions(bootstraps=60, exclude_outliers=True))
    for found in (plain, excluding):
        assert found.verdict == "power law"
        assert found.parameters["E"] == pytest.approx(1.82, abs=0.08)
        assert found.parameters["alpha"] == pytest.approx(0.348, abs=0.06)
        assert found.parameters["beta"] == pytest.approx(0.366, abs=0.06)
    assert not plain.excluded
    assert {one.row for one in excluding.excluded} >= {1, 2, 3, 4, 5, 6}
    assert len(excluding.excluded) <= 9
    assert plain.n_points == 240
    assert excluding.n_points == 240 - len(excluding.excluded)


def test_clean_points_lose_none_to_the_exclusion() -> None:
    n_params = points(8, 3)
    found = fit(FitTable(n_params, noisy(law(n_params), 0.003)), FitOptions(bootstraps=20, exclude_outliers=True))
    assert found.excluded == ()


def test_a_weight_of_nothing_silences_a_point() -> None:
    n_params = points(8, 1)
    loss = law(n_params)
    loss[3] *= 1.5
    weight = np.ones(8)
    weight[3] = 1e-9
    found = of(n_params, loss, weight=weight)
    assert found.parameters["alpha"] == pytest.approx(0.3, abs=0.01)


def test_groups_share_the_exponent_and_are_offset() -> None:
    n_params = np.tile(points(7, 2), 2)
    group = np.repeat(["h1", "h5"], 14)
    found = of(n_params, noisy(law(n_params) + np.where(group == "h5", 0.2, 0.0), 0.001), group=group)
    assert found.verdict == "power law"
    assert found.irreducible["h5"] - found.irreducible["h1"] == pytest.approx(0.2, abs=0.01)


def test_samples_that_move_with_the_parameters_give_no_second_term() -> None:
    n_params = points(8, 1)
    found = of(n_params, law(n_params), n_samples=20 * n_params)
    assert "B" not in found.parameters
    assert any("move" in note for note in found.notes)


def test_shared_resamples_make_the_interval() -> None:
    n_params = points(6, 2)
    loss = law(n_params)
    common = 1 + 0.02 * np.random.default_rng(0).normal(size=(80, 1))
    found = fit(FitTable(n_params, loss), QUICK, loss_resamples_RN=loss * common)
    low, high = found.intervals["E"]
    assert 0.02 < high - low < 0.06  # 4 x 2 % of 0.5: the period moves the level ...
    low, high = found.intervals["alpha"]
    assert high - low < 0.01  # ... and, as it is common to all sizes, not the exponent


def test_the_document_is_json_with_the_promised_keys() -> None:
    n_params = points(5, 1)
    document = json.loads(json.dumps(of(n_params, law(n_params)).as_dict(), allow_nan=False))
    promised = "form E A alpha B beta intervals n_points objective verdict aicc excluded"
    assert set(promised.split()) <= set(document)
    assert document["B"] is None


def test_equal_input_gives_equal_numbers() -> None:
    n_params = points(5, 2)
    one, two = (of(n_params, noisy(law(n_params), 0.003)).as_dict() for _ in range(2))
    assert one == two


def _two_variables(noise_N: np.ndarray, beta: float = 0.35) -> FitTable:
    random = np.random.default_rng(0)
    sizes, samples = (np.exp(random.uniform(np.log(low), np.log(100 * low), len(noise_N))) for low in (1e8, 1e9))
    losses = (1.8 + 480 / sizes**0.35 + 1500 / samples**beta) * np.exp(noise_N)
    return FitTable(sizes, losses, samples)


def test_tied_exponents_are_one_and_are_known_better() -> None:
    table = _two_variables(0.01 * np.random.default_rng(1).normal(size=80))
    free, tied = (fit(table, FitOptions(bootstraps=60, tied=tied)) for tied in (False, True))
    assert tied.parameters["alpha"] == tied.parameters["beta"] == pytest.approx(0.35, abs=0.05)
    assert free.parameters["alpha"] != free.parameters["beta"]
    assert np.diff(tied.intervals["alpha"]) < np.diff(free.intervals["alpha"])
    assert tied.condition < free.condition


def test_points_of_one_run_count_for_less_than_as_many_runs() -> None:
    random = np.random.default_rng(2)
    cluster = np.repeat(np.arange(20), 5)
    shared = 0.02 * random.normal(size=20)[cluster] + 0.002 * random.normal(size=100)
    table = _two_variables(shared)
    names = cluster.astype(str)
    alone, clustered = (fit(replace(table, cluster=one), FitOptions(bootstraps=100)) for one in (None, names))
    assert clustered.parameters == alone.parameters
    assert any("of 20 clusters" in note for note in clustered.notes)
    assert np.diff(clustered.intervals["E"]) > 0.8 * np.diff(alone.intervals["E"])
    apart = fit(replace(table, cluster=np.arange(100).astype(str)), FitOptions(bootstraps=20))
    assert any("of 100 clusters: 0 %" in note for note in apart.notes), "clusters of one have nothing in common"


def test_an_exponent_that_may_be_anything_makes_no_power_law() -> None:
    """A real table's alpha lies in [0.08, 0.59]."""
    comparison = Comparison("aicc", {POWER_LAW: -20.0, CONSTANT: 0.0, LOG_LINEAR: -5.0}, 8, 0, False, (1e-6, 5))
    falls = Direction("falls", "", Change(-0.1, -0.12, -0.08, 0.6), None, None, False, "")
    for alpha, word in (((0.08, 0.59), "not identifiable"), ((0.2, 0.6), "power law")):
        found = verdict.judge(Evidence(8, falls, comparison, 0.5, alpha, (0.3, 0.4)))
        assert found is not None
        assert found.word == word, found.reason


@pytest.mark.parametrize(
    "wrong", [{"bootstraps": 0}, {"bootstraps": 19}, {"delta": 0.0}, {"delta": -1e-3}, {"delta": float("nan")}]
)
def test_options_that_the_command_refuses_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as caught:
        FitOptions(**wrong)  # type: ignore[arg-type]
    (problem,) = caught.value.problems
    assert problem.place == f"FitOptions.{next(iter(wrong))}"
    assert problem.fix
