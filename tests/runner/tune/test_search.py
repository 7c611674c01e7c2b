"""A search is rebuilt from its ledger alone: real ledger files, real Optuna, trials played by a planted loss."""

import io
import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from runner import debug
from runner.config.sweep_file import Sweep, load
from runner.planning import execution
from runner.planning import plan as planning
from runner.planning.grid import Builder
from runner.planning.plan import Plan
from runner.planning.record import record_start
from runner.report.analysis.tuning import measured, tuning
from runner.report.build import build
from runner.report.tuning_table import sentences
from runner.rundir import ledger, results, status
from runner.rundir.ledger import AttemptStarted, CellEnded
from runner.rundir.recorder import Recorder
from runner.rundir.studies import states
from runner.serving.choice import best_of_each
from runner.terminal.console import Console
from runner.terminal.progress import LiveProgress
from runner.tune.search import Search
from trainables.errors import ConfigError

SEARCH = """
search:
  space:
    training.lr: {low: 1.0e-5, high: 1.0, log: true}
    model.dropout: {choices: [0.0, 0.1, 0.2]}
  trials: 6
"""


@dataclass
class Place:
    """A sweep with a search, and a driver that plays its trials one by one."""

    sweep: Sweep
    runs: Path
    data: Path

    def plan(self) -> Plan:
        return planning.build(self.sweep, self.runs, self.data)

    def drive(self, *, kill_after: int | None = None, fail: Callable[[int], bool] = lambda _: False) -> int:
        """Run to the end, or until the driver dies within a trial; returns how many trials were started."""
        plan, started = self.plan(), 0
        with closing(Recorder(plan.paths)) as recorder:
            record_start(self.sweep, plan, recorder)
            search = Search(plan.studies, Builder.of(self.sweep, self.data), recorder, self.sweep.settings)
            todo = [cell for cell in search.cells.values() if not recorder.view.cells[cell.key].final]
            while (cell := todo.pop(0) if todo else search.next(lambda key: False)) is not None:
                attempt = len(recorder.view.cells[cell.key].attempts) + 1
                recorder.record(AttemptStarted(key=cell.key, attempt=attempt, execution={}))
                started += 1
                if started == kill_after:
                    return started
                loss = planted(cell.spec.training.lr, cell.target) + 1e-4 * cell.spec.training.seed % 1
                ended = {"status": "finished", "result": {"val_loss": loss, "test_loss": loss + 0.1}}
                if fail(started):
                    ended = {"status": "failed", "reason": "made to fail"}
                recorder.record(CellEnded(key=cell.key, attempt=attempt, **ended))
        return started

    def view(self) -> ledger.LedgerView:
        return ledger.read(self.runs / "tiny" / "ledger.jsonl")


def planted(lr: float, size: int) -> float:
    """A loss with its optimum at 1e-2 for 20,000 parameters, falling as N^-0.5."""
    return 0.5 + 0.05 * math.log10(lr / (1e-2 * (size / 20_000) ** -0.5)) ** 2


@pytest.fixture
def place(sweep_file: Callable[..., Path], folder: Path) -> Callable[..., Place]:
    def make(*changes: tuple[str, str], name: str = "one") -> Place:
        path = sweep_file(("seed: [0]", "seed: [0, 1]"), ("budget: [20k]", "budget: [20k, 60k]"), append=SEARCH)
        for old, new in changes:
            assert old in path.read_text()
            path.write_text(path.read_text().replace(old, new, 1))
        return Place(load(path, tracking=False), folder / name / "runs", folder / "data")

    return make


def suggestions(view: ledger.LedgerView) -> list[tuple[str, int, str]]:
    return [(study, one.number, one.key) for study, of_one in view.suggested.items() for one in of_one.values()]


def test_a_search_runs_to_its_confirmed_winners(place) -> None:
    one = place()
    assert one.drive() == 2 * (6 + 2)
    view = one.view()
    seeds = {view.cells[key].cell.spec["training"]["seed"] for key in view.searched_keys}
    assert seeds == {one.sweep.settings.search.seed}  # type: ignore[union-attr]
    for study in states(view):
        assert study.best is not None
        chosen = [view.cells[key].cell for key in study.confirmed]
        assert [cell.spec["training"]["seed"] for cell in chosen] == [0, 1]
        assert {cell.spec["training"]["lr"] for cell in chosen} == {study.best.values["training.lr"]}
        assert min(trial.loss for trial in study.trials) == study.best.loss  # type: ignore[type-var]
    assert one.plan().to_run == ()
    assert one.drive() == 0
    roles = results.frame(view).set_index("key")["role"]
    assert roles.value_counts().to_dict() == {"searched": 12, "confirmed": 4}
    assert len(view.compared) == 4
    found = tuning(view)
    assert found.comparisons == 12
    assert all(winner.n_confirmed == 2 and winner.optimism is not None for winner in found.winners)
    assert [study["suggested"] for study in status.collect(one.plan().paths)["studies"]] == [6, 6]


