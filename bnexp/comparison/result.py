"""What a comparison takes in and gives out: plain data, ready for the terminal, JSON, HTML and W&B alike.

Accuracies are fractions in ``Outcome`` and per cent everywhere else, differences of them percentage points (pp). Losses stay in
nats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from bnexp.comparison.stats import ALPHA
from bnexp.config.options import Direction
from bnexp.plan.study import Level


class Status(StrEnum):
    finished = "finished"
    diverged = "diverged"
    failed = "failed"
    damaged = "damaged"
    missing = "missing"


class Verdict(StrEnum):
    """The statistical answer: see ``comparison.rules``. ``ESTIMATE``: fewer than six pairs allow only an estimate."""

    SUPPORTED = "SUPPORTED"
    REFUTED = "REFUTED"
    EQUIVALENT = "EQUIVALENT"
    INCONCLUSIVE = "INCONCLUSIVE"
    ESTIMATE = "ESTIMATE"


class Finding(StrEnum):
    """What a comparison shows, whatever was expected."""

    above = "above"
    below = "below"
    equivalent = "equivalent"
    nothing = "nothing"


class Test(StrEnum):
    """The test that a verdict rests on. The value is its name in tables."""

    __test__ = False  # pytest would take the class for a test case

    paired_t = "paired t"
    sign_flip = "sign flip"
    page = "Page"
    anytime_t = "anytime t"
    anytime_sign = "anytime sign"
    welch = "Welch"


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study as ``study.json`` lists it. ``levels``: factor key -> level."""

    run_id: str
    arm: str
    levels: dict[str, Level]
    seed: int


@dataclass(frozen=True)
class Outcome:
    """One planned run of a study and what came of it.

    Args:
        arm: its arm.
        level: its factor levels as one text, ``lr=0.01``; empty without factors.
        levels: the same as key -> value.
        seed: its seed; None if it has none, or none of its own among the runs of its arm and level. Only runs that were chosen
            after they had trained can be so.
        status: what came of it.
        value: the study's metric as recorded, an accuracy as a fraction; None if the run failed, is missing, or has a damaged
            record.
        run_id: finds its record.
        stuck: why the run counts as stuck, as a phrase: its training accuracy never left what guessing gives. Empty if it has
            trained, or diverged.
    """

    arm: str
    level: str
    levels: dict[str, Any]
    seed: int | None
    status: Status
    value: float | None
    run_id: str
    stuck: str = ""

    @property
    def untrained(self) -> bool:
        """Whether the run has a result that no training made: it diverged or is stuck."""
        return self.status is Status.diverged or bool(self.stuck)

    @property
    def ending(self) -> str:
        """How the run ended, in one word: ``stuck``, or its status."""
        return "stuck" if self.stuck else self.status.value


@dataclass(frozen=True)
class ArmSummary:
    """One arm at one level over its seeds; values in the unit of the study's metric.

    Args:
        arm: the arm.
        level: the level, as text; empty without factors.
        n: number of seeds with a value.
        mean: mean over them.
        low: lower bound of Student's 95 % interval; NaN below three seeds, or if all values are the same. An accuracy's ends at
            0 and 100 %.
        high: its upper bound.
        sd: standard deviation over the seeds; NaN below two.
        diverged: number of runs that diverged.
        stuck: number of runs whose training accuracy never left what guessing gives.
        missing: number of planned runs without a value.
    """

    arm: str
    level: str
    n: int
    mean: float
    low: float
    high: float
    sd: float
    diverged: int
    stuck: int
    missing: int


