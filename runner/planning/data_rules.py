"""Each check of one data set and task: the number that breaks its limit, in words.

Limits, and which of the checks stop a sweep, are in `runner.config.gates`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from runner.config.gates import CheckLimits
from runner.planning.data_facts import Facts
from trainables.data import doubts
from trainables.data.splits import SPLITS

_NAMED = 4


@dataclass(frozen=True)
class Breach:
    """A limit that is broken. `excess` orders breaches of one rule, the worst last."""

    number: float
    limit: float
    message: str
    excess: float


@dataclass(frozen=True)
class Rule:
    """One check. `key` is its name in `GatesSpec`."""

    key: str
    find: Callable[[Facts, CheckLimits], Breach | None]
    fix: str

    @property
    def name(self) -> str:
        """For people."""
        return self.key.replace("_", " ")


def shortfall(facts: Facts, limits: CheckLimits) -> Breach | None:
    """Selection, validation or test with fewer effective samples than can decide anything."""
    found: Breach | None = None
    for split, size in facts.splits.items():
        if split == "train":
            continue
        number, limit, what = size.effective, limits.effective_samples, "effective samples"
        if number >= limit and size.effective_rarer is not None:
            number, limit, what = (
                size.effective_rarer,
                limits.rarest_class,
                "effective samples of the rarest class",
            )
        missing = 1 - number / limit
        if missing > (found.excess if found else 0):
            found = Breach(number, limit, f"{split} has {number} {what}, {limit} are needed", missing)
    return found


def _balance(facts: Facts, limits: CheckLimits) -> Breach | None:
    rarest = {split: min(shares) for split, shares in _shares(facts).items() if min(shares) < limits.class_balance}
    if not rarest:
        return None
    split, rarer = min(rarest.items(), key=lambda item: item[1])
    least = limits.class_balance
    text = f"the rarest class makes up {100 * rarer:.1f} % of the windows of {split}, below {100 * least:g} %"
    return Breach(rarer, least, text, 1 - rarer / least)


def _rate_move(facts: Facts, limits: CheckLimits) -> Breach | None:
    shares = _shares(facts)
    if len(shares) < len(SPLITS):
        return None
    moves = {
        number: max(abs(shares[split][number] - shares["train"][number]) for split in SPLITS[1:])
        for number in range(1 if not facts.classes else 0, len(shares["train"]))
    }
    number, move = max(moves.items(), key=lambda item: item[1])
    if move <= limits.base_rate:
        return None
    shown = " to ".join(f"{100 * share[number]:.1f} % ({name})" for name, share in shares.items())
    one = f"the share of {facts.classes[number]} moves from" if facts.classes else "the share of positives moves from"
    text = f"{one} {shown}, by more than {100 * limits.base_rate:g} points: "
    text += "a part of any loss is the period's and not the model's"
    return Breach(move, limits.base_rate, text, move)


def _shares(facts: Facts) -> dict[str, tuple[float, ...]]:
    """Shares of the classes by split, as far as there are windows; empty where labels are values."""
    found: dict[str, tuple[float, ...]] = {name: facts.splits[name].shares for name in SPLITS}
    return {name: shares for name, shares in found.items() if shares}


def _overlap(facts: Facts, limits: CheckLimits) -> Breach | None:
    if not facts.overlaps:
        return None
    text = f"the labels of {facts.overlaps} windows reach into a later split"
    return Breach(facts.overlaps, 0, text, facts.overlaps)


def _gap(facts: Facts, limits: CheckLimits) -> Breach | None:
    long = [gap for gap in facts.gaps if gap.days > limits.label_gap * gap.usual_days]
    if not long:
        return None
    long.sort(key=lambda gap: -gap.days / gap.usual_days)
    shown = [f"{gap.days} days from {gap.after} to {gap.before} ({gap.asset})" for gap in long]
    worst, times = long[0], limits.label_gap
    text = (
        f"a label of horizon {facts.horizon} spans a gap between two bars: {_listed(shown)}; more than {times:g} times "
    )
    text += f"the {worst.usual_days} days that bars are usually apart at most"
    return Breach(worst.days, times * worst.usual_days, text, worst.days / worst.usual_days)


def _doubt(kind: str, facts: Facts, limits: CheckLimits) -> Breach | None:
    found = [one for one in facts.doubts if one.kind == kind]
    if not found:
        return None
    return Breach(len(found), 0, f"{doubts.KINDS[kind]}: {doubts.words(found)}", len(found))


def _dates(facts: Facts, limits: CheckLimits) -> Breach | None:
    found: Breach | None = None
    for split in SPLITS[1:]:
        first, last = facts.splits[split].first, facts.splits[split].last
        days = (last - first).days + 1 if first and last else limits.split_dates
        if days < limits.split_dates and (found is None or days < found.number):
            text = f"{split} covers {days} days ({first} to {last}), less than {limits.split_dates}"
            found = Breach(days, limits.split_dates, text, limits.split_dates - days)
    return found


def _shift(facts: Facts, limits: CheckLimits) -> Breach | None:
    return _drift(
        facts, "shift", limits.mean_drift, "the mean of", "by more than {} training standard deviations", signed=True
    )


def _stability(facts: Facts, limits: CheckLimits) -> Breach | None:
    return _drift(facts, "stability", limits.distribution_drift, "the distribution of", "by a stability index above {}")


def _drift(facts: Facts, what: str, limit: float, head: str, how: str, *, signed: bool = False) -> Breach | None:
    if facts.inputs is None:
        return None
    worst: dict[str, tuple[float, str]] = {}
    for split, values in getattr(facts.inputs, what).items():
        for name, value in values.items():
            if abs(value) > limit and abs(value) > abs(worst.get(name, (0.0, ""))[0]):
                worst[name] = value, split
    if not worst:
        return None
    ordered = sorted(worst.items(), key=lambda item: -abs(item[1][0]))
    shown = [f"{name} {value:{'+' if signed else ''}.2f} (train to {split})" for name, (value, split) in ordered]
    count = f"{len(worst)} of {len(facts.inputs.names)} inputs moves {how.format(f'{limit:g}')}"
    number = abs(ordered[0][1][0])
    return Breach(number, limit, f"{head} {count}: {_listed(shown)}", number)


def _constant(facts: Facts, limits: CheckLimits) -> Breach | None:
    if facts.inputs is None or not facts.inputs.constant:
        return None
    names = facts.inputs.constant
    text = f"{len(names)} of {len(facts.inputs.names)} inputs never change over the training windows: "
    return Breach(len(names), 0, text + _listed(list(names)), len(names))


def _duplicate(facts: Facts, limits: CheckLimits) -> Breach | None:
    if facts.inputs is None or not facts.inputs.duplicates:
        return None
    pairs = sorted(facts.inputs.duplicates, key=lambda pair: -abs(pair[2]))
    shown = [f"{one} and {other} ({r:+.5f})" for one, other, r in pairs]
    text = f"inputs that are one, by a correlation beyond {limits.duplicate_inputs:g}: {_listed(shown)}"
    return Breach(abs(pairs[0][2]), limits.duplicate_inputs, text, len(pairs))


def _strong(facts: Facts, limits: CheckLimits) -> Breach | None:
    return _alone(facts, limits.strong_input, limits.leak, "see whether it could know the future")


def _leak(facts: Facts, limits: CheckLimits) -> Breach | None:
    return _alone(facts, limits.leak, 1.0, "no honest input of a market does that")


def _alone(facts: Facts, above: float, up_to: float, remark: str) -> Breach | None:
    found = facts.inputs.auc if facts.inputs else {}
    strong = {name: auc for name, auc in found.items() if above < auc <= up_to}
    if not strong:
        return None
    ordered = sorted(strong.items(), key=lambda item: -item[1])
    shown = _listed([f"{name} {auc:.3f}" for name, auc in ordered])
    text = f"one input alone predicts the label with an AUC above {above:g}: {shown}; {remark}"
    return Breach(ordered[0][1], above, text, ordered[0][1])


def _lead(facts: Facts, limits: CheckLimits) -> Breach | None:
    found = {name: r for name, r in (facts.inputs.lead if facts.inputs else {}).items() if abs(r) > limits.lead_lag}
    if not found:
        return None
    ordered = sorted(found.items(), key=lambda item: -abs(item[1]))
    shown = _listed([f"{name} {r:+.3f}" for name, r in ordered])
    text = f"columns as given go with the return of the next bar, by a correlation above {limits.lead_lag:g}: {shown}; "
    return Breach(abs(ordered[0][1]), limits.lead_lag, text + "they hold what was not known", abs(ordered[0][1]))


def _listed(texts: list[str]) -> str:
    more = len(texts) - _NAMED
    return ", ".join(texts[:_NAMED]) + (f" and {more} more" if more > 0 else "")


_PERIODS = "choose other data.splits, or more bars"
_COLUMNS = "look at the source's columns and dates: a value of a later bar may be in an earlier row"
RULES = (
    Rule("class_balance", _balance, "choose other thresholds of the task, or a longer horizon"),
    Rule(
        "base_rate",
        _rate_move,
        "read skill with the loss at the baseline rate of this split (val_own_rate_loss), which the report's table of "
        "all trials shows",
    ),
    Rule("label_overlap", _overlap, "this is a defect of the splits: report it"),
    Rule("label_gap", _gap, "add the missing bars to the source, or begin it after the gap"),
    Rule("price_jump", partial(_doubt, "jump"), "use prices that are adjusted for splits, in one unit"),
    Rule("outlier", partial(_doubt, "outlier"), "correct these prices in the source"),
    Rule("stale_run", partial(_doubt, "stale_run"), "take out bars that the vendor only repeated"),
    Rule(
        "missing_session",
        partial(_doubt, "missing_session"),
        "add the missing bars to the source; where most days are named, choose another data.calendar",
    ),
    Rule("split_dates", _dates, _PERIODS),
    Rule("mean_drift", _shift, "use data.representation: relative, or data.scaling: revin"),
    Rule("distribution_drift", _stability, "expect a model to be worse there; compare regimes by data.splits.fold"),
    Rule("constant_inputs", _constant, "use a longer training span, a larger data.fraction, or another tier"),
    Rule("duplicate_inputs", _duplicate, "use data.representation: relative, or another tier"),
    Rule("strong_input", _strong, _COLUMNS),
    Rule("leak", _leak, _COLUMNS),
    Rule("lead_lag", _lead, "move the column back in time (lag), or correct how it is computed"),
)
