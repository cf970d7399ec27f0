"""The table of the verdicts, and how a study's verdict follows from those of its deciding comparisons."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_outcomes import GAIN, only, pair, result, study

from bnexp.comparison.contrast import Contrast
from bnexp.comparison.pairing import Pairs
from bnexp.comparison.result import Comparison, Finding, Verdict
from bnexp.comparison.rules import VERDICTS, comparison_verdict, finding, study_verdict
from bnexp.comparison.verdict import judge
from bnexp.config.options import Direction

TEMPLATE = only(result(study("none", "after_pool"), pair(GAIN)))
p_values = st.floats(0, 1, allow_subnormal=False)


def shown(direction: Direction, found: Finding, n: int = 10) -> Comparison:
    c = replace(TEMPLATE, direction=direction.value, finding=found, n=n)
    return replace(c, verdict=comparison_verdict(c))


def test_the_table_covers_every_claim_and_finding_and_has_no_verdict_without_one() -> None:
    assert {(claim, found) for claim, row in VERDICTS.items() for found in row} == set(product(Direction, Finding))
    assert {row[Finding.nothing] for row in VERDICTS.values()} == {Verdict.INCONCLUSIVE}
    assert all(Verdict.INCONCLUSIVE not in [v for f, v in row.items() if f is not Finding.nothing] for row in VERDICTS.values())


@pytest.mark.parametrize(
    ("claim", "opposite"), [(Finding.above, Finding.below), (Finding.below, Finding.above), (Finding.equivalent, Finding.above)]
)
def test_each_claim_can_be_supported_and_refuted(claim: Finding, opposite: Finding) -> None:
    direction = {Finding.above: Direction.greater, Finding.below: Direction.less}.get(claim, Direction.equivalent)
    assert shown(direction, claim).shows_claim
    assert shown(direction, opposite).refutes_claim
    assert not shown(direction, claim).refutes_claim
    assert shown(Direction.different, Finding.equivalent).refutes_claim


@pytest.mark.parametrize(
    ("difference", "p", "equivalence", "beyond", "verdict"),
    [
        (0.3, 0.01, 0.90, 0.90, "SUPPORTED"),  # clearly more
        (0.1, 0.30, 0.01, 0.90, "SUPPORTED"),  # the same
        (-0.1, 0.01, 0.02, 0.90, "SUPPORTED"),  # clearly less, but within the margin
        (-0.3, 0.01, 0.90, 0.30, "INCONCLUSIVE"),  # clearly less, maybe within the margin
        (-0.9, 0.01, 0.90, 0.01, "REFUTED"),  # beyond it
        (0.1, 0.30, 0.30, 0.90, "INCONCLUSIVE"),
        (0.3, 0.30, 0.01, 0.90, "SUPPORTED"),  # maybe more than the margin, surely not less
    ],
)
def test_at_least_as_much_is_refuted_beyond_the_margin_only(
    difference: float, p: float, equivalence: float, beyond: float, verdict: str
) -> None:
    made = {"p_adjusted": p, "p_equivalence_adjusted": equivalence, "p_beyond_adjusted": beyond}
    c = replace(TEMPLATE, direction="at_least", difference=difference, **made)
    c = replace(c, finding=finding(c, beyond, 0.05))
    assert comparison_verdict(c) == verdict
    if verdict != "INCONCLUSIVE":
        assert c.p_verdict < 0.05


def test_at_least_as_much_is_wrongly_supported_no_more_often_than_the_level_says() -> None:
    rng, margin, supported = np.random.default_rng(0), 1.0, 0
    for _ in range(300):
        d = rng.normal(-margin, 0.7, 8)  # the worst case: less, by just the margin
        pairs = Pairs(tuple(range(8)), d, np.zeros(8), both_untrained=0)
        (c,) = judge([Contrast("batch", "layer", "", "accuracy", "pp", margin, pairs, direction=Direction.at_least)])
        supported += c.shows_claim
    assert supported <= 300 * 0.05 + 2.5 * math.sqrt(300 * 0.05 * 0.95)


@pytest.mark.parametrize("direction", ["different", "equivalent"])
def test_a_p_of_exactly_the_level_shows_nothing(direction: str) -> None:
    c = replace(TEMPLATE, p_adjusted=0.05, p_equivalence_adjusted=0.05, direction=direction)
    assert finding(c, 0.05, 0.05) is Finding.nothing


@given(p_values, p_values, p_values, st.sampled_from(list(Direction)), st.integers(0, 20), st.booleans())
def test_a_finding_needs_evidence_at_the_level_of_the_look(
    p: float, equivalence: float, beyond: float, direction: Direction, n: int, again: bool
) -> None:
    alpha = 0.01 if again else 0.05
    c = replace(TEMPLATE, p_adjusted=p, p_equivalence_adjusted=equivalence, direction=direction.value, n=n)
    found = finding(c, beyond, alpha)
    if n < 6 or min(p, equivalence, beyond) >= alpha:
        assert found is Finding.nothing
    if found is Finding.equivalent:
        assert equivalence < alpha
    if found is Finding.above:  # the difference of the template is positive
        assert (beyond if direction is Direction.equivalent else p) < alpha
    assert found is not Finding.below
    assert (comparison_verdict(replace(c, finding=found)) is Verdict.ESTIMATE) == (n < 6)


CLAIM, CONTRARY, OPEN = (shown(Direction.greater, found) for found in (Finding.above, Finding.equivalent, Finding.nothing))
FEW = shown(Direction.greater, Finding.nothing, n=5)
ALIKE, UNLIKE = shown(Direction.different, Finding.equivalent), shown(Direction.different, Finding.below)


@pytest.mark.parametrize(
    ("deciding", "verdict"),
    [
        ([CLAIM, CLAIM], "SUPPORTED"),
        ([CLAIM, OPEN], "INCONCLUSIVE"),
        ([CLAIM, CONTRARY], "REFUTED"),  # either part may refute
        ([OPEN, CONTRARY], "REFUTED"),
        ([OPEN, OPEN], "INCONCLUSIVE"),
        ([CLAIM, FEW], "ESTIMATE"),
        ([CONTRARY, FEW], "REFUTED"),
        ([], "ESTIMATE"),
    ],
)
def test_every_part_of_a_claim_must_be_shown_and_each_may_refute_it(deciding: list[Comparison], verdict: str) -> None:
    assert study_verdict(deciding, one_is_enough=False) == verdict


@pytest.mark.parametrize(
    ("deciding", "verdict"),
    [
        ([ALIKE, UNLIKE], "SUPPORTED"),
        ([ALIKE, ALIKE], "REFUTED"),
        ([ALIKE, OPEN], "INCONCLUSIVE"),
        ([FEW, FEW], "ESTIMATE"),
        ([], "ESTIMATE"),
    ],
)
def test_one_difference_shows_that_not_all_arms_are_alike(deciding: list[Comparison], verdict: str) -> None:
    assert study_verdict(deciding, one_is_enough=True) == verdict
