"""The rules of the verdicts."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_outcomes import BASE, GAIN, NOISE, from_values, only, pair, result, study
from scipy.stats import bootstrap, friedmanchisquare, ttest_1samp

from bnexp.comparison import stats
from bnexp.comparison.looks import FIRST, Look
from bnexp.comparison.power import pairs_needed, pairs_needed_equivalence
from bnexp.comparison.result import Verdict
from bnexp.comparison.sequential import Rule, seeds_needed
from bnexp.comparison.tables import comparison_rows
from bnexp.config.schema import ConfigError, StudyConfig


@pytest.mark.parametrize(
    ("direction", "verdict", "of_study"),
    [("greater", "REFUTED", "REFUTED"), ("different", "EQUIVALENT", "REFUTED"), ("equivalent", "EQUIVALENT", "SUPPORTED")],
)
def test_shown_equivalence(direction: str, verdict: str, of_study: str) -> None:
    found = result(study("none", "after_pool", question="What happens?", direction=direction), pair(NOISE))
    assert (only(found).verdict, found.verdict) == (verdict, of_study)
    assert found.answer.startswith(
        f"{of_study.capitalize()}: after_pool and none are equally accurate within ±0.20 pp "
        "(difference 0.00 pp, 90 % interval [−0.01, 0.01])"
    )
    assert found.answer.endswith(" (n = 10 paired seeds, TOST p < .001).")
    assert only(found).reason == "0.00 pp, within the margin of 0.20 pp (TOST p < .001)"


def test_claimed_equivalence_is_refuted_only_beyond_the_margin() -> None:
    made = study("none", "after_pool", direction="equivalent")
    assert result(made, pair(GAIN), margin=0.2).verdict is Verdict.REFUTED
    inside = result(made, pair(GAIN), margin=0.3)  # significant, but the interval [0.27, 0.35] holds the margin
    assert inside.verdict is Verdict.INCONCLUSIVE
    assert "90 % interval [0.28, 0.34] is not inside ±0.30 pp" in only(inside).reason
    assert "no number of pairs would show equivalence" in only(inside).reason


def test_equivalence_lost_to_holms_correction_is_named_as_such() -> None:
    made = study("none", "a", "b", direction="equivalent")
    noisy = [5 * x for x in NOISE]
    table = {
        "none": BASE,
        "a": [b + x + 0.13 for b, x in zip(BASE, noisy, strict=True)],
        "b": [b + 0.3 + x for b, x in zip(BASE, noisy, strict=True)],
    }
    first = result(made, from_values(table)).comparisons[0]
    assert first.p_equivalence < 0.05 < first.p_equivalence_adjusted
    assert first.verdict is Verdict.INCONCLUSIVE
    assert "inside ±0.20 pp, but not after Holm's correction" in first.reason


def test_the_pairs_that_equivalence_needs_follow_from_the_sample_standard_deviation() -> None:
    gain = [0.30, -0.20, 0.10, -0.10, 0.25, -0.15]
    c = only(result(study("none", "after_pool", direction="equivalent"), pair(gain)))
    assert c.verdict is Verdict.INCONCLUSIVE
    assert c.n_needed == pairs_needed_equivalence(c.difference, statistics.stdev(gain), 0.2)
    assert c.n_needed != pairs_needed_equivalence(c.difference, statistics.pstdev(gain), 0.2)


def test_the_pairs_that_a_family_needs_pay_for_its_correction() -> None:
    wide = [0.9, -0.5, 0.4, 0.1, -0.6, 0.8, 0.3, -0.2]
    table = {"none": BASE[:8]} | {arm: [b + g for b, g in zip(BASE, wide, strict=False)] for arm in ("a", "b")}
    for c in result(study("none", "a", "b"), from_values(table)).comparisons:
        assert c.n_needed == pairs_needed(c.effect, alpha=0.05 / 2)
        assert c.n_needed != pairs_needed(c.effect)


def test_claimed_equivalence_without_a_margin_stays_open() -> None:
    c = only(result(study("none", "after_pool", direction="equivalent", metric="test/loss"), pair(NOISE)))
    assert c.verdict is Verdict.INCONCLUSIVE
    assert c.reason == "0.0000 nats, no margin is set, so equivalence cannot be tested"


@pytest.mark.parametrize("n", [2, 3, 5])
def test_fewer_than_six_pairs_show_an_estimate(n: int) -> None:
    found = result(study("none", "after_pool", direction="greater"), pair(GAIN[:n]))
    assert found.verdict is Verdict.ESTIMATE
    assert found.answer.startswith("Too few seeds for a verdict: after_pool is 0.")
    assert f"n = {n} paired seeds, and a verdict needs 6" in found.answer
    assert ("[" in found.answer) == (n > 2)
    assert any(f"With n = {n} the exact sign-flip test cannot go below" in note for note in found.notes)
    assert only(found).n_needed == (None if n == 2 else 6)


@pytest.mark.parametrize(("n", "floor"), [(6, ".031"), (7, ".016"), (8, None)])
def test_the_smallest_p_of_the_sign_flip_test_is_named_while_it_is_close_to_what_a_verdict_needs(n: int, floor: str) -> None:
    notes = [note for note in result(study("none", "after_pool"), pair(GAIN[:n])).notes if "sign-flip test" in note]
    role = "It is only a check: the verdict rests on the paired t test."
    assert notes == ([f"With n = {n} the exact sign-flip test cannot go below p = {floor}. {role}"] if floor else [])


def test_a_t_test_without_the_sign_flip_test_is_flagged() -> None:
    c = only(result(study("none", "after_pool"), pair([0.30, 0.31, 0.29, 0.30, 0.32, -0.05])))
    assert c.p_adjusted < 0.05 < c.p_sign_flip
    assert c.reason.endswith("the sign-flip check disagrees (p = .062)")


def test_the_sign_flip_check_is_corrected_as_the_t_test_is() -> None:
    made = study("none", "a", "b")
    base, gain = BASE[:6], GAIN[:6]
    table = {
        "none": base,
        "a": [b + g for b, g in zip(base, gain, strict=True)],
        "b": [b + 2 * g for b, g in zip(base, gain, strict=True)],
    }
    found = result(made, from_values(table))
    for c in found.comparisons:
        assert (c.verdict, c.p_sign_flip, c.p_sign_flip_adjusted) == (Verdict.SUPPORTED, 2 / 2**6, 4 / 2**6)
        assert "disagrees" not in c.reason  # all six differences have one sign: no six pairs can say more
    assert {row["p sign flip"] for row in comparison_rows(found)} == {".062"}
    floor = "With n = 6 and 2 comparisons the exact sign-flip test, corrected, cannot go below p = .062."
    assert f"{floor} It is only a check: the verdict rests on the paired t test." in found.notes


def test_equal_differences_rest_on_the_sign_flip_test() -> None:
    found = result(study("none", "after_pool", direction="greater"), pair([0.3] * 6))
    c = only(found)
    assert math.isnan(c.p_t)
    assert c.p_adjusted == c.p_sign_flip == 2 / 2**6
    assert c.verdict is Verdict.SUPPORTED
    assert any("all 6 differences in test/accuracy are the same" in note for note in found.notes)
    family = study("none", "after_pool", "copy", direction="greater")
    outcomes = pair([0.3] * 6) + [replace(o, arm="copy", run_id=f"copy{o.seed}") for o in pair([0.3] * 6) if o.arm != "none"]
    for comparison in result(family, outcomes).comparisons:  # two tests of 2 / 2**6 each no longer reach .05
        assert comparison.verdict is Verdict.INCONCLUSIVE
        assert comparison.n_needed is None
    for row in comparison_rows(found):
        assert (row["95 % interval"], row["n needed"]) == ("–", "–")
    assert "[" not in found.answer


def test_equal_results_are_no_evidence_of_equivalence() -> None:
    found = result(study("none", "after_pool"), pair([0.0] * 6))
    c = only(found)
    assert (c.p_t, c.p_sign_flip, c.superiority, c.effect) == (1, 1, 0.5, 0)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert c.reason == "0.00 pp, p = 1.00, no clear difference; all differences are the same, so equivalence is not tested"
    assert "equivalent" not in found.answer
    assert found.answer.startswith("Not settled: after_pool is on average as accurate as none (difference 0.00 pp) on")
    assert "less" not in found.answer


def test_families_are_corrected() -> None:
    made = study("none", "a", "b", baseline=None)
    rng = np.random.default_rng(0)
    table = {arm: list(98 + rng.normal(shift, 0.2, 8)) for arm, shift in (("none", 0), ("a", 0.6), ("b", 0.3))}
    found = result(made, from_values(table))
    assert [(c.arm, c.baseline) for c in found.comparisons] == [("a", "none"), ("b", "none"), ("b", "a")]
    raw = sorted(found.comparisons, key=lambda c: c.p_t)
    assert raw[0].p_adjusted == pytest.approx(3 * raw[0].p_t)
    assert raw[1].p_adjusted == pytest.approx(max(3 * raw[0].p_t, 2 * raw[1].p_t))
    smallest = min(found.comparisons, key=lambda c: c.p_equivalence)
    assert smallest.p_equivalence_adjusted == pytest.approx(min(1, 3 * smallest.p_equivalence))
    assert found.omnibus_p is not None
    assert 0 < found.omnibus_p < 1


@pytest.mark.parametrize(("seeds", "tested"), [(5, False), (6, True)])
def test_all_arms_at_once_are_tested_from_six_seeds_on(seeds: int, tested: bool) -> None:
    table = {arm: list(np.add(BASE[:seeds], shift * np.array(GAIN[:seeds]))) for shift, arm in enumerate(("none", "a", "b"))}
    omnibus = result(study("none", "a", "b"), from_values(table)).omnibus_p
    assert omnibus == (pytest.approx(friedmanchisquare(*table.values()).pvalue) if tested else None)


rows = st.lists(st.tuples(st.integers(9500, 9600), st.integers(9500, 9600)), min_size=2, max_size=9)


@given(rows, st.sampled_from(["greater", "less", "different", "equivalent"]))
def test_swapping_the_arms_mirrors_everything(table: list[tuple[int, int]], direction: str) -> None:
    mirrored = {"greater": "less", "less": "greater"}.get(direction, direction)
    outcomes = from_values({"a": [x / 100 for x, _ in table], "b": [y / 100 for _, y in table]})
    one = only(result(study("a", "b", direction=direction), outcomes))
    other = only(result(study("a", "b", baseline="b", direction=mirrored), outcomes))
    assert one.verdict is other.verdict
    assert (one.n, one.n_needed) == (other.n, other.n_needed)
    same = ("p_t", "p_sign_flip", "p_adjusted", "p_equivalence", "p_equivalence_adjusted")
    for name, sign in [*((name, 1) for name in same), ("difference", -1), ("effect", -1)]:
        assert getattr(one, name) == pytest.approx(sign * getattr(other, name), nan_ok=True, abs=1e-9)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), nan_ok=True)
    assert one.superiority == pytest.approx(1 - other.superiority)
    assert (one.superiority_low, one.superiority_high) == pytest.approx((1 - other.superiority_high, 1 - other.superiority_low))


def test_an_unknown_baseline_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"study.baseline=nome is no arm: allowed is none, bn or null. Did you mean none\?"):
        result(study("none", "bn", baseline="nome"), pair(GAIN))


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("[m.name for m in pkgutil.iter_modules(c.__path__)]", ("torch", "torchvision", "wandb", "hydra", "scipy.stats")),
        ("['conclude', 'analyses', 'record']", ("polars",)),  # what a study needs has no tables of runs
    ],
)
def test_comparing_imports_nothing_heavy(modules: str, heavy: tuple[str, ...]) -> None:
    code = (
        "import importlib, pkgutil, sys, bnexp.comparison as c\n"
        f"[importlib.import_module(f'bnexp.comparison.{{name}}') for name in {modules}]\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_studies_are_recorded_as_plain_values() -> None:
    made: StudyConfig = study("none", "after_pool", direction="greater")
    assert result(made, pair(GAIN)).study["direction"] == "greater"


def test_arms_may_be_readings_of_the_same_runs() -> None:
    made = study("running", "precise", metric="statistics/running", metrics={"precise": "statistics/precise"})
    found = result(made, from_values({"running": BASE, "precise": [b + g for b, g in zip(BASE, GAIN, strict=True)]}))
    assert (found.metric, found.unit, only(found).measure) == ("accuracy", "pp", "accuracy")
    assert "precise is 0.31 pp [0.27, 0.35] more accurate than running" in found.answer
    mixed = study("running", "precise", metric="statistics/running", metrics={"precise": "test/loss"})
    with pytest.raises(ConfigError, match=r"different units: statistics/running \(pp\), test/loss \(nats\)"):
        result(mixed, pair(GAIN))


def test_the_bootstrap_interval_is_scipys() -> None:
    c = only(result(study("none", "after_pool"), pair(GAIN)))
    expected = bootstrap((GAIN,), np.mean, n_resamples=50_000, method="BCa", random_state=1).confidence_interval
    assert (c.low_bca, c.high_bca) == pytest.approx((expected.low, expected.high), abs=0.004)
    assert math.isnan(only(result(study("none", "after_pool"), pair([0.3] * 6))).low_bca)


@pytest.mark.parametrize(("num_seeds", "tested"), [(5, False), (6, True)])
def test_three_arms_are_tested_together_from_six_seeds_on(num_seeds: int, tested: bool) -> None:
    table = {
        "none": BASE,
        "a": [b + g for b, g in zip(BASE, GAIN, strict=True)],
        "b": [b + n for b, n in zip(BASE, NOISE, strict=True)],
    }
    found = result(study("none", "a", "b"), from_values({arm: row[:num_seeds] for arm, row in table.items()}))
    assert (found.omnibus_p is not None) == tested


def test_equivalence_that_cannot_be_tested_promises_no_number_of_seeds() -> None:
    made = study("none", "bn", direction="equivalent")
    same = from_values({"none": BASE[:6], "bn": [b + 0.01 for b in BASE[:6]]})
    for look in (FIRST, Look(Rule.again())):
        c = only(result(made, same, look=look))
        assert c.n_needed is None
        assert c.reason == "+0.01 pp, all differences are the same, so equivalence is not tested"


def test_the_noise_floor_compares_seeds_of_the_baseline() -> None:
    made = study("none", "after_pool", noise_floor=True)
    (note,) = [n for n in result(made, pair(GAIN)).notes if n.startswith("Noise floor")]
    sd = math.sqrt(2) * np.std(BASE, ddof=1)
    assert note.startswith("Noise floor of none: 5 of its seeds against 5 others differ by ")
    assert note.endswith(f"; two seeds by {sd:.2f} pp (standard deviation).")
    assert not any("Noise floor" in n for n in result(study("none", "after_pool"), pair(GAIN)).notes)


def test_the_p_beside_a_verdict_is_the_one_that_it_rests_on() -> None:
    def row(gain: list[float], direction: str) -> dict[str, str]:
        return comparison_rows(result(study("none", "after_pool", direction=direction), pair(gain)))[0]

    equal, apart = only(result(study("none", "after_pool"), pair(NOISE))), only(result(study("none", "after_pool"), pair(GAIN)))
    assert equal.p_adjusted > 0.5
    assert (equal.p_verdict, apart.p_verdict) == (equal.p_equivalence_adjusted, apart.p_adjusted)
    assert row(NOISE, "different")["p adjusted"] == row(NOISE, "equivalent")["p adjusted"] == "< .001"
    refuted = only(result(study("none", "after_pool", direction="equivalent"), pair(GAIN)))
    assert refuted.verdict is Verdict.REFUTED
    assert refuted.p_verdict == refuted.p_beyond_adjusted < 0.001
    open_one = only(result(study("none", "after_pool", direction="equivalent"), pair(GAIN), margin=0.3))
    assert open_one.p_verdict == open_one.p_equivalence_adjusted > 0.05


@pytest.mark.parametrize("rule", [Rule.declared(20), Rule.again()])
def test_a_further_look_judges_difference_and_equivalence_by_its_own_rule(rule: Rule) -> None:
    c = only(result(study("none", "after_pool"), pair(NOISE), look=Look(rule)))
    assert (c.p_test, c.p_equivalence) == (rule.p(c.differences), rule.p_equivalence(c.differences, 0.2))
    assert c.p_equivalence != pytest.approx(stats.equivalence(c.differences, 0.2), rel=0.01)
    assert (c.low, c.high) == tuple(rule.interval(c.differences, 0.95))[1:]
    claimed = only(result(study("none", "after_pool", direction="equivalent"), pair(GAIN), look=Look(rule)))
    assert claimed.p_beyond_adjusted == rule.p_beyond(claimed.differences, 0.2)


def test_the_spread_of_an_arm_is_that_of_a_sample() -> None:
    summary = result(study("none", "after_pool"), pair(GAIN)).arms[0]
    assert summary.sd == pytest.approx(np.std(BASE, ddof=1))
    assert math.isnan(result(study("none", "after_pool"), pair(GAIN[:1])).arms[0].sd)


def test_seeds_needed_after_a_further_look_are_those_of_what_is_claimed() -> None:
    rule, wide = Rule.again(), [20 * x for x in NOISE]
    claimed = only(result(study("none", "after_pool", direction="equivalent"), pair(wide), look=Look(rule)))
    assert claimed.verdict is Verdict.INCONCLUSIVE
    assert claimed.n_needed == seeds_needed(claimed.differences, rule, 0.2, 0.01)
    assert claimed.n_needed != seeds_needed(claimed.differences, rule, None, 0.01)


def _gains(mean: float, sd: float, n: int) -> list[float]:
    """Gains in pp of exactly this mean and standard deviation."""
    raw = np.linspace(-1, 1, n)
    return list(mean + sd * (raw - raw.mean()) / raw.std(ddof=1))


def test_at_least_as_much_needs_no_upper_margin() -> None:
    gains = _gains(0.13, 0.35, 10)  # neither above 0 nor inside ±0.2, but surely above -0.2
    found = result(study("none", "after_pool", direction="at_least"), pair(gains))
    c = only(found)
    low, high = (ttest_1samp(c.differences, edge, alternative=side).pvalue for edge, side in ((-0.2, "greater"), (0.2, "less")))
    assert c.p_equivalence == pytest.approx(low)
    assert low < 0.05 < high
    assert found.verdict is Verdict.SUPPORTED
    assert found.answer.startswith(
        "Yes: after_pool is at most 0.20 pp less accurate than none (difference +0.13 pp, 90 % interval"
    )
    assert "one-sided t test p" in found.answer
    watched = only(result(study("none", "after_pool", direction="at_least"), pair(gains[::-1]), look=Look(Rule.declared(40))))
    assert watched.p_equivalence == pytest.approx(Rule.declared(40).p_not_below(watched.differences, 0.2))
    assert watched.p_equivalence < Rule.declared(40).p_equivalence(watched.differences, 0.2)


def test_seeds_that_at_least_as_much_needs_are_those_of_a_test_against_the_lower_margin() -> None:
    c = only(result(study("none", "after_pool", direction="at_least"), pair(_gains(0.0, 0.5, 10))))
    assert c.verdict is Verdict.INCONCLUSIVE
    assert c.reason.endswith("pairs for 80 % power at this estimate")
    assert c.n_needed is not None
    away = np.array(c.differences) + 0.2
    assert c.n_needed == pairs_needed(stats.hedges_dz(away), alpha=0.1) < (pairs_needed_equivalence(0, 0.5, 0.2) or 0)
    assert "90 % interval" in c.reason
    assert "is not above −0.20 pp" in c.reason