def test_a_driver_killed_after_every_few_trials_suggests_what_an_undisturbed_one_does(place) -> None:
    beyond_random = (("budget: [20k, 60k]", "budget: [20k]"), ("trials: 6", "trials: 13"))  # tpe's first 10 are random
    calm, stormy = (place(*beyond_random, name=name) for name in ("calm", "stormy"))
    calm.drive()
    deaths = 0
    while stormy.drive(kill_after=3) == 3:
        deaths += 1
    assert deaths >= 6
    assert sorted(suggestions(stormy.view())) == sorted(suggestions(calm.view()))
    assert stormy.view().compared_keys == calm.view().compared_keys
    assert all(state.status == "finished" for state in stormy.view().current.values())


def test_more_trials_go_on_from_those_there_are(place) -> None:
    few = place()
    few.drive()
    before = suggestions(few.view())
    many = place(("trials: 6", "trials: 9"))
    assert many.drive() <= 2 * (3 + 2)
    after = suggestions(many.view())
    assert len(after) == 18
    assert set(before) < set(after)
    assert len({key for _, _, key in after}) == 18


def test_a_failed_trial_is_no_winner_and_ends_no_study(place) -> None:
    one = place()
    one.drive(fail=lambda number: number % 2 == 1)
    for study in states(one.view()):
        assert study.best is None or study.best.status == "finished"
    assert len(suggestions(one.view())) == 12


def test_a_small_space_is_exhausted_without_a_trial_twice(place) -> None:
    one = place(("training.lr: {low: 1.0e-5, high: 1.0, log: true}", "training.clip: {choices: [0.5, 1.0]}"))
    one.drive()
    assert len(suggestions(one.view())) == 2 * 6  # 3 dropouts, 2 clips: all of them, each once
    more = place(
        ("training.lr: {low: 1.0e-5, high: 1.0, log: true}", "training.clip: {choices: [0.5, 1.0]}"),
        ("trials: 6", "trials: 8"),
    )
    more.drive()
    keys = [key for _, _, key in suggestions(more.view())]
    assert len(keys) == len(set(keys)) == 12


def test_max_trials_ends_the_search_and_confirms_what_there_is(place) -> None:
    one = place(("trials: 6", "trials: 6\n  max_trials: 5"))
    assert one.drive() == 5 + 4


def test_the_live_view_shows_the_best_of_each_study_so_far(place) -> None:
    one = place()
    one.drive(kill_after=4)
    view, console = one.view(), Console(file=io.StringIO(), force_terminal=False, width=300)
    progress = LiveProgress([], view, console)
    best = [study for study in states(view) if study.best is not None]
    shown = list(progress._best.values())
    assert len(shown) == len(best) == 2
    assert f"best val_loss {best[0].best.loss:.4f} so far, training.lr=" in shown[0]  # type: ignore[union-attr]


def test_a_key_with_a_condition_is_searched_where_that_holds(place) -> None:
    space = "model.dropout: {choices: [0.0, 0.1, 0.2]}"
    for sampler in ("tpe", "random", "grid"):
        one = place(
            (space, space + "\n    training.clip: {low: 0.5, high: 2, points: 2, when: {model.dropout: 0.1}}"),
            ("trials: 6", f"trials: 9\n  sampler: {sampler}"),
            name=sampler,
        )
        one.drive()
        for study in states(one.view()):
            tried = [trial.values for trial in study.trials]
            assert {values["model.dropout"] == 0.1 for values in tried} == {True, False}
            assert all(("training.clip" in values) == (values["model.dropout"] == 0.1) for values in tried)
        assert len(tuning(one.view()).winners) == 2


def test_shapes_are_searched_inside_the_budget(place) -> None:
    space = "{model.aspect: {low: 4, high: 64, log: true}, model.heads: {choices: [1, 2, 3]}}"
    one = place(
        (SEARCH[SEARCH.index("  space") : SEARCH.index("  trials")], f"  space: {space}\n"),
    )
    one.drive()
    view = one.view()
    shapes = [view.cells[key].cell.spec["model"]["shape"] for key in view.searched_keys]
    assert len({(shape["depth"], shape["heads"], shape["width"]) for shape in shapes}) > 6
    assert {shape["heads"] for shape in shapes} == {1, 2, 3}
    for study in states(view):
        counts = [view.cells[trial.key].cell.n_params for trial in study.trials]
        assert counts == pytest.approx([study.asked["budget"]] * 6, rel=0.02)


