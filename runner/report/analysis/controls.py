"""What the controls of a run found: the same grid on bars where the answer is known."""

from collections.abc import Iterator

from runner.report.analysis.trials import baselines_of, trials_of
from runner.report.analysis.verdict import sentence, verdicts
from runner.rundir import ledger
from runner.rundir.paths import RunPaths

# By the end of the run's name, which `isotherm control` gives.
MEANING = {
    "null": "the same bars in random order, where nothing is to be found",
    "teacher": "bars that a fixed function moves, where larger models should find more",
}


def sentences(paths: RunPaths) -> Iterator[str]:
    """The verdicts of the controls in the folder that the run is in.

    Raises:
        LedgerError: a control's ledger is damaged.
    """
    for kind, meaning in MEANING.items():
        control = RunPaths(paths.root.parent / f"{paths.root.name}-{kind}")
        if control.has_ledger:
            view = ledger.read(control.ledger)
            trials = trials_of(view)
            groups = tuple({trial.group for trial in trials})
            for one in verdicts(control, view, trials, baselines_of(view)):
                yield f"Control, {meaning}: {sentence(one, groups)}"
