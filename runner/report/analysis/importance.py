"""How much each searched key matters for the loss of one study, by Optuna's fANOVA (Hutter et al. 2014)."""

import math
from collections.abc import Mapping
from typing import Any

from runner.rundir.studies import StudyState

MIN_TRIALS = 8  # a forest of fewer says little
TREES = 32
SEED = 0


def importances(state: StudyState) -> dict[str, float]:
    """Shares by key, which add up to 1; empty where the study has one key, or too few finished trials."""
    tried = [trial for trial in state.trials if trial.finished and trial.loss is not None and math.isfinite(trial.loss)]
    space = {dotted: axis for dotted, axis in state.asked["space"].items() if all(dotted in t.values for t in tried)}
    if len(tried) < MIN_TRIALS or len(space) < 2 or state.asked.get("ladder"):
        return {}
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {dotted: _distribution(axis) for dotted, axis in space.items()}
    study = optuna.create_study()
    for trial in tried:
        values = {dotted: trial.values[dotted] for dotted in space}
        study.add_trial(optuna.trial.create_trial(params=values, distributions=distributions, value=trial.loss))
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(n_trees=TREES, seed=SEED))
    return {dotted: float(found[dotted]) for dotted in space}


def _distribution(axis: Mapping[str, Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if "choices" in axis:
        return CategoricalDistribution(axis["choices"])
    if axis["integer"]:
        return IntDistribution(int(axis["low"]), int(axis["high"]), log=axis["log"])
    return FloatDistribution(axis["low"], axis["high"], log=axis["log"])