def test_the_rule_behind_the_optima_is_measured(place) -> None:
    one = place(
        ("budget: [20k, 60k]", "budget: [20k, 60k, 200k]"),
        ("trials: 6", "trials: 12\n  sampler: qmc"),
    )
    one.drive()
    (found,) = measured(one.view(), "training.lr")
    assert found.rule.exponent_low <= -0.5 <= found.rule.exponent_high
    assert found.rule.exponent == pytest.approx(-0.5, abs=0.05)
    (recipe,) = tuning(one.view()).recipe  # planted: a rate off by 3 costs 0.05 * log10(3)^2, size nothing
    assert "moves the loss of" in recipe
    with pytest.raises(ConfigError, match="has not searched"):
        measured(one.view(), "training.clip")
    with pytest.raises(ConfigError, match="no rule"):
        measured(one.view(), "model.dropout")


def test_unsearched_keys_and_ledgers_are_as_they_were(sweep_file, folder: Path) -> None:
    loaded = load(sweep_file(), tracking=False)
    plain = planning.build(loaded, folder / "runs", folder / "data")
    searched = load(sweep_file(append=SEARCH), tracking=False)
    again = planning.build(searched, folder / "runs", folder / "data")
    assert [cell.key for cell in plain.grid.cells] == [cell.key for cell in again.grid.cells]
    assert plain.studies == ()


def test_debug_runs_a_suggested_trial_by_its_key(place, capsys) -> None:
    one = place()
    one.drive(kill_after=2)
    key = one.view().searched_keys[0]
    options = debug.DebugOptions(steps=1)
    console = Console()
    assert debug.run(one.sweep, "", options, console, one.data, key=key, runs=one.runs) == 0
    assert key in capsys.readouterr().out
    with pytest.raises(ConfigError, match="has a trial"):
        debug.run(one.sweep, "", options, console, one.data, key="0" * 12, runs=one.runs)


TRANSFER = (
    ("budget: [20k, 60k]", "budget: [20k, 60k, 200k, 600k]"),
    ("trials: 6", "trials: 16\n  sampler: qmc\n  transfer: true"),
)


def test_larger_sizes_start_at_what_smaller_ones_predict_also_after_a_kill(place) -> None:
    calm, stormy = place(*TRANSFER, name="calm"), place(*TRANSFER, name="stormy")
    assert calm.drive() == 2 * 16 + 2 * 5 + 4 * 2
    while stormy.drive(kill_after=9) == 9:
        pass
    assert sorted(suggestions(stormy.view())) == sorted(suggestions(calm.view()))
    assert stormy.view().compared_keys == calm.view().compared_keys
    view = calm.view()
    smallest, small, large, largest = states(view)
    assert smallest.predicted is small.predicted is None
    for study, size in ((large, 200_000), (largest, 600_000)):
        optimum = 1e-2 * (size / 20_000) ** -0.5
        assert study.predicted is not None
        assert study.predicted.values["training.lr"] == pytest.approx(optimum, rel=0.15)
        assert study.trials[0].values == study.predicted.values
        low, high = (study.space["training.lr"][end] for end in ("low", "high"))
        assert low < optimum < high < 12 * low
        assert all(low <= trial.values["training.lr"] <= high for trial in study.trials)
    order = [study for study, _, _ in suggestions_in_order(view)]
    assert order[-5:] == [largest.asked["study"]] * 5
    shown = calm.plan().as_dict()["studies"]
    assert [study["trials"] for study in shown] == [16, 16, 5, 5]
    assert "as N^-0.5" in shown[-1]["source"]
    assert "as N^-0.5" in sentences(tuning(view))[1]


def suggestions_in_order(view: ledger.LedgerView) -> list[tuple[str, int, str]]:
    """Suggestions as they were made."""
    found = sorted((one for of_one in view.suggested.values() for one in of_one.values()), key=lambda one: one.seq)
    return [(one.study, one.number, one.key) for one in found]


