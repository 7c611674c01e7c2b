"""Each check of one data set and task: the number that breaks its limit, in words.

The limits are numbers that the user need not set; which of the checks stop a sweep is in
`runner.config.settings.GatesSpec`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from runner.planning.data_facts import DUPLICATE, Facts
from trainables.data import jumps
from trainables.data.splits import MIN_EFFECTIVE, MIN_EFFECTIVE_RARER_CLASS, SPLITS

MIN_RARER_SHARE = 0.05  # of a split's windows: with less, a metric hangs on a handful of days
MAX_RATE_MOVE = 0.10  # of the share of a class from training to a later split
MIN_DAYS = 365  # of validation and test: less than a year sees one season and mostly one regime
# Times the usual distance of bars. Weekends make 3 days usual for daily bars, and 12 days are longer than the holidays
# of an exchange (Shanghai's reach 11) or a closure such as that of September 2001 (7).
MAX_GAP = 4
MAX_SHIFT = 3.0  # training standard deviations: beyond, a model is asked about values that it hardly ever saw
MAX_STABILITY = 0.25  # Siddiqi 2006: above it a population has shifted in a major way
STRONG_AUC = 0.85  # volatility alone legitimately reaches 0.65 to 0.80 on thresholds of 1 %
LEAK_AUC = 0.95
# Of a column as given with the next bar's return. What is known explains a few thousandths of the variance of the next
# day's return (Campbell and Thompson 2008), a correlation below 0.1; an average centred on its bar reaches 0.4.
MAX_LEAD = 0.3
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
    find: Callable[[Facts], Breach | None]
    fix: str

    @property
    def name(self) -> str:
        """For people."""
        return self.key.replace("_", " ")


def shortfall(facts: Facts) -> Breach | None:
    """Selection, validation or test with fewer effective samples than can decide anything."""
    found: Breach | None = None
    for split, size in facts.splits.items():
        if split == "train":
            continue
        number, limit, what = size.effective, MIN_EFFECTIVE, "effective samples"
        if number >= limit and size.effective_rarer is not None:
            number, limit, what = (
                size.effective_rarer,
                MIN_EFFECTIVE_RARER_CLASS,
                "effective samples of the rarest class",
            )
        missing = 1 - number / limit
        if missing > (found.excess if found else 0):
            found = Breach(number, limit, f"{split} has {number} {what}, {limit} are needed", missing)
    return found


def _balance(facts: Facts) -> Breach | None:
    rarest = {split: min(shares) for split, shares in _shares(facts).items() if min(shares) < MIN_RARER_SHARE}
    if not rarest:
        return None
    split, rarer = min(rarest.items(), key=lambda item: item[1])
    text = f"the rarest class makes up {100 * rarer:.1f} % of the windows of {split}, below {100 * MIN_RARER_SHARE:g} %"
    return Breach(rarer, MIN_RARER_SHARE, text, 1 - rarer / MIN_RARER_SHARE)


def _rate_move(facts: Facts) -> Breach | None:
    shares = _shares(facts)
    if len(shares) < len(SPLITS):
        return None
    moves = {
        number: max(abs(shares[split][number] - shares["train"][number]) for split in SPLITS[1:])
        for number in range(1 if not facts.classes else 0, len(shares["train"]))
    }
    number, move = max(moves.items(), key=lambda item: item[1])
    if move <= MAX_RATE_MOVE:
        return None
    shown = " to ".join(f"{100 * share[number]:.1f} % ({name})" for name, share in shares.items())
    one = f"the share of {facts.classes[number]} moves from" if facts.classes else "the share of positives moves from"
    text = f"{one} {shown}, by more than {100 * MAX_RATE_MOVE:g} points: "
    text += "a part of any loss is the period's and not the model's"
    return Breach(move, MAX_RATE_MOVE, text, move)


def _shares(facts: Facts) -> dict[str, tuple[float, ...]]:
    """Shares of the classes by split, as far as there are windows; empty where labels are values."""
    found: dict[str, tuple[float, ...]] = {name: facts.splits[name].shares for name in SPLITS}
    return {name: shares for name, shares in found.items() if shares}


def _overlap(facts: Facts) -> Breach | None:
    if not facts.overlaps:
        return None
    text = f"the labels of {facts.overlaps} windows reach into a later split"
    return Breach(facts.overlaps, 0, text, facts.overlaps)


def _gap(facts: Facts) -> Breach | None:
    long = [gap for gap in facts.gaps if gap.days > MAX_GAP * gap.usual_days]
    if not long:
        return None
    long.sort(key=lambda gap: -gap.days / gap.usual_days)
    shown = [f"{gap.days} days from {gap.after} to {gap.before} ({gap.asset})" for gap in long]
    worst, limit = long[0], MAX_GAP * long[0].usual_days
    text = (
        f"a label of horizon {facts.horizon} spans a gap between two bars: {_listed(shown)}; more than {MAX_GAP} times "
    )
    text += f"the {worst.usual_days} days that bars are usually apart at most"
    return Breach(worst.days, limit, text, worst.days / limit)


def _jump(facts: Facts) -> Breach | None:
    if not facts.jumps:
        return None
    text = f"the price level steps between two bars: {jumps.words(list(facts.jumps))}"
    return Breach(len(facts.jumps), 0, text, len(facts.jumps))


def _dates(facts: Facts) -> Breach | None:
    found: Breach | None = None
    for split in SPLITS[1:]:
        first, last = facts.splits[split].first, facts.splits[split].last
        days = (last - first).days + 1 if first and last else MIN_DAYS
        if days < MIN_DAYS and (found is None or days < found.number):
            text = f"{split} covers {days} days ({first} to {last}), less than a year"
            found = Breach(days, MIN_DAYS, text, MIN_DAYS - days)
    return found


def _shift(facts: Facts) -> Breach | None:
    return _drift(facts, "shift", MAX_SHIFT, "the mean of", "by more than {} training standard deviations", signed=True)


def _stability(facts: Facts) -> Breach | None:
    return _drift(facts, "stability", MAX_STABILITY, "the distribution of", "by a stability index above {}")


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


def _constant(facts: Facts) -> Breach | None:
    if facts.inputs is None or not facts.inputs.constant:
        return None
    names = facts.inputs.constant
    text = f"{len(names)} of {len(facts.inputs.names)} inputs never change over the training windows: "
    return Breach(len(names), 0, text + _listed(list(names)), len(names))


def _duplicate(facts: Facts) -> Breach | None:
    if facts.inputs is None or not facts.inputs.duplicates:
        return None
    pairs = sorted(facts.inputs.duplicates, key=lambda pair: -abs(pair[2]))
    shown = [f"{one} and {other} ({r:+.5f})" for one, other, r in pairs]
    text = f"inputs that are one, by a correlation beyond {DUPLICATE:g}: {_listed(shown)}"
    return Breach(abs(pairs[0][2]), DUPLICATE, text, len(pairs))


def _strong(facts: Facts) -> Breach | None:
    return _alone(facts, STRONG_AUC, LEAK_AUC, "see whether it could know the future")


def _leak(facts: Facts) -> Breach | None:
    return _alone(facts, LEAK_AUC, 1.0, "no honest input of a market does that")


def _alone(facts: Facts, above: float, up_to: float, remark: str) -> Breach | None:
    found = facts.inputs.auc if facts.inputs else {}
    strong = {name: auc for name, auc in found.items() if above < auc <= up_to}
    if not strong:
        return None
    ordered = sorted(strong.items(), key=lambda item: -item[1])
    shown = _listed([f"{name} {auc:.3f}" for name, auc in ordered])
    text = f"one input alone predicts the label with an AUC above {above:g}: {shown}; {remark}"
    return Breach(ordered[0][1], above, text, ordered[0][1])


def _lead(facts: Facts) -> Breach | None:
    found = {name: r for name, r in (facts.inputs.lead if facts.inputs else {}).items() if abs(r) > MAX_LEAD}
    if not found:
        return None
    ordered = sorted(found.items(), key=lambda item: -abs(item[1]))
    shown = _listed([f"{name} {r:+.3f}" for name, r in ordered])
    text = f"columns as given go with the return of the next bar, by a correlation above {MAX_LEAD:g}: {shown}; "
    return Breach(abs(ordered[0][1]), MAX_LEAD, text + "they hold what was not known", abs(ordered[0][1]))


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
    Rule("price_jump", _jump, "use prices that are adjusted for splits, in one unit"),
    Rule("split_dates", _dates, _PERIODS),
    Rule("mean_drift", _shift, "use data.representation: relative, or data.scaling: revin"),
    Rule("distribution_drift", _stability, "expect a model to be worse there; compare regimes by data.splits.fold"),
    Rule("constant_inputs", _constant, "use a longer training span, a larger data.fraction, or another tier"),
    Rule("duplicate_inputs", _duplicate, "use data.representation: relative, or another tier"),
    Rule("strong_input", _strong, _COLUMNS),
    Rule("leak", _leak, _COLUMNS),
    Rule("lead_lag", _lead, "move the column back in time (lag), or correct how it is computed"),
)