@dataclass(frozen=True)
class Comparison:
    """One arm against another over paired seeds, or as two groups of runs that cannot be paired.

    Differences are ``arm - baseline``, in ``unit``. A test not made is NaN.

    Args:
        arm: the arm.
        baseline: what it is compared with.
        level: the factor levels, as text; empty without factors, or if the measure is over all levels.
        measure: what is compared: the study's metric, or what its analysis derives for each seed.
        unit: of differences, intervals and margin. ``log2 ratio``: the base-2 logarithm of arm over baseline.
        decides: whether it decides the study. One that does not is an estimate with an interval, without adjusted p values
            and without a verdict.
        direction: what the claim predicts of it: ``greater``, ``less``, ``different``, ``equivalent`` or ``at_least``.
        margin: half width of what counts as equivalent; NaN if none is set.
        n: number of pairs. Without pairs: of different seeds in the group that has fewer; a run without a seed counts as one.
        difference: mean difference.
        low: lower bound of its 95 % interval; NaN below three pairs, or if all differences are the same.
        high: upper bound.
        low90: lower bound of the 90 % interval. Beside an anytime-valid test it is ``low``, because that is what shows
            equivalence then: see ``narrow_level``.
        high90: upper bound.
        p_t: paired t test.
        p_sign_flip: sign-flip permutation test.
        p_adjusted: the test that decides, after Holm's correction over the deciding comparisons.
        p_equivalence: the larger p of the two one-sided tests at ``margin``; for ``at_least`` that of the lower side alone.
        effect: Hedges-corrected ``d_z``.
        superiority: fraction of the pairs in which the arm has the larger value.
        superiority_low: lower bound of its Wilson interval.
        superiority_high: upper bound.
        n_needed: pairs that the test of the claim would need for 80 % power at the observed difference, at its level divided by
            the number of deciding comparisons. That test is TOST if equivalence is claimed, else the paired t test, which also
            stands for Page's and the sign-flip test. After several looks it is the number at which an anytime-valid test is
            expected to settle the comparison, for a declared plan that is too short by the test of a further look. None
            without a difference, or above 10,000.
        verdict: what the comparison says of the claim; None if it does not decide.
        reason: why, as a sentence.
        finding: what it shows, whatever was expected.
        p_equivalence_adjusted: after Holm's correction over the equivalence tests of the deciding comparisons.
        p_sign_flip_adjusted: the same over their sign-flip tests.
        p_beyond_adjusted: p of a difference beyond the margin, after Holm's correction over those of the deciding comparisons.
        alpha: level that the adjusted p values had to reach.
        unresolved: why equivalence is not tested, though there is a margin; empty if it is.
        resolved_by: the override with which it could be tested; empty if there is none.
        bound: ``at least`` or ``at most`` if the difference is only a bound of the real one, because some values lie beyond
            what was measured; empty otherwise.
        both_untrained: number of pairs in which neither run trained: each diverged or is stuck.
        reference: the level that an interaction is measured from.
        test: the test that decides.
        p_test: its p before Holm's correction.
        low_bca: lower bound of the 95 % BCa bootstrap interval, for display only: with five pairs it covers 87 %.
        high_bca: upper bound.
        seeds: the seed of each pair, in order.
        differences: the difference of each pair.
        unpaired: why the runs could not be paired by seed; empty if they are paired. Without pairs the tests are Welch's,
            ``effect`` is Hedges' ``g*_s``, ``superiority`` speaks of all pairs of two runs, ``n_needed`` of runs in each group,
            ``both_untrained`` of pairs that could be made of untrained runs; there is no sign-flip test, no bootstrap.
        sizes: number of runs of arm and baseline if they are not paired; empty if they are.
    """

    arm: str
    baseline: str
    level: str
    measure: str
    unit: str
    direction: str
    margin: float
    n: int
    difference: float
    low: float
    high: float
    low90: float
    high90: float
    p_t: float
    p_sign_flip: float
    p_adjusted: float
    p_equivalence: float
    effect: float
    superiority: float
    superiority_low: float
    superiority_high: float
    n_needed: int | None
    decides: bool
    both_untrained: int
    seeds: list[int]
    differences: list[float]
    verdict: Verdict | None = None
    reason: str = ""
    finding: Finding = Finding.nothing
    p_equivalence_adjusted: float = math.nan
    p_sign_flip_adjusted: float = math.nan
    p_beyond_adjusted: float = math.nan
    alpha: float = ALPHA
    reference: str = ""
    unresolved: str = ""
    resolved_by: str = ""
    bound: str = ""
    test: Test = Test.paired_t
    p_test: float = math.nan
    low_bca: float = math.nan
    high_bca: float = math.nan
    unpaired: str = ""
    sizes: list[int] = field(default_factory=list)

    @property
    def measured(self) -> int:
        """Number of pairs whose difference means something: at least one run has trained."""
        return self.n - self.both_untrained

    @property
    def counted(self) -> str:
        """What was compared, counted: ``8 pairs``; ``8 and 10 runs`` without pairs."""
        if self.unpaired:
            seeds = f" of {self.n} seed{'' if self.n == 1 else 's'}" if self.n < min(self.sizes) else ""
            return " and ".join(map(str, self.sizes)) + f" runs{seeds}"
        return f"{self.n} pair{'' if self.n == 1 else 's'}"

    @property
    def narrow_level(self) -> int:
        """Level of the interval from ``low90`` to ``high90`` in per cent: 90, or 95 beside an anytime-valid test."""
        return 95 if self.test in (Test.anytime_t, Test.anytime_sign) else 90

    @property
    def by_signs(self) -> bool:
        """Whether the signs of the differences decide."""
        return self.test in (Test.sign_flip, Test.anytime_sign)

    @property
    def shows_equivalence(self) -> bool:
        """Whether equivalence is shown."""
        return self.finding is Finding.equivalent

    @property
    def shows_difference(self) -> bool:
        """Whether a difference is shown."""
        return self.finding in (Finding.above, Finding.below)

    @property
    def tolerates(self) -> bool:
        """Whether the claim tolerates a difference up to the margin: it claims equivalence, or at least as much."""
        return self.direction == Direction.equivalent or self.one_sided

    @property
    def one_sided(self) -> bool:
        """Whether only the lower margin counts, because at least as much is claimed."""
        return self.direction == Direction.at_least

    @property
    def equivalence_test(self) -> str:
        """The name of the test behind ``p_equivalence``."""
        test = "one-sided t test" if self.one_sided else "Welch's TOST" if self.unpaired else "TOST"
        return f"anytime-valid {test}" if self.test in (Test.anytime_t, Test.anytime_sign) else test

    @property
    def is_beyond(self) -> bool:
        """Whether it shows a difference beyond the margin, because the claim tolerates a smaller one."""
        tolerated = self.tolerates and not (self.one_sided and self.finding is Finding.above)
        return tolerated and self.shows_difference

    @property
    def p_verdict(self) -> float:
        """The adjusted p that the verdict rests on: of equivalence if it is shown or claimed, else of a difference."""
        if self.is_beyond:
            return self.p_beyond_adjusted
        equivalence = self.shows_equivalence or (self.tolerates and not self.shows_difference)
        return self.p_equivalence_adjusted if equivalence else self.p_adjusted

    @property
    def shows_claim(self) -> bool:
        """Whether it shows what the claim predicts of it."""
        claimed = self.verdict is Verdict.EQUIVALENT and self.direction == Direction.equivalent
        return claimed or self.verdict is Verdict.SUPPORTED

    @property
    def refutes_claim(self) -> bool:
        """Whether it shows that what the claim predicts of it is wrong."""
        return self.verdict in (Verdict.REFUTED, Verdict.EQUIVALENT) and not self.shows_claim

    @property
    def strength(self) -> float:
        """How far the difference stands out of its spread: ``|d_z|``; infinite if all differences are the same, but not 0."""
        return abs(self.effect) if math.isfinite(self.effect) else math.inf if self.difference else 0.0


