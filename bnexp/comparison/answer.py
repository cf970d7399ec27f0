"""The answer of a study in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bnexp.comparison.method import Method
from bnexp.comparison.pairing import place
from bnexp.comparison.reason import needed, why
from bnexp.comparison.result import Comparison, Test, Verdict
from bnexp.comparison.stats import MIN_PAIRS
from bnexp.comparison.text import ACCURACY, SETTINGS, difference, p_equals, quantity
from bnexp.config.options import Direction
from bnexp.config.schema import StudyConfig

_QUESTION_WORDS = ("do", "does", "is", "are", "can", "has", "have", "will", "did", "was", "were")
NO_RESULT = "No run has a result yet."
_LENGTH = 300  # characters that an answer about several comparisons should not exceed
# From most to least: how many comparisons of each verdict an answer names, and whether with intervals.
_DETAIL = ((99, True), (99, False), (3, False), (1, False), (0, False))
_TEST_NAMES = {Test.page: "Page's test ", Test.sign_flip: "sign-flip test "}  # a p without a name is that of the paired t test
_UNTRAINED, _UNPAIRED = "no run trained", "no seed with both results"


def answer(
    study: StudyConfig, method: Method, comparisons: Sequence[Comparison], verdict: Verdict, settings: Mapping[str, str]
) -> str:
    """The answer in one sentence: lead word, who differs from whom by how much, settings and number of pairs.

    One comparison is told in full, with its p. Several are told with as much detail as fits ``_LENGTH`` characters.

    Args:
        study: the study.
        method: its analysis, which says who differs from whom.
        comparisons: what was found.
        verdict: that of the study.
        settings: dotted key -> text, of what was held fixed.
    """
    if not comparisons:
        return "Nothing to compare: the study has fewer than two arms."
    lead, where = _lead(study, comparisons, verdict), _where(settings)
    if len(comparisons) == 1:
        return f"{lead}: {method.statement(comparisons[0])}{where} ({_evidence(comparisons[0], method.test)})."
    pairs = {(c.arm, c.baseline) for c in comparisons}
    subject = f", {comparisons[0].arm} against {comparisons[0].baseline}" if len(pairs) == 1 else ""
    measures = {c.measure for c in comparisons}
    subject += f", {measures.pop()}" if len(measures) == 1 and comparisons[0].measure not in ACCURACY else ""
    text = ""
    for listed, bounds in _DETAIL:
        text = f"{lead}{subject}{where}: {_groups(comparisons, lead, listed, bounds)} ({_shared_evidence(comparisons)})."
        if len(text) <= _LENGTH:
            break
    return text


def _lead(study: StudyConfig, comparisons: Sequence[Comparison], verdict: Verdict) -> str:
    """``Yes`` and ``No`` only if the question asks for what the direction claims; else the verdict in words."""
    if verdict is Verdict.INCONCLUSIVE:
        held = sum(c.shows_claim for c in comparisons)
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


def _evidence(c: Comparison, test: Test) -> str:
    """``n = 10 paired seeds, p = .003; larger than the margin of 0.20 pp``."""
    pairs = _seeds([c])
    if not c.n or c.all_untrained:
        return pairs
    if c.shows_equivalence:
        return f"{pairs}, TOST {p_equals(c.p_equivalence_adjusted)}"
    if c.shows_difference:
        return f"{pairs}, {_TEST_NAMES.get(test, '')}{p_equals(c.p_adjusted)}; {why(c)}"
    if c.verdict is Verdict.ESTIMATE:
        return "; ".join(part for part in (pairs, needed(c)) if part)
    return f"{pairs}, {why(c)}"


def _shared_evidence(comparisons: Sequence[Comparison]) -> str:
    """What all comparisons rest on, said once: the number of pairs, and the margin of shown equivalence."""
    margins = {quantity(c.margin, c.unit) for c in comparisons if c.shows_equivalence}
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
    if set(groups) == {_UNTRAINED}:
        return f"no run of all {len(comparisons)} comparisons trained, so nothing was tested"
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
    if c.all_untrained:
        return _UNTRAINED
    if c.verdict is Verdict.ESTIMATE:
        return "with too few seeds"
    return "refuted by equivalence" if c.shows_equivalence and c.verdict is Verdict.REFUTED else c.verdict.lower()


def _name(c: Comparison, with_arms: bool, with_measure: bool, bounds: bool) -> str:
    """``bias against no_bias at norm=none (+0.31 pp [0.27, 0.35])``, without what the answer names already."""
    arms = [f"{c.arm} against {c.baseline}"] if with_arms else []
    about = arms + ([c.measure] if with_measure else [])
    name = place(" in ".join(about), c.level) if about else c.level
    return f"{name} ({difference(c, bounds)})" if c.n and not c.all_untrained else name
