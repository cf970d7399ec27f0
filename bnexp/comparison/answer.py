"""The answer of a study: a sentence that a colleague would say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bnexp.comparison.looks import Look
from bnexp.comparison.method import Method
from bnexp.comparison.pairing import Results
from bnexp.comparison.reason import unclear, why
from bnexp.comparison.result import Comparison, Verdict, leading
from bnexp.comparison.stats import MIN_PAIRS
from bnexp.comparison.text import SETTINGS, TEST_NAMES, p_equals
from bnexp.comparison.words import settings_text
from bnexp.config.options import Direction
from bnexp.config.schema import StudyConfig
from bnexp.plan.deciding import claims_unlike

_QUESTION_WORDS = ("do", "does", "is", "are", "can", "has", "have", "will", "did", "was", "were")
NO_RESULT = "No run has a result yet."


def answer(
    study: StudyConfig,
    method: Method,
    deciding: Sequence[Comparison],
    verdict: Verdict,
    settings: Mapping[str, str],
    look: Look,
    results: Results,
) -> str:
    """Yes, no or not settled; the strongest deciding effect in the words of its analysis; settings, n and p.

    If the claim has a part that predicts a difference and one that predicts equivalence, the strongest of each is told. So is
    how many runs of the two arms did not train: that alone can make a large effect.

    Args:
        study: the study.
        method: its analysis, which says who differs from whom.
        deciding: the comparisons that decide it.
        verdict: that of the study.
        settings: dotted key -> text, of what was held fixed.
        look: how often the question has been looked at.
        results: the runs behind it.
    """
    lead = leading(deciding, verdict)
    if lead is None:
        return "Nothing to compare: the study has fewer than two arms."
    found = method.statement(lead) + _where(settings)
    other = _other_part(deciding, lead, verdict)
    agrees = "as claimed, " if verdict is Verdict.REFUTED else ""
    rest = f"; {agrees}{method.statement(other)}" if other else ""
    evidence = _evidence(lead, len(deciding)) + _untrained(lead, method, results)
    others = _others(study, deciding, verdict, [lead, other])
    word = "Too few runs for a verdict" if lead.unpaired and verdict is Verdict.ESTIMATE else _word(study, verdict)
    sentence = f"{word}: {found} ({evidence}){rest}{others}."
    return " ".join(part for part in (sentence, look.sentence) if part)


def _word(study: StudyConfig, verdict: Verdict) -> str:
    """``Yes``, ``No`` or ``Not settled``; ``Supported`` and ``Refuted`` if the question cannot be answered by yes or no."""
    if verdict is Verdict.INCONCLUSIVE:
        return "Not settled"
    if verdict is Verdict.ESTIMATE:
        return "Too few seeds for a verdict"
    if study.question.split(" ", 1)[0].lower() not in _QUESTION_WORDS:
        return verdict.capitalize()
    return "Yes" if verdict is Verdict.SUPPORTED else "No"


def _other_part(deciding: Sequence[Comparison], lead: Comparison, verdict: Verdict) -> Comparison | None:
    """The strongest of the comparisons of which the claim predicts equivalence, if it predicts a difference of ``lead``.

    The same the other way round; None if the claim has one part only. If ``lead`` refuted the claim, None as well if nothing of
    the other part is as claimed.
    """
    claimed = lead.direction == Direction.equivalent
    others = [c for c in deciding if (c.direction == Direction.equivalent) != claimed]
    if verdict is Verdict.REFUTED:
        return leading([c for c in others if c.shows_claim], Verdict.SUPPORTED)
    return leading(others, verdict)


def _where(settings: Mapping[str, str]) -> str:
    """`` on mnist with learning rate 0.01, momentum 0.9, batch size 64, 10 epochs``, as far as known."""
    known = settings_text(settings, SETTINGS)
    data = settings.get("data.name")
    return (f" on {data}" if data else "") + (f" with {known}" if known else "")


def _evidence(c: Comparison, family: int) -> str:
    """``n = 10 seeds, paired t test p = .003; larger than the margin of 0.20 pp``."""
    seeds = f"n = {c.counted}, unpaired" if c.unpaired else f"n = {c.n} paired seed{'' if c.n == 1 else 's'}"
    if not c.measured:
        return seeds
    if c.verdict is Verdict.ESTIMATE:
        return f"{seeds}, and a verdict needs {MIN_PAIRS}{' each' * bool(c.unpaired)}"
    corrected = f", corrected for {family} comparisons" if family > 1 else ""
    if c.shows_equivalence:
        return f"{seeds}, {c.equivalence_test} {p_equals(c.p_equivalence_adjusted)}{corrected}"
    if c.shows_difference:
        test = TEST_NAMES[c.test] + (" against the margin" if c.is_beyond else "")
        return f"{seeds}, {test} {p_equals(c.p_verdict)}{corrected}; {why(c)}"
    if c.measured >= MIN_PAIRS and not c.tolerates:
        return f"{seeds}, {TEST_NAMES[c.test]} {p_equals(c.p_adjusted)}{corrected}: {unclear(c)}"
    return f"{seeds}, {why(c)}"


def _untrained(c: Comparison, method: Method, results: Results) -> str:
    """``; 5 of 6 runs of none did not train``; empty if all trained, or if that is what the analysis looks for."""
    if method.expects_divergence or not c.shows_difference or c.level not in results.levels:
        return ""
    counts = [(len(results.untrained(arm, c.level)), len(results.cell(arm, c.level)), arm) for arm in (c.arm, c.baseline)]
    told = [f"{lost} of {n} run{'s' * (n > 1)} of {arm}" for lost, n, arm in counts if lost]
    return f"; {' and '.join(told)} did not train" if told else ""


def _others(study: StudyConfig, deciding: Sequence[Comparison], verdict: Verdict, told: Sequence[Comparison | None]) -> str:
    """What the deciding comparisons that are not told say, as a clause; empty if there are none."""
    if all(c in told for c in deciding):
        return ""
    if verdict is Verdict.ESTIMATE:
        return f"; {len(deciding)} comparisons decide"
    shown, refuted = sum(c.shows_claim for c in deciding), sum(c.refutes_claim for c in deciding)
    unlike = claims_unlike(vars(study)) or all(c.direction == Direction.different for c in deciding)
    words = ("differ", "are equivalent", "are open") if unlike else ("are as claimed", "go against the claim", "are open")
    what = "pairs" if unlike else "deciding comparisons"
    counts = [(n, word) for n, word in zip((shown, refuted, len(deciding) - shown - refuted), words, strict=True) if n]
    if len(counts) == 1:
        every = "both" if len(deciding) == 2 else f"all {len(deciding)}"
        return f"; {every} {what} {counts[0][1]}"
    listed = [f"{n} {_SINGULAR[word] if n == 1 else word}" for n, word in counts]
    return f"; of {len(deciding)} {what} {', '.join(listed[:-1])} and {listed[-1]}"


_SINGULAR = {
    "differ": "differs",
    "are equivalent": "is equivalent",
    "are as claimed": "is as claimed",
    "go against the claim": "goes against the claim",
    "are open": "is open",
}
