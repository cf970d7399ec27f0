"""What a comparison takes in and gives out: plain data, ready for the terminal, JSON, HTML and W&B alike.

Accuracies are fractions in ``Outcome`` and percentage points (pp) everywhere else; losses stay in nats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, TypeVar

from bnexp.compare.stats import ALPHA, MIN_PAIRS
from bnexp.config.options import Direction
from bnexp.plan.study import Level


class Status(StrEnum):
    finished = "finished"
    diverged = "diverged"
    failed = "failed"
    damaged = "damaged"
    missing = "missing"


class Verdict(StrEnum):
    """The statistical answer. ``ESTIMATE`` stands where fewer than six pairs allow no verdict, only an estimate."""

    SUPPORTED = "SUPPORTED"
    REFUTED = "REFUTED"
    EQUIVALENT = "EQUIVALENT"
    INCONCLUSIVE = "INCONCLUSIVE"
    ESTIMATE = "ESTIMATE"


class Test(StrEnum):
    """The test that a verdict rests on."""

    __test__ = False  # pytest would take the class for a test case

    paired_t = "paired t"
    sign_flip = "sign flip"
    page = "Page"


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study as ``study.json`` lists it; ``levels``: factor key -> level."""

    run_id: str
    arm: str
    levels: dict[str, Level]
    seed: int


@dataclass(frozen=True)
class Outcome:
    """One planned run of a study and what came of it.

    ``level``: the factor levels as one text (``lr=0.01``; empty without factors); ``levels``: the same as key -> value.
    ``value``: the study's metric in its own unit (accuracy as a fraction, chance accuracy where the run diverged);
    None where the run failed, is missing, or has a damaged record. ``run_id`` finds its records.
    """

    arm: str
    level: str
    levels: dict[str, Any]
    seed: int
    status: Status
    value: float | None
    run_id: str


@dataclass(frozen=True)
class ArmSummary:
    """One arm at one level over its seeds. ``mean low high sd`` in pp (or nats); the interval is 95 %, Student t.

    ``low`` and ``high`` are NaN below three seeds and where all values are the same.
    """

    arm: str
    level: str
    n: int
    mean: float
    low: float
    high: float
    sd: float
    diverged: int
    missing: int


@dataclass(frozen=True)
class Comparison:
    """One arm against another over paired seeds; every difference is ``arm - baseline`` in pp (or nats).

    ``measure``: what is compared: the study's metric, or what its analysis derives per seed (``largest stable optim.lr``,
    ``interaction with model.activation, from activation=relu``, ``trend over train.batch_size``, ``updates to target``,
    ``gap at matched training loss``, ``flips beyond seed-to-seed churn``); ``reference``: the level that an interaction is
    measured from. ``unit``: of differences, intervals and margin; ``log2 ratio``: the base-2 logarithm of arm over baseline.
    ``low high low90 high90``: 95 and 90 % interval, NaN below three pairs and where all differences are the same.
    ``p_t``: paired t test; ``p_sign_flip``: exact or sampled sign-flip permutation; ``p_adjusted``: Holm over the study's
    family; ``p_equivalence``: the larger of the two one-sided tests at ``margin``.
    ``effect``: Hedges-corrected d_z; ``superiority``: part of the pairs in which the arm wins, with Wilson interval.
    ``n_needed``: pairs that the test of the claim (paired t, also in place of Page's and the sign-flip test; TOST where
    equivalence is claimed) would need for 80 % power at the observed difference, at .05 divided by the family's size; None if
    no difference, or above 10,000.
    ``p_equivalence_adjusted``, ``p_sign_flip_adjusted``: Holm over the study's equivalence and sign-flip tests. A test that
    cannot be made is NaN. ``both_diverged``: pairs in which both runs diverged.
    ``test``: the test that the verdict rests on (``paired t``, ``sign flip``, ``Page``), ``p_test`` its p before Holm's
    correction. ``low_bca high_bca``: 95 % BCa bootstrap interval, for display only: at five pairs it covers 87 %.
    ``seeds differences``: the pairs, in order of seed.
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
    verdict: Verdict
    reason: str
    p_equivalence_adjusted: float = math.nan
    p_sign_flip_adjusted: float = math.nan
    both_diverged: int = 0
    reference: str = ""
    test: Test = Test.paired_t
    p_test: float = math.nan
    low_bca: float = math.nan
    high_bca: float = math.nan
    seeds: list[int] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)

    @property
    def measured(self) -> int:
        """Number of pairs whose difference was measured: not both runs diverged."""
        return self.n - self.both_diverged

    @property
    def all_diverged(self) -> bool:
        """Whether both runs of every pair diverged, so that nothing was tested."""
        return self.n > 0 and not self.measured

    @property
    def shows_equivalence(self) -> bool:
        """Whether the verdict rests on shown equivalence.

        Equivalence is looked at first if it is claimed. Otherwise it counts only if no difference is shown.
        """
        if self.measured < MIN_PAIRS or not self.p_equivalence_adjusted < ALPHA:
            return False
        return self.direction == Direction.equivalent or not self.p_adjusted < ALPHA

    @property
    def shows_difference(self) -> bool:
        """Whether the verdict rests on a shown difference."""
        return self.verdict in (Verdict.SUPPORTED, Verdict.REFUTED) and not self.shows_equivalence

    @property
    def shows_claim(self) -> bool:
        """Whether the comparison shows what the study claims."""
        claimed = self.verdict is Verdict.EQUIVALENT and self.direction == Direction.equivalent
        return claimed or self.verdict is Verdict.SUPPORTED


@dataclass(frozen=True)
class StudyResult:
    """Everything that is known when a study is over, fit for JSON (``to_dict``).

    ``answer``: the question's answer in one sentence. ``verdict``: of the study as a whole. ``omnibus_p``: Friedman test
    over three or more arms. ``settings``: what was held fixed and must be named beside the verdict (data, lr, momentum,
    batch size, epochs, ...), key -> text. ``unpaired``: planned runs without a partner or without a result, never dropped
    silently. ``study``: the study's definition.
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
    outcomes: list[Outcome] = field(repr=False)
    unpaired: list[str]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for strict JSON: enums as text, numbers that are not finite as None."""
        return dict(_json(asdict(self)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StudyResult:
        """The inverse of :meth:`to_dict`: None becomes NaN again where a number is expected."""
        parts = {
            "arms": [_build(ArmSummary, row) for row in data["arms"]],
            "comparisons": [_build(Comparison, row) for row in data["comparisons"]],
            "outcomes": [_build(Outcome, row) for row in data["outcomes"]],
        }
        return _build(cls, {**data, **parts})


T = TypeVar("T", ArmSummary, Comparison, Outcome, StudyResult)


def _build(cls: type[T], row: Mapping[str, Any]) -> T:
    values: dict[str, Any] = {}
    for item in fields(cls):
        if item.name in row:
            value = row[item.name]
            enum = {"Status": Status, "Verdict": Verdict, "Test": Test}.get(str(item.type))
            values[item.name] = math.nan if value is None and item.type == "float" else enum(value) if enum else value
    return cls(**values)


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, StrEnum):
        return value.value
    return None if isinstance(value, float) and not math.isfinite(value) else value
