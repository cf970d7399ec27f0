"""Numbers and verdicts in words: the reason beside a comparison, and the answer of a study in one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bnexp.compare.pairing import place
from bnexp.compare.result import Comparison, Verdict
from bnexp.compare.stats import MAX_PAIRS
from bnexp.config import Direction, StudyConfig

ALPHA = 0.05
MIN_PAIRS = 6  # with fewer, the exact sign-flip test can never confirm a result at .05

_DECIMALS = {"pp": 2, "nats": 4, "octaves": 2}
# Named in the answer, because the size of the effect depends on them most.
_SETTINGS = {
    "data.train_size": "training images",
    "optim.lr": "lr",
    "optim.momentum": "momentum",
    "train.batch_size": "batch size",
    "train.epochs": "epochs",
}
_QUESTION_WORDS = ("do", "does", "is", "are", "can", "has", "have", "will", "did", "was", "were")
_LISTED = 4  # comparisons that an answer spells out; more are counted


def number(value: float, unit: str) -> str:
    """``0.31`` with the decimals that the unit deserves; an en dash where there is no number."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:.{_DECIMALS[unit]}f}" if unit in _DECIMALS else f"{value:.4g}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def signed(value: float, unit: str) -> str:
    """``+0.31`` or ``−0.31``."""
    text = number(value, unit)
    return f"+{text}" if value > 0 and math.isfinite(value) and float(text) != 0 else text


def quantity(value: float, unit: str, sign: bool = False) -> str:
    """A number with its unit: ``0.31 pp``."""
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
    return f"{quantity(c.difference, c.unit, sign=True)}, {_why(c)}" if c.n else "no seed has a result in both arms"


def _why(c: Comparison) -> str:
    if c.verdict is Verdict.ESTIMATE:
        need = _needed(c)
        return f"{c.n} pairs allow no verdict (at least {MIN_PAIRS})" + (f"; {need}" if need else "")
    if c.verdict is Verdict.INCONCLUSIVE:
        if c.direction == Direction.equivalent:
            shown = _within(c) if math.isfinite(c.margin) else "no margin is set, so equivalence cannot be tested"
            return "; ".join(part for part in (shown, _needed(c)) if part)
        return "; ".join(part for part in (f"{p_equals(c.p_adjusted)}, no clear difference", _needed(c)) if part)
    if by_equivalence(c):
        return f"within the margin of {quantity(c.margin, c.unit)} (TOST {p_equals(c.p_equivalence_adjusted)})"
    against = _size(c)
    if c.verdict is Verdict.REFUTED and c.direction in (Direction.greater, Direction.less):
        against = f"against the expected direction; {against}"
    unsure = c.p_sign_flip >= ALPHA
    return against + (f"; the sign-flip check disagrees ({p_equals(c.p_sign_flip)})" if unsure else "")


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
    whole = min(abs(c.low), abs(c.high)) > c.margin
    return f"larger than {margin}" + ("" if whole else ", though the interval reaches below it")


def _within(c: Comparison) -> str:
    """How the 90 % interval of an unproven equivalence lies to the margin."""
    bounds = interval(c.low90, c.high90, c.unit)
    corrected = "inside ±{}, but not after Holm's correction" if c.p_equivalence < ALPHA else "not inside ±{}"
    where = corrected.format(quantity(c.margin, c.unit))
    return f"90 % interval {bounds} {where} (TOST {p_equals(c.p_equivalence_adjusted)})"


def _needed(c: Comparison) -> str:
    if c.n_needed is not None:
        return f"about {c.n_needed:,} pairs would give 80 % power at this estimate"
    if c.direction == Direction.equivalent:
        return "" if not abs(c.difference) >= c.margin else "at this estimate no number of pairs would show equivalence"
    if c.difference == 0 or not math.isfinite(c.effect):
        return ""
    return f"more than {MAX_PAIRS:,} pairs would be needed for 80 % power at this estimate"


def claimed(c: Comparison) -> bool:
    """Whether the comparison shows what the study claims."""
    return c.verdict is Verdict.SUPPORTED or (c.verdict is Verdict.EQUIVALENT and c.direction == Direction.equivalent)


def answer(study: StudyConfig, comparisons: Sequence[Comparison], verdict: Verdict, settings: Mapping[str, str]) -> str:
    """The answer in one sentence: lead word, who differs from whom by how much, n, p, verdict and settings."""
    if not comparisons:
        return "Nothing to compare: the study has fewer than two arms."
    lead = _lead(study, comparisons, verdict)
    if len(comparisons) == 1:
        c = comparisons[0]
        return f"{lead}: {_statement(c)}{_where(settings)} ({_evidence(c, 1)})."
    if len(comparisons) <= _LISTED:
        family = len(comparisons)
        parts = [
            f"{_statement(c)} ({_evidence(c, family)}{'' if _alike(comparisons) else f', {c.verdict}'})" for c in comparisons
        ]
        return f"{lead}{_where(settings)}: {'; '.join(parts)}."
    return f"{lead}{_where(settings)}: {_counts(comparisons)}."


