"""Numbers and verdicts in words: units, p values, and the reason beside a comparison."""

from __future__ import annotations

import math

from bnexp.compare.result import Comparison, Verdict
from bnexp.compare.stats import MAX_PAIRS
from bnexp.config.options import Direction

ALPHA = 0.05
MIN_PAIRS = 6  # with fewer, the exact sign-flip test can never confirm a result at .05

RATIO = "log2 ratio"  # of the arm's value to the baseline's; shown as the ratio itself
FLIPS = "flips beyond seed-to-seed churn"
# Named with every result, because the size of an effect depends on them most.
SETTINGS = {
    "data.train_size": "training images",
    "optim.lr": "learning rate",
    "optim.momentum": "momentum",
    "train.batch_size": "batch size",
    "train.epochs": "epochs",
}
_DECIMALS = {"pp": 2, "nats": 4, "octaves": 2}


def number(value: float, unit: str) -> str:
    """``0.31`` with the decimals that the unit deserves; an en dash where there is no number. A log ratio as the ratio."""
    if not math.isfinite(value):
        return "–"
    if unit == RATIO:
        return f"{2**value:.2f}"
    unit = unit.split("/")[0]
    text = f"{value:.{_DECIMALS[unit]}f}" if unit in _DECIMALS else f"{value:.4g}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def signed(value: float, unit: str) -> str:
    """``+0.31`` or ``−0.31``; a ratio has no sign."""
    text = number(value, unit)
    if unit == RATIO:
        return text
    return f"+{text}" if value > 0 and math.isfinite(value) and float(text) != 0 else text


def quantity(value: float, unit: str, sign: bool = False) -> str:
    """A number with its unit: ``0.31 pp``, ``0.43×``."""
    if unit == RATIO:
        return f"{number(value, unit)}×"
    return f"{(signed if sign else number)(value, unit)} {unit}".rstrip()


def interval(low: float, high: float, unit: str) -> str:
    """``[0.12, 0.28]``; empty where there is none."""
    return f"[{number(low, unit)}, {number(high, unit)}]" if math.isfinite(low) and math.isfinite(high) else ""


def p_text(p: float) -> str:
    """``< .001``, ``.003``, ``.25``; an en dash where there is no test."""
    if not math.isfinite(p):
        return "–"
    if p < 0.001:
        return "< .001"
    if 0.0495 <= p < 0.05:
        return "< .05"  # three decimals would look like no evidence
    return f"{p:.3f}".removeprefix("0") if p < 0.1 else f"{p:.2f}".removeprefix("0")


