"""The statistics themselves, checked by simulation: false verdicts, coverage and power are what they are said to be.

Bounds are the stated rate plus 3.5 standard errors of the simulation; generators are fixed, so the outcome never changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from made_outcomes import from_values, result, study

from bnexp.comparison import power, stats
from bnexp.comparison.contrast import Contrast
from bnexp.comparison.pairing import Pairs
from bnexp.comparison.result import Comparison, Verdict
from bnexp.comparison.verdict import judge
from bnexp.config.options import Direction

TRIALS = 1_000
FAMILIES = 400  # studies of several arms


def tolerance(rate: float) -> float:
    return 3.5 * math.sqrt(rate * (1 - rate) / TRIALS)


def contrast(arm: np.ndarray, baseline: np.ndarray, direction: str, margin: float) -> Contrast:
    pairs = Pairs(tuple(range(arm.size)), arm, baseline, both_untrained=0)
    return Contrast("arm", "none", "", "test/accuracy", "pp", margin, pairs, direction=Direction(direction))


def verdicts(draw: Callable[[], np.ndarray], direction: str, margin: float) -> list[Comparison]:
    return [judge([contrast(d, np.zeros_like(d), direction, margin)])[0] for d in (draw() for _ in range(TRIALS))]


def rate(comparisons: list[Comparison], *wanted: Verdict) -> float:
    return sum(c.verdict in wanted for c in comparisons) / len(comparisons)


@pytest.mark.parametrize("n", [6, 10])
@pytest.mark.parametrize("direction", ["greater", "different"])
def test_null_data_give_at_most_5_percent_false_verdicts(n: int, direction: str) -> None:
    rng = np.random.default_rng(n)
    # A margin far below the noise: equivalence, which would be true here, is never shown.
    found = verdicts(lambda: rng.normal(0, 1, n), direction, margin=1e-6)
    assert rate(found, Verdict.SUPPORTED, Verdict.REFUTED) <= 0.05 + tolerance(0.05)
    assert rate(found, Verdict.SUPPORTED) > 0.01  # and the test is not simply mute


@pytest.mark.parametrize("n", [6, 10])
def test_accuracies_of_few_test_images_keep_the_rate(n: int) -> None:
    """Binomial accuracies with ties, as small test sets give them."""
    rng = np.random.default_rng(100 + n)
    found = verdicts(lambda: rng.binomial(360, 0.97, n) / 3.6 - rng.binomial(360, 0.97, n) / 3.6, "different", 1e-6)
    assert rate(found, Verdict.SUPPORTED, Verdict.REFUTED) <= 0.05 + tolerance(0.05)


def test_five_pairs_never_give_a_verdict() -> None:
    rng = np.random.default_rng(0)
    assert rate(verdicts(lambda: rng.normal(50, 1, 5), "greater", 0.2), Verdict.ESTIMATE) == 1


@pytest.mark.parametrize("n", [6, 10])
@pytest.mark.parametrize("direction", ["equivalent", "different", "greater"])
def test_a_difference_at_the_margin_is_called_equivalent_in_at_most_5_percent(n: int, direction: str) -> None:
    rng = np.random.default_rng(200 + n)
    found = verdicts(lambda: rng.normal(-1, 0.5, n), direction, margin=1.0)
    false = [c for c in found if c.p_equivalence_adjusted < 0.05]
    assert len(false) / TRIALS <= 0.05 + tolerance(0.05)
    if direction == "equivalent":
        assert rate(found, Verdict.EQUIVALENT) == len(false) / TRIALS > 0.01
        assert rate(found, Verdict.REFUTED) <= 0.05 + tolerance(0.05)


@pytest.mark.parametrize("n", [3, 6, 10])
def test_intervals_cover_the_truth(n: int) -> None:
    rng = np.random.default_rng(300 + n)
    for level in (0.90, 0.95):
        bounds = [stats.mean_interval(rng.normal(0.3, 2, n), level) for _ in range(TRIALS)]
        covered = sum(low <= 0.3 <= high for _, low, high in bounds) / TRIALS
        assert covered == pytest.approx(level, abs=tolerance(level))


def test_superiority_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(9)
    bounds = [stats.superiority(np.where(rng.random(20) < 0.7, 1.0, -1.0)) for _ in range(TRIALS)]
    assert sum(low <= 0.7 <= high for _, low, high in bounds) / TRIALS >= 0.93


@pytest.mark.parametrize("effect", [0.6, 1.2])
def test_stated_power_is_reached_at_the_number_of_pairs_needed(effect: float) -> None:
    n = power.pairs_needed(effect)
    assert n is not None
    rng = np.random.default_rng(n)
    supported = sum(stats.paired_t(rng.normal(effect, 1, n)) < 0.05 for _ in range(TRIALS)) / TRIALS
    assert supported == pytest.approx(power.power_paired_t(effect, n), abs=tolerance(0.8))
    assert supported >= 0.8 - tolerance(0.8)


@pytest.mark.parametrize("difference", [0.0, 0.08])
def test_stated_power_of_equivalence_is_reached(difference: float) -> None:
    n = power.pairs_needed_equivalence(difference, 0.3, 0.2)
    assert n is not None
    rng = np.random.default_rng(n)
    shown = sum(stats.equivalence(rng.normal(difference, 0.3, n), 0.2) < 0.05 for _ in range(TRIALS)) / TRIALS
    assert shown >= 0.8 - tolerance(0.8)
    assert shown == pytest.approx(power.power_equivalence(difference, 0.3, 0.2, n), abs=tolerance(0.8))


def test_an_inconclusive_comparison_never_asks_for_fewer_pairs_than_it_has() -> None:
    rng = np.random.default_rng(11)
    for direction in ("greater", "equivalent"):
        for _ in range(100):
            rows = rng.normal(0.6, 1, (5, 10)) * rng.choice([0.1, 1], (5, 1))
            for c in judge([contrast(d, np.zeros(10), direction, 0.5) for d in rows]):
                assert c.verdict is not Verdict.INCONCLUSIVE or c.n_needed is None or c.n_needed > c.n


@pytest.mark.parametrize("n", [6, 10])
def test_family_wise_error_of_three_equal_arms_is_at_most_5_percent(n: int) -> None:
    rng = np.random.default_rng(400 + n)
    made = study("none", "before", "after", baseline=None)
    wrong = 0
    for _ in range(FAMILIES):
        table = 98 + rng.normal(0, 1, n) + rng.normal(0, 0.3, (3, n))
        found = result(made, from_values(dict(zip(made.arms, table, strict=True))), margin=1e-6)
        wrong += any(c.verdict in (Verdict.SUPPORTED, Verdict.REFUTED) for c in found.comparisons)
    assert wrong / FAMILIES <= 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / FAMILIES)


def test_omnibus_test_keeps_its_rate() -> None:
    rng = np.random.default_rng(12)
    found = [stats.friedman(rng.normal(0, 1, (10, 4))) for _ in range(FAMILIES)]
    assert sum(p < 0.05 for p in found) / FAMILIES <= 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / FAMILIES)