def _lead(study: StudyConfig, comparisons: Sequence[Comparison], verdict: Verdict) -> str:
    """``Yes`` and ``No`` only where the question asks for what the direction claims; else the verdict in words."""
    if verdict is Verdict.INCONCLUSIVE:
        held = sum(claimed(c) for c in comparisons)
        return f"In part ({held} of {len(comparisons)} comparisons)" if held else "Not settled"
    first = study.question.split(" ", 1)[0].lower()
    directed = study.direction in (Direction.greater, Direction.less) and not study.expect
    if first in _QUESTION_WORDS and directed and verdict in (Verdict.SUPPORTED, Verdict.REFUTED):
        return "Yes" if verdict is Verdict.SUPPORTED else "No"
    return "Too few seeds for a verdict" if verdict is Verdict.ESTIMATE else verdict.capitalize()


def _alike(comparisons: Sequence[Comparison]) -> bool:
    return len({c.verdict for c in comparisons}) == 1


def _where(settings: Mapping[str, str]) -> str:
    """`` on mnist with lr 0.01, momentum 0.9, batch size 64, epochs 10``, as far as known."""
    known = ", ".join(f"{label} {settings[key]}" for key, label in _SETTINGS.items() if key in settings)
    data = settings.get("data.name")
    return (f" on {data}" if data else "") + (f" with {known}" if known else "")


def _statement(c: Comparison) -> str:
    """Who differs from whom, by how much, with the interval."""
    arm, size = c.arm, quantity(abs(c.difference), c.unit)
    at = f" at {c.level}" if c.level else ""
    if not c.n:
        return f"{arm} and {c.baseline}{at} share no seed with a result"
    if by_equivalence(c):
        bounds = f"{quantity(c.difference, c.unit, sign=True)}, 90 % interval {interval(c.low90, c.high90, c.unit)}"
        what = f"in {c.measure}" if c.measure != "test/accuracy" else "in accuracy"
        return f"{arm} and {c.baseline} are equivalent {what} within ±{quantity(c.margin, c.unit)}{at} ({bounds})"
    if c.verdict in (Verdict.SUPPORTED, Verdict.REFUTED):
        low, high = sorted((c.low, c.high)) if c.difference > 0 else sorted((-c.low, -c.high))
        bounds = interval(low, high, c.unit)
        if c.measure == "test/accuracy":
            return f"{arm} is {size} {bounds} {'more' if c.difference > 0 else 'less'} accurate than {c.baseline}{at}"
        return f"{c.measure} of {arm} is {size} {bounds} {'higher' if c.difference > 0 else 'lower'} than of {c.baseline}{at}"
    what = "accuracy" if c.measure == "test/accuracy" else c.measure
    bounds = interval(c.low, c.high, c.unit)
    return f"{arm} differs from {c.baseline} in {what}{at} by {quantity(c.difference, c.unit, sign=True)} {bounds}".rstrip()


def _evidence(c: Comparison, family: int) -> str:
    """``n = 10 paired seeds, p = .003; larger than the margin of 0.20 pp``."""
    if not c.n:
        return "n = 0"
    pairs = f"n = {c.n} paired seeds"
    if by_equivalence(c):
        return f"{pairs}, TOST {p_equals(c.p_equivalence_adjusted)}"
    if c.verdict in (Verdict.SUPPORTED, Verdict.REFUTED):
        return f"{pairs}, {'Holm-adjusted ' if family > 1 else ''}{p_equals(c.p_adjusted)}; {_why(c)}"
    if c.verdict is Verdict.ESTIMATE:
        return "; ".join(part for part in (f"{pairs}, a verdict needs {MIN_PAIRS}", _needed(c)) if part)
    return f"{pairs}, {_why(c)}"


def _counts(comparisons: Sequence[Comparison]) -> str:
    """How many comparisons have which verdict, with names and the range of the differences."""
    parts = []
    for verdict in Verdict:
        group = [c for c in comparisons if c.verdict is verdict]
        if group:
            names = [_name(c) for c in group[:_LISTED]]
            more = f" and {len(group) - _LISTED} more" if len(group) > _LISTED else ""
            parts.append(f"{len(group)} {verdict} ({'; '.join(names)}{more})")
    pairs = sorted({c.n for c in comparisons})
    seeds = f"{pairs[0]}" if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    return f"of {len(comparisons)} comparisons with {seeds} paired seeds " + ", ".join(parts)


def _name(c: Comparison) -> str:
    bounds = interval(c.low, c.high, c.unit)
    return f"{place(f'{c.arm} against {c.baseline}', c.level)} {quantity(c.difference, c.unit, sign=True)} {bounds}".rstrip()