def p_equals(p: float) -> str:
    """``p = .003`` or ``p < .001``."""
    text = p_text(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def reason(c: Comparison) -> str:
    """Why the verdict is what it is: the difference, then its size against the margin or what is lacking."""
    if not c.n:
        return "no seed has a result in both arms"
    if all_diverged(c):
        return f"{lost(c)}, so nothing was tested"
    return f"{_size_text(c)}, {why(c)}"


def all_diverged(c: Comparison) -> bool:
    """Whether both runs of every pair diverged."""
    return 0 < c.n == c.both_diverged


def lost(c: Comparison) -> str:
    """What ``all_diverged`` means of the comparison: an interaction or a trend needs a pair at several levels."""
    several = c.reference or c.test == "Page"
    return "both runs diverged at some level with every seed" if several else "every run of both arms diverged"


def _size_text(c: Comparison) -> str:
    """``+0.31 pp``; a ratio as ``2.30× fewer``."""
    return quantity(c.difference, c.unit, sign=True) if c.unit != RATIO else ratio(c.difference)


def ratio(log: float, low: float = math.nan, high: float = math.nan) -> str:
    """``2.30× [1.90, 2.81] fewer`` for a negative log ratio; a bound below 1 lies on the other side."""
    sign = -1 if log < 0 else 1
    least, most = sorted((sign * low, sign * high))
    bounds = interval(least, most, RATIO)
    return " ".join(part for part in (quantity(sign * log, RATIO), bounds, "fewer" if log < 0 else "more") if part)


def why(c: Comparison) -> str:
    """What the verdict rests on, or what is lacking: the reason without the difference."""
    if c.verdict is Verdict.ESTIMATE:
        few = "1 pair allows" if c.n == 1 else f"{c.n} pairs allow"
        return "; ".join(part for part in (f"{few} no verdict (at least {MIN_PAIRS})", needed(c)) if part)
    if c.verdict is Verdict.INCONCLUSIVE:
        return "; ".join(part for part in (_open(c), needed(c)) if part)
    if by_equivalence(c):
        return f"within the margin of {quantity(c.margin, c.unit)} (TOST {p_equals(c.p_equivalence_adjusted)})"
    against = _size(c)
    if c.verdict is Verdict.REFUTED and c.direction in (Direction.greater, Direction.less):
        against = f"against the expected direction; {against}"
    unsure = c.p_sign_flip_adjusted >= ALPHA  # never where the verdict rests on that test itself
    return against + (f"; the sign-flip check disagrees ({p_equals(c.p_sign_flip_adjusted)})" if unsure else "")


def _open(c: Comparison) -> str:
    """Why a comparison with enough pairs stays open."""
    lost = f"both runs diverged in {c.both_diverged} of {c.n} pairs" if c.both_diverged else ""
    if c.n - c.both_diverged < MIN_PAIRS:
        return f"{lost}, and a verdict needs {MIN_PAIRS} others"
    if c.direction != Direction.equivalent:
        shown = f"{p_equals(c.p_adjusted)}, no clear difference"
        return f"{shown}; {lost}, so equivalence is not tested" if lost else shown
    if not math.isfinite(c.margin):
        return "no margin is set, so equivalence cannot be tested"
    return f"{lost}, so equivalence is not tested" if lost else _within(c)


def by_equivalence(c: Comparison) -> bool:
    """Whether the verdict rests on shown equivalence, not on a shown difference."""
    if c.verdict is Verdict.EQUIVALENT:
        return True
    return c.verdict is Verdict.REFUTED and c.direction != Direction.equivalent and not c.p_adjusted < ALPHA


def _size(c: Comparison) -> str:
    """A significant difference against the margin."""
    margin = f"the margin of {quantity(c.margin, c.unit)}"
    if not math.isfinite(c.margin):
        return "significant; no margin is set to judge its size"
    if abs(c.difference) <= c.margin:
        return f"significant but no larger than {margin}"
    whole = not math.isfinite(c.low) or min(abs(c.low), abs(c.high)) > c.margin
    return f"larger than {margin}" + ("" if whole else ", though the interval reaches below it")


def _within(c: Comparison) -> str:
    """How the 90 % interval of an unproven equivalence lies to the margin."""
    bounds = interval(c.low90, c.high90, c.unit)
    shown = f"90 % interval {bounds}" if bounds else "every difference"
    corrected = "inside ±{}, but not after Holm's correction" if c.p_equivalence < ALPHA else "not inside ±{}"
    where = corrected.format(quantity(c.margin, c.unit))
    return f"{shown} {where} (TOST {p_equals(c.p_equivalence_adjusted)})"


def needed(c: Comparison) -> str:
    """How many pairs would settle the comparison; empty where that cannot be said."""
    if c.n >= MIN_PAIRS > c.n - c.both_diverged:
        return ""
    if c.n_needed is not None:
        return f"about {c.n_needed:,} pairs would give 80 % power at this estimate"
    if c.direction == Direction.equivalent:
        hopeless = abs(c.difference) >= c.margin and not c.both_diverged
        return "at this estimate no number of pairs would show equivalence" if hopeless else ""
    if c.difference == 0 or not math.isfinite(c.effect):
        return ""
    return f"more than {MAX_PAIRS:,} pairs would be needed for 80 % power at this estimate"


def claimed(c: Comparison) -> bool:
    """Whether the comparison shows what the study claims."""
    return c.verdict is Verdict.SUPPORTED or (c.verdict is Verdict.EQUIVALENT and c.direction == Direction.equivalent)
