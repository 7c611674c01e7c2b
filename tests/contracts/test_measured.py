"""What simulations measured, against what the project promises: a worse result cannot be committed unnoticed."""

import json
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
ENOUGH = 30  # tables, for a share of them to say something


def test_no_interval_covers_less_than_85_of_100() -> None:
    scenarios = json.loads((RESULTS / "fit_coverage.json").read_text())["scenarios"]
    assert len(scenarios) >= 9
    for name, found in scenarios.items():
        assert all(share >= 0.85 for share in found["coverage"].values()), name
        if found["verdicts"].get("power law", 0) >= ENOUGH:
            assert all(share >= 0.85 for share in found["coverage_as_power_law"].values()), name


def test_a_sweep_without_a_law_is_called_one_in_less_than_1_of_100() -> None:
    scenarios = json.loads((RESULTS / "false_laws.json").read_text())["scenarios"]
    without = {name: found for name, found in scenarios.items() if not name.startswith("power law")}
    tables = sum(found["tables"] for found in without.values())
    false = sum(found["sweep"].get("power law", 0) for found in without.values())
    assert false <= 0.01 * tables
    assert all(found["sweep"].get("power law", 0) <= 0.02 * found["tables"] for found in without.values())


def test_intervals_of_a_trial_cover_what_the_documentation_says_and_more_than_before() -> None:
    found = json.loads((RESULTS / "interval_coverage.json").read_text())["persistence"]
    for persistence, least in {"0": 0.93, "0.9": 0.92, "0.97": 0.88, "0.99": 0.7}.items():
        ours, earlier = found[persistence]["batches"], found[persistence]["block_bootstrap"]
        assert ours["loss"] >= least
        assert ours["skill"] >= least
        assert ours["loss"] >= earlier["loss"] - 0.01
    page = (RESULTS.parents[1] / "docs" / "training.md").read_text()
    for how in ("batches", "block_bootstrap"):
        for name in ("loss", "skill", "difference"):
            row = " | ".join(f"{found[one][how][name]:.3f}"[1:] for one in found)
            assert row in page, (how, name)


def test_noise_has_no_direction_and_a_change_has_one() -> None:
    document = json.loads((RESULTS / "false_laws.json").read_text())
    assert document["resamples"] >= 1000
    for name, found in document["scenarios"].items():
        words, tables = found["sweep_direction"], found["tables"]
        if not name.startswith("flat"):
            assert words["falls"] >= 0.95 * tables, name
        elif "1 seed" in name:
            assert set(words) == {"can't tell"}, name
        else:
            assert words.get("falls", 0) + words.get("rises", 0) <= 0.02 * tables, name


def test_power_as_predicted_is_power_as_simulated() -> None:
    settings = json.loads((RESULTS / "power.json").read_text())["settings"]
    assert len(settings) >= 5
    for one in settings:
        assert abs(one["predicted"] - one["simulated"]) <= 0.05, one
        assert one["sweeps"] >= 500, "a share of fewer is not known to 5 points"


def test_controls_find_the_law_where_there_is_one_and_none_where_there_is_none() -> None:
    results = json.loads((RESULTS / "control.json").read_text())["results"]
    null, teacher = results["null"], results["teacher"]
    assert null["right"] == null["controls"] >= 20
    assert teacher["controls"] >= 20
    assert teacher["right"] >= 0.9 * teacher["controls"]
