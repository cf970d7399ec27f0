"""Interaction and trend: worked out by hand, told in words, and wrong no more often than stated."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_outcomes import outcome, result, study

from bnexp.comparison.result import Comparison, Outcome, Status, StudyResult, Verdict
from bnexp.config.options import Analysis, Direction
from bnexp.config.schema import ConfigError, Decides

FAMILIES = 250
ACTIVATIONS = ("relu", "tanh", "sigmoid")


KEY = "model.activation"


def bound(rate: float) -> float:
    return rate + 3.5 * math.sqrt(rate * (1 - rate) / FAMILIES)


def grid(table: dict[str, np.ndarray], levels: dict[str, list[object]]) -> list[Outcome]:
    """Arm -> (levels, seeds) of per cents, at the levels of the one factor."""
    ((key, values),) = levels.items()
    return [
        outcome(arm, seed, value / 100, **{key: level})
        for arm, rows in table.items()
        for level, row in zip(values, rows, strict=True)
        for seed, value in enumerate(row)
    ]


def interactions(table: dict[str, np.ndarray], **keys: object) -> StudyResult:
    made = study(*table, analysis=Analysis.interaction, **keys)  # type: ignore[arg-type]
    return result(made, grid(table, {"model__activation": list(ACTIVATIONS)}), margin=0.2)


def noisy(rng: np.random.Generator, means: list[float], n: int, sd: float = 0.1) -> np.ndarray:
    return np.array(means)[:, None] + rng.normal(0, sd, (len(means), n))


def test_an_interaction_is_the_difference_of_differences_by_seed() -> None:
    rng = np.random.default_rng(0)
    table = {"none": noisy(rng, [98, 97, 60], 8), "bn": noisy(rng, [98.5, 98.5, 60], 8)}
    found = interactions(
        table,
        decides=[Decides(at={KEY: "tanh"}, expect=Direction.greater), Decides(at={KEY: "sigmoid"}, expect=Direction.less)],
    )
    d = table["bn"] - table["none"]
    assert [(c.level, c.reference, c.measure) for c in found.comparisons] == [
        ("activation=tanh", "activation=relu", "interaction with activation, from activation=relu"),
        ("activation=sigmoid", "activation=relu", "interaction with activation, from activation=relu"),
    ]
    for c, row in zip(found.comparisons, d[1:] - d[0], strict=True):
        assert c.differences == pytest.approx(row)
        assert (c.seeds, c.n, c.difference) == (list(range(8)), 8, pytest.approx(row.mean()))
    assert [c.verdict for c in found.comparisons] == [Verdict.SUPPORTED] * 2
    assert "bn minus none, means over seeds: +0." in " ".join(found.notes)
    assert found.omnibus_p is None  # Friedman's test asks something else


def test_a_refuted_level_forbids_the_whole_to_be_supported() -> None:
    rng = np.random.default_rng(0)
    table = {"none": noisy(rng, [97, 97, 97], 8), "bn": noisy(rng, [98, 97, 99], 8)}
    found = interactions(table, decides=[Decides(at={KEY: "tanh"}, expect=Direction.greater), Decides(at={KEY: "sigmoid"})])
    assert [c.verdict for c in found.comparisons] == [Verdict.REFUTED, Verdict.SUPPORTED]
    assert found.verdict is Verdict.REFUTED


def test_an_interaction_in_words() -> None:
    rng = np.random.default_rng(1)
    table = {"none": noisy(rng, [98, 97], 8, 0.02), "bn": noisy(rng, [98.5, 98.5], 8, 0.02)}
    made = study("none", "bn", analysis=Analysis.interaction, direction="greater")
    found = result(made, grid(table, {"model__activation": ["relu", "tanh"]}))
    assert found.answer.startswith(
        "Yes: the gain in accuracy of bn over none is 0.99 pp [0.96, 1.02] larger at activation=tanh than at activation=relu "
    )
    even = {"none": table["none"], "bn": table["none"] + 0.5 + np.random.default_rng(2).normal(0, 0.02, (2, 8))}
    found = result(replace(made, direction=Direction.equivalent), grid(even, {"model__activation": ["relu", "tanh"]}))
    assert (
        "the gain in accuracy of bn over none is the same at activation=tanh as at activation=relu, within ±0.20 pp"
        in found.answer
    )


def test_several_factors_are_compared_with_their_first_combination() -> None:
    outcomes = [
        outcome(arm, seed, 0.9, model__dropout=p, norm__eps=eps)
        for p in (0.0, 0.5)
        for eps in (1e-5, 0.1)
        for arm in ("none", "bn")
        for seed in range(6)
    ]
    found = result(study("none", "bn", analysis=Analysis.interaction), outcomes)
    assert [c.level for c in found.comparisons] == ["dropout=0.0, eps=0.1", "dropout=0.5, eps=1e-05", "dropout=0.5, eps=0.1"]
    assert {c.reference for c in found.comparisons} == {"dropout=0.0, eps=1e-05"}


@pytest.mark.parametrize("level", ["relu", "tanh"])
def test_a_seed_without_a_result_at_a_level_is_not_compared(level: str) -> None:
    rng = np.random.default_rng(4)
    rows = grid({"none": noisy(rng, [97, 97], 8), "bn": noisy(rng, [98, 99], 8)}, {"model__activation": ["relu", "tanh"]})
    lost = (5, f"activation={level}")
    rows = [replace(o, status=Status.failed, value=None) if (o.seed, o.level) == lost else o for o in rows]
    found = result(study("none", "bn", analysis=Analysis.interaction), rows)
    assert found.comparisons[0].seeds == [0, 1, 2, 3, 4, 6, 7]
    assert any("seed 5" in sentence for sentence in found.unpaired)


UNTRAINED: list[dict[str, Any]] = [{"status": Status.diverged}, {"stuck": "training accuracy 10.0 %"}]


@pytest.mark.parametrize("why", UNTRAINED)
def test_levels_where_neither_run_trained_show_no_interaction(why: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    table = {"none": noisy(rng, [97, 10], 8), "bn": noisy(rng, [98.5, 10], 8)}
    outcomes = [
        replace(o, **why, value=0.1) if o.levels["optim.lr"] == 1.0 else o for o in grid(table, {"optim__lr": [0.1, 1.0]})
    ]
    found = result(study("none", "bn", analysis=Analysis.interaction), outcomes)
    (c,) = found.comparisons
    assert (c.both_untrained, c.verdict) == (8, Verdict.INCONCLUSIVE)
    assert c.reason == "neither run trained at some level with every seed, so nothing was tested"


RATES = [0.01, 0.02, 0.04, 0.08]


def trends(d: np.ndarray, levels: list[object], seed: int = 0, **keys: object) -> StudyResult:
    """``d``: (levels, seeds) differences of bn from none."""
    base = 90 + np.random.default_rng(seed).normal(0, 0.5, d.shape)
    made = study("none", "bn", analysis=Analysis.trend, **keys)  # type: ignore[arg-type]
    return result(made, grid({"none": base, "bn": base + d}, {"optim__lr": levels}), margin=0.3)


def only(found: StudyResult) -> Comparison:
    (c,) = found.comparisons
    return c


def test_a_trend_is_the_mean_slope_an_octave_judged_by_pages_test() -> None:
    from scipy.stats import page_trend_test

    d = noisy(np.random.default_rng(5), [-0.5, 0.0, 0.5, 1.0], 8)
    found = trends(d, RATES[::-1], direction="less")  # given from large to small: ordered by size before it is tested
    c = only(found)
    slopes = [np.polyfit(range(4), row[::-1], 1)[0] for row in d.T]
    assert c.differences == pytest.approx(slopes)
    assert (c.unit, c.test, c.level) == ("pp/doubling", "Page", "")
    assert c.p_test == pytest.approx(2 * page_trend_test(d.T).pvalue)
    assert c.margin == pytest.approx(0.3 / 3)  # spread over three octaves
    assert c.verdict is Verdict.SUPPORTED
    assert (
        "the gain in accuracy of bn over none falls by 0.49 pp [0.46, 0.52] with each doubling of the learning rate"
        in found.answer
    )
    assert "Page's test p < .001" in found.answer
    assert any(note.startswith("bn minus none changes its sign between lr=0.0") for note in found.notes)


def test_a_rising_trend_is_told_over_levels_in_order_of_their_size() -> None:
    d = noisy(np.random.default_rng(7), [-0.5, 0.5, 1.0], 8, 0.02)
    found = trends(d[[1, 2, 0]], [16, 128, 8], direction="greater")
    assert found.answer.startswith("Yes: the gain in accuracy of bn over none grows by 0.")
    assert only(found).differences == pytest.approx([np.polyfit([3, 4, 7], row, 1)[0] for row in d.T])
    assert found.unpaired == []


def test_a_trend_stopped_before_its_last_level_says_that_no_seed_is_whole() -> None:
    rows = grid({"none": np.full((3, 6), 90.0), "bn": np.full((3, 6), 91.0)}, {"optim__lr": [0.1, 0.2, 0.4]})
    rows = [replace(o, status=Status.missing, value=None) if o.levels["optim.lr"] == 0.4 else o for o in rows]
    found = result(study("none", "bn", analysis=Analysis.trend), rows)
    assert found.verdict is Verdict.ESTIMATE
    assert not any("means over seeds" in note for note in found.notes)
    assert "bn against none: seeds 0, 1, 2, 3, 4, 5 without a pair at every level; not compared." in found.unpaired


def test_a_seed_that_trains_in_neither_arm_at_a_level_is_told_of_once() -> None:
    rows = grid({"none": np.full((3, 6), 90.0), "bn": np.full((3, 6), 91.0)}, {"optim__lr": [0.1, 0.2, 0.4]})
    rows = [
        replace(o, status=Status.diverged, value=0.1) if (o.seed, o.levels["optim.lr"]) == (2, 0.4) else o
        for o in rows
        if (o.seed, o.levels["optim.lr"]) != (2, 0.1)
    ]
    found = result(study("none", "bn", analysis=Analysis.trend), rows)
    assert any("neither run trained with seed 2" in sentence for sentence in found.unpaired)
    assert not any("seed 2 without a pair" in sentence for sentence in found.unpaired)


def test_a_trend_against_the_claim_is_refuted_and_a_flat_one_is_equivalent() -> None:
    rng = np.random.default_rng(6)
    assert trends(noisy(rng, [1, 0.7, 0.4, 0.1], 8), RATES, direction="greater").verdict is Verdict.REFUTED
    flat = noisy(rng, [0.5] * 4, 8, 0.02)
    assert trends(flat, RATES, direction="equivalent").verdict is Verdict.SUPPORTED
    assert only(trends(flat, RATES, direction="greater")).verdict is Verdict.REFUTED


def test_a_trend_of_what_has_no_unit_is_one_for_each_doubling() -> None:
    c = only(trends(noisy(np.random.default_rng(9), [0, 1, 2], 6), [1, 2, 4], metric="landscape/beta"))
    assert c.unit == "/doubling"


def test_a_level_without_a_difference_is_no_change_of_sign() -> None:
    rows = grid({"none": np.full((3, 6), 90.0), "bn": np.array([[89.0] * 6, [90.0] * 6, [92.0] * 6])}, {"optim__lr": [1, 2, 4]})
    notes = result(study("none", "bn", analysis=Analysis.trend), rows).notes
    assert [note for note in notes if "changes its sign" in note] == ["bn minus none changes its sign between lr=1 and lr=4."]


def test_levels_that_are_no_positive_numbers_are_steps_in_the_order_given() -> None:
    d = noisy(np.random.default_rng(7), [0, 1, 2], 6)
    for levels in ([0.0, 0.2, 0.5], ["small", "middle", "all"], [1000, 5000, None]):
        c = only(trends(d, levels))
        assert c.unit == "pp/step"
        assert c.difference == pytest.approx((d[2] - d[0]).mean() / 2)


def test_a_seed_without_all_levels_is_listed() -> None:
    d = noisy(np.random.default_rng(8), [0, 1, 2, 3], 7)
    base = np.full(d.shape, 90.0)
    outcomes = grid({"none": base, "bn": base + d}, {"optim__lr": RATES})
    outcomes[3] = replace(outcomes[3], status=Status.failed, value=None)
    found = result(study("none", "bn", analysis=Analysis.trend), outcomes)
    assert only(found).n == 6
    assert "bn against none: seed 3 without a pair at every level; not compared." in found.unpaired


def test_designs_without_enough_levels_are_errors() -> None:
    two = grid({"none": np.full((2, 3), 90.0), "bn": np.full((2, 3), 91.0)}, {"optim__lr": [0.1, 0.2]})
    with pytest.raises(ConfigError, match=r"needs one factor .* with three or more levels, not optim.lr with 2 levels"):
        result(study("none", "bn", analysis=Analysis.trend), two)
    flat = [outcome(arm, 0, 0.9) for arm in ("none", "bn")]
    with pytest.raises(ConfigError, match="needs a factor with at least two levels"):
        result(study("none", "bn", analysis=Analysis.interaction), flat)


@pytest.mark.parametrize("direction", ["greater", "different"])
def test_no_trend_is_found_falsely_in_at_most_5_percent(direction: str) -> None:
    rng = np.random.default_rng(9)
    wrong = sum(
        only(trends(rng.normal(0.5, 1, (4, 8)), RATES, k, direction=direction)).p_adjusted < 0.05 for k in range(FAMILIES)
    )
    assert 0.01 < wrong / FAMILIES <= bound(0.05)


def test_a_clear_trend_is_found_and_its_interval_covers_it() -> None:
    rng = np.random.default_rng(10)
    truth = 0.6
    found = [only(trends(rng.normal(0, 1, (4, 10)) + truth * np.arange(4)[:, None], RATES, k)) for k in range(FAMILIES)]
    assert sum(c.verdict is Verdict.SUPPORTED for c in found) / FAMILIES > 0.8  # a t test of the slopes: .91
    covered = sum(c.low <= truth <= c.high for c in found) / FAMILIES
    assert covered == pytest.approx(0.95, abs=3.5 * math.sqrt(0.05 * 0.95 / FAMILIES))


def test_interactions_of_a_family_are_found_falsely_in_at_most_5_percent() -> None:
    rng = np.random.default_rng(11)
    wrong = 0
    for _ in range(FAMILIES):
        found = interactions({arm: noisy(rng, [90, 80, 70], 8, 1.0) for arm in ("none", "bn")})
        wrong += any(c.p_adjusted < 0.05 for c in found.comparisons)
    assert wrong / FAMILIES <= bound(0.05)


@pytest.mark.parametrize("why", UNTRAINED)
@pytest.mark.parametrize("analysis", [Analysis.interaction, Analysis.trend])
def test_seeds_of_which_neither_run_trained_at_a_level_are_not_compared(analysis: Analysis, why: dict[str, Any]) -> None:
    d = noisy(np.random.default_rng(12), [2, 2, 2, 2], 10)
    outcomes = [
        replace(o, **why, value=0.1) if o.levels["optim.lr"] == RATES[-1] and o.seed < 3 else o
        for o in grid({"none": np.full(d.shape, 90.0), "bn": 90 + d}, {"optim__lr": RATES})
    ]
    found = result(study("none", "bn", analysis=analysis), outcomes)
    assert found.comparisons[-1].seeds == list(range(3, 10))
    assert found.comparisons[-1].p_adjusted > 0.05  # with the zeros of the lost pairs in, the difference would seem to fall
    assert "bn minus none at lr=0.08: neither run trained with seeds 0, 1, 2, so there is no difference to measure" in (
        " ".join(found.unpaired)
    )
