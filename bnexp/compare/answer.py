"""The answer of a study in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bnexp.compare.pairing import place
from bnexp.compare.result import Comparison, Verdict
from bnexp.compare.text import (
    FLIPS,
    MIN_PAIRS,
    RATIO,
    SETTINGS,
    all_diverged,
    by_equivalence,
    claimed,
    interval,
    lost,
    needed,
    number,
    p_equals,
    quantity,
    ratio,
    why,
)
from bnexp.config.options import Direction
from bnexp.config.schema import StudyConfig

_ACCURACY = ("test/accuracy", "accuracy")
_QUESTION_WORDS = ("do", "does", "is", "are", "can", "has", "have", "will", "did", "was", "were")
NO_RESULT = "No run has a result yet."
_LENGTH = 300  # characters that an answer about several comparisons should not exceed
# From most to least: how many comparisons of each verdict an answer names, and whether with intervals.
_DETAIL = ((99, True), (99, False), (3, False), (1, False), (0, False))
_DIVERGED, _UNPAIRED = "every run diverged", "no seed with both results"


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
    measures = {c.measure for c in comparisons}
    subject += f", {measures.pop()}" if len(measures) == 1 and comparisons[0].measure not in _ACCURACY else ""
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
    """`` on mnist with learning rate 0.01, momentum 0.9, batch size 64, epochs 10``, as far as known."""
    known = ", ".join(f"{label} {settings[key]}" for key, label in SETTINGS.items() if key in settings)
    data = settings.get("data.name")
    return (f" on {data}" if data else "") + (f" with {known}" if known else "")


def _statement(c: Comparison) -> str:
    """Who differs from whom, by how much, with the interval."""
    arm, at = c.arm, f" at {c.level}" if c.level else ""
    if not c.n:
        return f"{arm} and {c.baseline}{at} share no seed with a result"
    if all_diverged(c):
        return f"{lost(c).replace('both arms', f'{arm} and {c.baseline}{at}')}, so nothing was tested,"
    what = "accuracy" if c.measure in _ACCURACY else c.measure
    if c.reference or c.test == "Page" or c.unit == RATIO or c.measure == FLIPS:
        return _derived_statement(c, at)
    if by_equivalence(c):
        margin = f"±{quantity(c.margin, c.unit)}"
        return f"{arm} and {c.baseline} are equivalent in {what} within {margin}{at} ({_difference(c, bounds=True)})"
    if c.verdict in (Verdict.SUPPORTED, Verdict.REFUTED):
        low, high = sorted((c.low, c.high)) if c.difference > 0 else sorted((-c.low, -c.high))
        size = f"{quantity(abs(c.difference), c.unit)} {interval(low, high, c.unit)}".rstrip()
        if c.measure in _ACCURACY:
            return f"{arm} is {size} {'more' if c.difference > 0 else 'less'} accurate than {c.baseline}{at}"
        return f"{c.measure} of {arm} is {size} {'higher' if c.difference > 0 else 'lower'} than of {c.baseline}{at}"
    return f"{arm} differs from {c.baseline} in {what}{at} by {_difference(c, bounds=True)}"


def _derived_statement(c: Comparison, at: str) -> str:
    """The statement about an interaction, a trend, a time or flips, which are not differences in a metric."""
    about, size = f"the difference {c.arm} − {c.baseline}", _difference(c, bounds=True)
    shown = c.verdict in (Verdict.SUPPORTED, Verdict.REFUTED) and not by_equivalence(c)
    if c.unit == RATIO:
        what, goal = c.measure.split(" ")[0], f"to reach the accuracy that {c.baseline} ends with"
        if by_equivalence(c):
            within = f"within a factor of {number(c.margin, c.unit)} ({size})"
            return f"{c.arm} needs as many {what} as {c.baseline}{at} {goal}, {within}"
        return f"{c.arm} needs {size} {what} than {c.baseline}{at} {goal}"
    if c.measure == FLIPS:
        if by_equivalence(c):
            within = f"within ±{quantity(c.margin, c.unit)} ({size})"
            return f"{c.arm} and {c.baseline}{at} disagree on as many test images as two seeds of {c.baseline} do, {within}"
        low, high = sorted((c.low, c.high)) if c.difference > 0 else sorted((-c.low, -c.high))
        size = f"{quantity(abs(c.difference), c.unit)} {interval(low, high, c.unit)}".rstrip()
        more = f"{size} {'more' if c.difference > 0 else 'fewer'} of the test images"
        return f"{c.arm} and {c.baseline}{at} disagree on {more} than two seeds of {c.baseline} do"
    if c.reference:
        if by_equivalence(c):
            return f"{about} is the same{at} as at {c.reference} within ±{quantity(c.margin, c.unit)} ({size})"
        return f"{about} changes by {size} from {c.reference} to {c.level}"
    over = c.measure.removeprefix("trend ")
    if by_equivalence(c):
        return f"{about} stays the same {over} within ±{quantity(c.margin, c.unit)} ({size})"
    return f"{about} {('falls' if c.difference < 0 else 'rises') if shown else 'changes'} {over} ({size})"


def _difference(c: Comparison, bounds: bool) -> str:
    """``+0.31 pp [0.27, 0.35]``; shown equivalence has the 90 % interval that it rests on, named as such."""
    if c.unit == RATIO and not by_equivalence(c):
        return ratio(c.difference, *((c.low, c.high) if bounds else ()))
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
        test = "Page's test " if c.test == "Page" else "sign-flip test " if c.unit == RATIO else ""
        return f"{pairs}, {test}{p_equals(c.p_adjusted)}; {why(c)}"
    if c.verdict is Verdict.ESTIMATE:
        return "; ".join(part for part in (pairs, needed(c)) if part)
    return f"{pairs}, {why(c)}"


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
    several, measures = len({(c.arm, c.baseline) for c in comparisons}) > 1, len({c.measure for c in comparisons}) > 1
    parts = []
    for label, group in groups.items():
        names = [_name(c, several, measures, bounds) for c in group[:listed]]
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


def _name(c: Comparison, with_arms: bool, with_measure: bool, bounds: bool) -> str:
    """``bias against no_bias at norm=none (+0.31 pp [0.27, 0.35])``; without arms and measure where the answer names them."""
    arms = [f"{c.arm} against {c.baseline}"] if with_arms else []
    about = arms + ([c.measure] if with_measure else [])
    name = place(" in ".join(about), c.level) if about else c.level
    return f"{name} ({_difference(c, bounds)})" if c.n and not all_diverged(c) else name
