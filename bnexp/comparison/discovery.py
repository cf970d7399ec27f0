"""How many of the claims in one list have a wrong verdict: a p for each claim, their q values, and the expected number.

A verdict is wrong if it is SUPPORTED and some part of the claim does not hold, or REFUTED and all parts hold. The p of a claim
is chosen so that a wrong verdict with p of at most t has a probability of at most t, for every t:

- All deciding comparisons must be shown: p of the support is the largest of theirs. If a part does not hold, its own p is small
  by chance alone, and the largest is no smaller (Berger 1982, "Multiparameter hypothesis testing": intersection-union). p of a
  refutation is the smallest of the parts that refute: it has Holm's correction, so the number of parts is paid for.
- One is enough (the claim that not all arms are alike): the other way round.
- A claim that is not settled has no p. It counts as 1: it could have got a verdict, so leaving it out would be a selection.

- A question that was concluded before is tested at .01, in place of .05, so its p counts five times. It has two chances of a
  wrong verdict, the first conclusion and the later looks: the probability is at most 1.2 t.

That inequality is all that the proof of Benjamini & Yekutieli (2001, theorem 1.3) needs of the p values, whatever they depend
on: claims share runs. So of the verdicts with q of at most .05, in the long run at most 5 % are wrong (6 % if questions were
concluded again). Without q values, the expected number of wrong verdicts is at most .05 (.06) times the number of claims that
could get one, by the sum of expectations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bnexp.comparison import stats
from bnexp.comparison.result import Comparison, StudyResult, Verdict
from bnexp.comparison.stats import ALPHA, MIN_PAIRS
from bnexp.plan.deciding import claims_unlike


@dataclass(frozen=True)
class Discoveries:
    """The claims of one list, corrected for their number.

    Args:
        q: q value of each claim, in the order given; None if it has no verdict.
        num_tested: number of claims that could get a verdict: at least six seeds were planned.
        risk: the largest probability of a wrong verdict on one claim: .05, or .06 if questions were concluded again.
    """

    q: list[float | None]
    num_tested: int
    risk: float = ALPHA

    @property
    def num_verdicts(self) -> int:
        """Number of claims with a verdict."""
        return sum(value is not None for value in self.q)

    @property
    def num_kept(self) -> int:
        """Number of verdicts with q of at most .05."""
        return sum(value is not None and value <= ALPHA for value in self.q)

    @property
    def expected_false(self) -> float:
        """The largest number of wrong verdicts to be expected in the long run."""
        return self.risk * self.num_tested


def discoveries(results: Sequence[StudyResult]) -> Discoveries:
    """Correct the verdicts of several studies for their number."""
    tested = [len({outcome.seed for outcome in result.outcomes}) >= MIN_PAIRS for result in results]
    p = [claim_p(result) for result in results]
    counted = [math.nan if not could else 1.0 if value is None else value for value, could in zip(p, tested, strict=True)]
    q = stats.benjamini_yekutieli(counted)
    again = {c.alpha for result in results for c in result.deciding if c.alpha < ALPHA}
    corrected = [None if value is None else one for value, one in zip(p, q, strict=True)]
    return Discoveries(corrected, sum(tested), ALPHA + max(again, default=0.0))


def claim_p(result: StudyResult) -> float | None:
    """The p that stands for the verdict of a study as a whole; None if it has none."""
    shown = [verdict_p(c) for c in result.deciding if c.shows_claim]
    against = [verdict_p(c) for c in result.deciding if c.refutes_claim]
    one_is_enough = claims_unlike(result.study)
    if result.verdict is Verdict.SUPPORTED:
        return min(shown) if one_is_enough else max(shown)
    if result.verdict is Verdict.REFUTED:
        return max(against) if one_is_enough else min(against)
    return None


def verdict_p(c: Comparison) -> float:
    """The p that the verdict of a deciding comparison rests on, after Holm's correction, as one to be read against .05."""
    return min(1.0, c.p_verdict * (ALPHA / c.alpha))