def test_a_limit_confirms_what_smaller_sizes_predict(place) -> None:
    one = place(TRANSFER[0], ("trials: 6", "trials: 8\n  sampler: qmc\n  transfer: true\n  max_trials: 16"))
    assert one.drive() == 16 + 4 * 2
    *_, largest = states(one.view())
    assert largest.trials == ()
    (lr,) = {one.view().cells[key].cell.spec["training"]["lr"] for key in largest.confirmed}
    assert lr == largest.predicted.values["training.lr"]  # type: ignore[union-attr]
    assert one.drive() == 0


LADDER = (
    ("budget: [20k, 60k]", "budget: [20k, 40k, 60k, 100k, 200k, 600k]"),
    ("lr: 1.0e-3", "lr: 5.0e-3"),
    (SEARCH, "\nsearch: {ladder: [training.lr], max_hours: 0.5}\n"),
)


@pytest.fixture
def seconds(monkeypatch) -> Callable[[float], None]:
    """Says what the probe has measured of a trial: so many seconds for 1,000 parameters."""

    def measured_as(each: float) -> None:
        monkeypatch.setattr(execution, "trial_seconds", lambda cell: each * cell.target / 1000)

    return measured_as


def test_a_ladder_ends_in_a_rule_that_all_sizes_follow(place, seconds) -> None:
    calm, stormy = place(*LADDER, name="calm"), place(*LADDER, name="stormy")
    seconds(1.0)  # 6 values at 20k, 60k and 200k take 28 minutes, at 20k, 100k and 600k 72
    started = calm.drive()
    while stormy.drive(kill_after=5) == 5:
        seconds(3.0)  # a ladder that has begun keeps its sizes
    assert sorted(suggestions(stormy.view())) == sorted(suggestions(calm.view()))
    assert stormy.view().compared_keys == calm.view().compared_keys
    view = calm.view()
    tried = {study.asked["budget"]: len(study.trials) for study in states(view) if study.trials}
    assert set(tried) == {20_000, 60_000, 200_000}
    assert started == sum(tried.values()) + 6 * 2
    assert sum(tried.values()) <= 12
    for study in states(view):
        optimum = 1e-2 * (study.asked["budget"] / 20_000) ** -0.5
        for key in study.confirmed:
            assert view.cells[key].cell.spec["training"]["lr"] == pytest.approx(optimum, rel=0.02)
    assert calm.plan().to_run == ()
    assert calm.drive() == 0
    (found,) = measured(view, "training.lr")
    assert found.rule.exponent == pytest.approx(-0.5, abs=0.02)
    assert tuning(view).untuned == ""
    assert len(tuning(view).winners) == 6
    report = build(calm.plan().paths)
    assert {path.stem for path in report.figures if "search" in path.stem} == {"search_losses_1", "search_rules"}
    table = pd.read_csv(calm.plan().paths.winners_csv)
    assert list(table["budget"]) == [20_000, 40_000, 60_000, 100_000, 200_000, 600_000]
    assert table["number"].isna().all()  # all values are the rule's
    assert table["confirmed"].notna().all()


def test_the_largest_size_of_a_ladder_is_the_largest_that_can_be_paid_for(place, seconds) -> None:
    one = place(*LADDER)
    climbing = {}
    for each in (0.1, 1.0, 2.0):
        seconds(each)
        climbing[each] = [study.size for study in one.plan().studies if study.climbs]
    assert climbing == {0.1: [20_000, 100_000, 600_000], 1.0: [20_000, 60_000, 200_000], 2.0: [20_000, 40_000, 60_000]}
    seconds(3.0)
    with pytest.raises(ConfigError, match=r"can take 0\.6 hours"):
        one.plan()


def test_a_ladder_with_its_optimum_at_the_end_trains_nothing_else(place) -> None:
    one = place(*LADDER[:1], ("lr: 1.0e-3", "lr: 1.0e-8"), (SEARCH, "\nsearch: ladder\n"))
    assert one.drive() <= 18
    assert one.view().compared_keys == ()
    assert len(one.plan().to_run) == 12


def test_the_best_trial_is_a_confirmed_one_once_there_is_one(place) -> None:
    one = place()
    one.drive(kill_after=6)
    (early,) = best_of_each(one.view())
    assert early.cell.key in one.view().searched_keys, "nothing is confirmed yet"
    one.drive()
    view = one.view()
    lucky = view.cells[view.searched_keys[0]]
    assert lucky.ended is not None
    lucky.ended = lucky.ended.model_copy(update={"result": {"val_loss": 0.0}})
    (best,) = best_of_each(view)
    confirmed = [state.ended.result["val_loss"] for state in view.compared.values() if state.ended is not None]
    assert best.cell.key in view.compared_keys
    assert best.ended is not None
    assert best.ended.result["val_loss"] == min(confirmed)
