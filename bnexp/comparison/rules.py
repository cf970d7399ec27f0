"""The rules of the verdicts. They were fixed before any run, so that no result can choose them.

What is compared:

- Pairs: each other arm against ``study.baseline``; without one, every pair, the later arm minus the earlier. There is one
  comparison per pair and factor level, or whatever ``study.analysis`` derives from the runs instead (``ANALYSES``).
- A claim has one deciding set of comparisons, ``study.decides``. Only these are tested, have a verdict and make that of the
  study. All others are *also measured*: an estimate and an interval.
- ``greater`` and ``less`` speak of what is compared: of the metric; of the difference at a level against that at the first one
  (interaction); of its slope over the levels (trend); of the time until the target (faster is ``less``); of the gap; of the
  flips beyond churn.

How it is tested:

- The first time that a question is concluded, at the planned number of seeds: the paired t test; for a trend Page's test in
  the direction of the mean slope, doubled; for times, and values that a grid or ties make coarse, the sign-flip test.
- Whenever else one looks: an anytime-valid test (``sequential``).
- Holm corrects over all difference tests of the deciding comparisons, and over all of their equivalence tests.
- ``at_least`` is tested against the lower margin alone, by one one-sided t test (non-inferiority), among the equivalence tests.
- Equivalence is not tested without a margin, if the steps of a grid are wider than the margin, if a value lies beyond the end
  of a grid, or if all differences are the same: nothing may look equivalent because it was measured coarsely.
- Untrained runs stay in, diverged ones at chance. If neither run of a pair trained, their difference was never measured: with
  any such pair equivalence is not tested, and a verdict needs six other pairs. If all pairs are such, nothing is tested. In
  the difference tests the pair stays, because it can only weaken a difference. In an interaction or a trend it could make
  one, so there the seed is left out and listed.

What it means: ``VERDICTS`` and ``study_verdict``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bnexp.comparison.result import Comparison, Finding, Verdict
from bnexp.comparison.stats import MIN_PAIRS
from bnexp.config.options import Direction

# What a claim predicts -> what is shown -> the verdict. Where a difference was claimed and equivalence is shown, the claim is
# wrong; a comparison of which no direction is claimed is then called EQUIVALENT, and counts against it all the same.
VERDICTS: Mapping[Direction, Mapping[Finding, Verdict]] = {
    Direction.greater: {
        Finding.above: Verdict.SUPPORTED,
        Finding.below: Verdict.REFUTED,
        Finding.equivalent: Verdict.REFUTED,
        Finding.nothing: Verdict.INCONCLUSIVE,
    },
    Direction.less: {
        Finding.above: Verdict.REFUTED,
        Finding.below: Verdict.SUPPORTED,
        Finding.equivalent: Verdict.REFUTED,
        Finding.nothing: Verdict.INCONCLUSIVE,
    },
    Direction.different: {
        Finding.above: Verdict.SUPPORTED,
        Finding.below: Verdict.SUPPORTED,
        Finding.equivalent: Verdict.EQUIVALENT,
        Finding.nothing: Verdict.INCONCLUSIVE,
    },
    Direction.equivalent: {
        Finding.above: Verdict.REFUTED,
        Finding.below: Verdict.REFUTED,
        Finding.equivalent: Verdict.EQUIVALENT,
        Finding.nothing: Verdict.INCONCLUSIVE,
    },
    Direction.at_least: {
        Finding.above: Verdict.SUPPORTED,
        Finding.below: Verdict.REFUTED,
        Finding.equivalent: Verdict.SUPPORTED,
        Finding.nothing: Verdict.INCONCLUSIVE,
    },
}


def finding(c: Comparison, p_beyond: float, alpha: float) -> Finding:
    """What a comparison shows.

    If the claim tolerates the difference (``Comparison.tolerates``), equivalence is looked at first, and only a difference
    beyond the margin counts as one. Otherwise equivalence counts only if no difference is shown. For ``at_least`` equivalence
    means not below the margin; a clear gain is told as one, which needs no further correction, because it implies the other.

    Args:
        c: the comparison, with its adjusted p values.
        p_beyond: adjusted p of a difference beyond the margin.
        alpha: level of the tests.
    """
    if c.measured < MIN_PAIRS:
        return Finding.nothing
    forgiven = c.tolerates and not (c.one_sided and c.difference > 0)
    different, equivalent = (p_beyond if forgiven else c.p_adjusted) < alpha, c.p_equivalence_adjusted < alpha
    if equivalent and (forgiven or not different):
        return Finding.equivalent
    if not different:
        return Finding.nothing
    return Finding.above if c.difference > 0 else Finding.below


def comparison_verdict(c: Comparison) -> Verdict:
    """The verdict of a deciding comparison with its finding."""
    return Verdict.ESTIMATE if c.n < MIN_PAIRS else VERDICTS[Direction(c.direction)][c.finding]


def study_verdict(deciding: Sequence[Comparison], *, one_is_enough: bool) -> Verdict:
    """The verdict of a study.

    SUPPORTED if every deciding comparison shows what the claim predicts of it. REFUTED if any shows the contrary. Otherwise
    INCONCLUSIVE, or ESTIMATE if one has too few pairs for a verdict.

    Args:
        deciding: the comparisons that decide it.
        one_is_enough: whether the claim is that not all arms are alike. Then a single difference supports it, and only the
            equivalence of all refutes it.
    """
    shown, refuted = [c.shows_claim for c in deciding], [c.refutes_claim for c in deciding]
    if deciding and (any(shown) if one_is_enough else all(shown)):
        return Verdict.SUPPORTED
    if deciding and (all(refuted) if one_is_enough else any(refuted)):
        return Verdict.REFUTED
    too_few = not deciding or any(c.verdict is Verdict.ESTIMATE for c in deciding)
    return Verdict.ESTIMATE if too_few else Verdict.INCONCLUSIVE