@dataclass(frozen=True)
class Remedy:
    """What would settle an open question.

    Args:
        text: what to do and why, as a sentence.
        command: the command that does it; empty if it is not known how the runs were made.
    """

    text: str
    command: str = ""


def leading(deciding: Sequence[Comparison], verdict: Verdict) -> Comparison | None:
    """The comparison that an answer tells first: the strongest of those that made the verdict, else the strongest that is open.

    Args:
        deciding: the comparisons that decide the study.
        verdict: that of the study.
    """
    made = {
        Verdict.SUPPORTED: [c for c in deciding if c.shows_claim],
        Verdict.REFUTED: [c for c in deciding if c.refutes_claim],
    }
    open_ones = [c for c in deciding if not c.shows_claim and not c.refutes_claim]
    return max(made.get(verdict) or open_ones or deciding, key=lambda c: (c.measured > 0, c.strength), default=None)


@dataclass(frozen=True)
class StudyResult:
    """Everything that is known when a study is over, fit for JSON (``to_dict``).

    Args:
        study: the study's definition.
        study_id: hash of what decides its results.
        question: the question.
        answer: its answer in one sentence.
        verdict: that of the study as a whole.
        metric: what its values are.
        unit: their unit.
        margin: half width of what counts as equivalent; NaN if none is set.
        settings: what was held fixed and must be named beside the verdict, key -> text.
        arms: every arm at every level.
        comparisons: every arm against its baseline.
        omnibus_p: Friedman's test over three or more arms; None if it was not made.
        outcomes: every planned run.
        unpaired: sentences on planned runs without a partner or without a result, which are never dropped silently.
        notes: sentences on what a reader must know.
        remedy: what would settle the question; None if it is settled.
        rule: which anytime-valid rule was used: ``declared``, ``again``, or empty for the first conclusion at a planned number
            of seeds.
    """

    study: dict[str, Any]
    study_id: str
    question: str
    answer: str
    verdict: Verdict
    metric: str
    unit: str
    margin: float
    settings: dict[str, str]
    arms: list[ArmSummary]
    comparisons: list[Comparison]
    omnibus_p: float | None
    outcomes: list[Outcome]
    unpaired: list[str]
    notes: list[str]
    remedy: Remedy | None = None
    rule: str = ""

    @property
    def deciding(self) -> list[Comparison]:
        """The comparisons that decide the study."""
        return [c for c in self.comparisons if c.decides]

    @property
    def lead(self) -> Comparison | None:
        """The deciding comparison that the answer tells first."""
        return leading(self.deciding, self.verdict)

    def __repr__(self) -> str:
        """Verdict and answer: the whole would fill the screen of a session."""
        return f"StudyResult(verdict={str(self.verdict)!r}, answer={self.answer!r})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for strict JSON: enums as text, numbers that are not finite as None."""
        return dict(_json(asdict(self)))


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, StrEnum):
        return value.value
    return None if isinstance(value, float) and not math.isfinite(value) else value
