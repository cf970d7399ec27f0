"""Numbers and verdicts in words: the reason beside a comparison, and the answer of a study in one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bnexp.compare.pairing import place
from bnexp.compare.result import Comparison, Verdict
from bnexp.compare.stats import MAX_PAIRS
from bnexp.config import StudyConfig
from bnexp.options import Direction

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
NO_RESULT = "No run has a result yet."
_LENGTH = 300  # characters that an answer about several comparisons should not exceed
# From most to least: how many comparisons of each verdict an answer names, and whether with intervals.
_DETAIL = ((99, True), (99, False), (3, False), (1, False), (0, False))
_DIVERGED, _UNPAIRED = "every run diverged", "no seed with both results"


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
    if not c.n:
        return "no seed has a result in both arms"
    if all_diverged(c):
        return "every run of both arms diverged, so nothing was tested"
    return f"{quantity(c.difference, c.unit, sign=True)}, {_why(c)}"


def all_diverged(c: Comparison) -> bool:
    """Whether both runs of every pair diverged."""
    return 0 < c.n == c.both_diverged


def _why(c: Comparison) -> str:
    if c.verdict is Verdict.ESTIMATE:
        few = "1 pair allows" if c.n == 1 else f"{c.n} pairs allow"
        return "; ".join(part for part in (f"{few} no verdict (at least {MIN_PAIRS})", _needed(c)) if part)
    if c.verdict is Verdict.INCONCLUSIVE:
        return "; ".join(part for part in (_open(c), _needed(c)) if part)
    if by_equivalence(c):
        return f"within the margin of {quantity(c.margin, c.unit)} (TOST {p_equals(c.p_equivalence_adjusted)})"
    against = _size(c)
    if c.verdict is Verdict.REFUTED and c.direction in (Direction.greater, Direction.less):
        against = f"against the expected direction; {against}"
    unsure = c.p_sign_flip_adjusted >= ALPHA
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


def _needed(c: Comparison) -> str:
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


def answer(study: StudyConfig, comparisons: Sequence[Comparison], verdict: Verdict, settings: Mapping[str, str]) -> str:
    """The answer in one sentence: lead word, who differs from whom by how much, settings and number of pairs.

    One comparison is told with its p; of several there is as much detail as fits ``_LENGTH`` characters.
    """
    if not comparisons:
        return "Nothing to compare: the study has fewer than two arms."
    lead, where = _lead(study, comparisons, verdict), _where(settings)
    if len(comparisons) == 1:
        return f"{lead}: {_statement(comparisons[0])}{where} ({_evidence(comparisons[0])})."
    pairs = {(c.arm, c.baseline) for c in comparisons}
    subject = f", {comparisons[0].arm} against {comparisons[0].baseline}" if len(pairs) == 1 else ""
    text = ""
    for listed, bounds in _DETAIL:
        text = f"{lead}{subject}{where}: {_groups(comparisons, lead, listed, bounds)} ({_shared_evidence(comparisons)})."
        if len(text) <= _LENGTH:
            break
    return text


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


def _where(settings: Mapping[str, str]) -> str:
    """`` on mnist with lr 0.01, momentum 0.9, batch size 64, epochs 10``, as far as known."""
    known = ", ".join(f"{label} {settings[key]}" for key, label in _SETTINGS.items() if key in settings)
    data = settings.get("data.name")
    return (f" on {data}" if data else "") + (f" with {known}" if known else "")


def _statement(c: Comparison) -> str:
    """Who differs from whom, by how much, with the interval."""
    arm, at = c.arm, f" at {c.level}" if c.level else ""
    if not c.n:
        return f"{arm} and {c.baseline}{at} share no seed with a result"
    if all_diverged(c):
        return f"every run of {arm} and {c.baseline}{at} diverged, so nothing was tested,"
    what = "accuracy" if c.measure == "test/accuracy" else c.measure
    if by_equivalence(c):
        margin = f"±{quantity(c.margin, c.unit)}"
        return f"{arm} and {c.baseline} are equivalent in {what} within {margin}{at} ({_difference(c, bounds=True)})"
    if c.verdict in (Verdict.SUPPORTED, Verdict.REFUTED):
        low, high = sorted((c.low, c.high)) if c.difference > 0 else sorted((-c.low, -c.high))
        size = f"{quantity(abs(c.difference), c.unit)} {interval(low, high, c.unit)}".rstrip()
        if c.measure == "test/accuracy":
            return f"{arm} is {size} {'more' if c.difference > 0 else 'less'} accurate than {c.baseline}{at}"
        return f"{c.measure} of {arm} is {size} {'higher' if c.difference > 0 else 'lower'} than of {c.baseline}{at}"
    return f"{arm} differs from {c.baseline} in {what}{at} by {_difference(c, bounds=True)}"


def _difference(c: Comparison, bounds: bool) -> str:
    """``+0.31 pp [0.27, 0.35]``; shown equivalence has the 90 % interval that it rests on, named as such."""
    size = quantity(c.difference, c.unit, sign=True)
    narrow = by_equivalence(c)
    shown = (interval(c.low90, c.high90, c.unit) if narrow else interval(c.low, c.high, c.unit)) if bounds else ""
    return f"{size}, 90 % interval {shown}" if narrow and shown else f"{size} {shown}".rstrip()


def _evidence(c: Comparison) -> str:
    """``n = 10 paired seeds, p = .003; larger than the margin of 0.20 pp``."""
    pairs = _seeds([c])
    if not c.n or all_diverged(c):
        return pairs
    if by_equivalence(c):
        return f"{pairs}, TOST {p_equals(c.p_equivalence_adjusted)}"
    if c.verdict in (Verdict.SUPPORTED, Verdict.REFUTED):
        return f"{pairs}, {p_equals(c.p_adjusted)}; {_why(c)}"
    if c.verdict is Verdict.ESTIMATE:
        return "; ".join(part for part in (pairs, _needed(c)) if part)
    return f"{pairs}, {_why(c)}"


def _shared_evidence(comparisons: Sequence[Comparison]) -> str:
    """What all comparisons rest on, said once: the number of pairs, and the margin of shown equivalence."""
    margins = {quantity(c.margin, c.unit) for c in comparisons if by_equivalence(c)}
    return _seeds(comparisons) + (f"; equivalent means within ±{margins.pop()}" if len(margins) == 1 else "")


def _seeds(comparisons: Sequence[Comparison]) -> str:
    """``n = 2 paired seeds; a verdict needs 6``."""
    least, most = min(c.n for c in comparisons), max(c.n for c in comparisons)
    sizes = f"{most}" if least == most else f"{least} to {most}"
    return f"n = {sizes} paired seed{'' if most == 1 else 's'}" + (
        f"; a verdict needs {MIN_PAIRS}" if least < MIN_PAIRS else ""
    )


def _groups(comparisons: Sequence[Comparison], lead: str, listed: int, bounds: bool) -> str:
    """The comparisons by verdict, at most ``listed`` of each by name, others counted; what ``lead`` says is not repeated."""
    order = list(Verdict)
    groups: dict[str, list[Comparison]] = {}
    for c in sorted(comparisons, key=lambda c: order.index(c.verdict)):
        groups.setdefault(_label(c), []).append(c)
    if set(groups) == {_DIVERGED}:
        return f"every run of all {len(comparisons)} comparisons diverged, so nothing was tested"
    if set(groups) == {_UNPAIRED}:
        return f"no seed has a result in both arms in any of {len(comparisons)} comparisons"
    if not listed:
        return ", ".join(f"{len(group)} {label}" for label, group in groups.items())
    several = len({(c.arm, c.baseline) for c in comparisons}) > 1
    parts = []
    for label, group in groups.items():
        names = [_name(c, several, bounds) for c in group[:listed]]
        more = f" and {len(group) - listed} more" if len(group) > listed else ""
        said = len(groups) == 1 or label == lead.lower()
        parts.append(("" if said else f"{label}: ") + ", ".join(names) + more)
    return "; ".join(parts)


def _label(c: Comparison) -> str:
    """What comparisons of one group share."""
    if not c.n:
        return _UNPAIRED
    if all_diverged(c):
        return _DIVERGED
    if c.verdict is Verdict.ESTIMATE:
        return "with too few seeds"
    return "refuted by equivalence" if by_equivalence(c) and c.verdict is Verdict.REFUTED else c.verdict.lower()


def _name(c: Comparison, with_arms: bool, bounds: bool) -> str:
    """``bias against no_bias at norm=none (+0.31 pp [0.27, 0.35])``; without the arms where the answer has named them."""
    arms = [f"{c.arm} against {c.baseline}"] if with_arms else []
    about = arms + ([c.measure] if c.measure != "test/accuracy" else [])
    name = place(" in ".join(about), c.level) if about else c.level
    return f"{name} ({_difference(c, bounds)})" if c.n and not all_diverged(c) else name
