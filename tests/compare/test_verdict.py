"""What a study says: rules of the verdicts, words of the answers, and nothing dropped silently."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_outcomes import SETTINGS, from_values, outcome, result, study
from scipy.stats import bootstrap

from bnexp.compare.result import Comparison, Outcome, Status, StudyResult, Verdict
from bnexp.compare.tables import arm_rows, comparison_rows
from bnexp.compare.verdict import decide
from bnexp.config import ConfigError, StudyConfig
from bnexp.options import Direction

BASE = [98.90, 98.95, 98.85, 99.00, 98.92, 98.88, 98.97, 98.91, 98.93, 98.89]
GAIN = [0.35, 0.25, 0.30, 0.40, 0.28, 0.33, 0.31, 0.27, 0.36, 0.25]  # mean 0.31
NOISE = [0.02, -0.03, 0.01, 0.00, -0.02, 0.03, -0.01, 0.02, -0.02, 0.01]


def pair(gain: list[float]) -> list[Outcome]:
    base = BASE[: len(gain)]
    return from_values({"none": base, "after_pool": [b + g for b, g in zip(base, gain, strict=True)]})


def only(found: StudyResult) -> Comparison:
    assert len(found.comparisons) == 1
    return found.comparisons[0]


def test_a_supported_claim_in_words() -> None:
    found = result(study("none", "after_pool", direction="greater"), pair(GAIN))
    assert found.verdict is Verdict.SUPPORTED
    assert found.answer == (
        "Yes: after_pool is 0.31 pp [0.27, 0.35] more accurate than none on mnist with lr 0.01, epochs 10 "
        "(n = 10 paired seeds, p < .001; larger than the margin of 0.20 pp)."
    )
    c = only(found)
    assert c.reason == "+0.31 pp, larger than the margin of 0.20 pp"
    assert (c.unit, c.n, c.superiority, c.p_sign_flip) == ("pp", 10, 1.0, 2 / 2**10)
    assert c.difference == pytest.approx(0.31)


def test_a_refuted_claim_in_words() -> None:
    found = result(study("none", "after_pool", direction="greater"), pair([-g / 2 for g in GAIN]))
    assert found.verdict is Verdict.REFUTED
    assert found.answer == (
        "No: after_pool is 0.16 pp [0.14, 0.17] less accurate than none on mnist with lr 0.01, epochs 10 (n = 10 paired "
        "seeds, p < .001; against the expected direction; significant but no larger than the margin of 0.20 pp)."
    )


@pytest.mark.parametrize(
    ("direction", "verdict"), [("greater", "REFUTED"), ("different", "EQUIVALENT"), ("equivalent", "EQUIVALENT")]
)
def test_shown_equivalence(direction: str, verdict: str) -> None:
    found = result(study("none", "after_pool", question="What happens?", direction=direction), pair(NOISE))
    assert found.verdict == verdict
    assert found.answer.startswith(
        f"{verdict.capitalize()}: after_pool and none are equivalent in accuracy within ±0.20 pp "
        "(0.00 pp, 90 % interval [−0.01, 0.01])"
    )
    assert only(found).reason == "0.00 pp, within the margin of 0.20 pp (TOST p < .001)"


def test_an_open_question_names_the_pairs_needed() -> None:
    found = result(study("none", "after_pool", direction="greater"), pair([0.9, -0.5, 0.4, 0.1, -0.6, 0.8]))
    assert found.verdict is Verdict.INCONCLUSIVE
    c = only(found)
    assert c.n_needed is not None
    assert c.n_needed > 6
    assert f"about {c.n_needed:,} pairs would give 80 % power at this estimate" in c.reason
    assert found.answer.startswith("Not settled: after_pool differs from none in accuracy by +0.18 pp [−0.")


def test_claimed_equivalence_is_refuted_only_beyond_the_margin() -> None:
    made = study("none", "after_pool", direction="equivalent")
    assert result(made, pair(GAIN), margin=0.2).verdict is Verdict.REFUTED
    inside = result(made, pair(GAIN), margin=0.3)  # significant, but the interval [0.27, 0.35] holds the margin
    assert inside.verdict is Verdict.INCONCLUSIVE
    assert "90 % interval [0.28, 0.34] not inside ±0.30 pp" in only(inside).reason
    assert "no number of pairs would show equivalence" in only(inside).reason


def test_equivalence_lost_to_holms_correction_is_named_as_such() -> None:
    made = study("none", "a", "b", direction="equivalent")
    noisy = [5 * x for x in NOISE]
    table = {"none": BASE, "a": [b + x + 0.13 for b, x in zip(BASE, noisy, strict=True)], "b": [b + 0.3 for b in BASE]}
    first = result(made, from_values(table)).comparisons[0]
    assert first.p_equivalence < 0.05 < first.p_equivalence_adjusted
    assert first.verdict is Verdict.INCONCLUSIVE
    assert "inside ±0.20 pp, but not after Holm's correction" in first.reason


def test_claimed_equivalence_without_a_margin_stays_open() -> None:
    c = only(result(study("none", "after_pool", direction="equivalent", metric="test/loss"), pair(NOISE)))
    assert c.verdict is Verdict.INCONCLUSIVE
    assert c.reason == "0.0000 nats, no margin is set, so equivalence cannot be tested"


@pytest.mark.parametrize("n", [2, 3, 5])
def test_fewer_than_six_pairs_show_an_estimate(n: int) -> None:
    found = result(study("none", "after_pool", direction="greater"), pair(GAIN[:n]))
    assert found.verdict is Verdict.ESTIMATE
    assert found.answer.startswith("Too few seeds for a verdict: after_pool differs from none in accuracy by +0.")
    assert f"n = {n} paired seeds; a verdict needs 6" in found.answer
    assert ("[" in found.answer) == (n > 2)
    assert any(f"With n = {n} the exact sign-flip test cannot go below" in note for note in found.notes)
    assert only(found).n_needed == (None if n == 2 else 6)


def test_small_differences_are_named_as_such() -> None:
    c = only(result(study("none", "after_pool"), pair([g / 4 for g in GAIN])))
    assert c.verdict is Verdict.SUPPORTED
    assert c.reason == "+0.08 pp, significant but no larger than the margin of 0.20 pp"
    c = only(result(study("none", "after_pool"), pair(GAIN), margin=0.3))
    assert c.reason == "+0.31 pp, larger than the margin of 0.30 pp, though the interval reaches below it"


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
        assert c.reason.endswith("the sign-flip check disagrees (p = .062)")
    assert {row["p sign flip"] for row in comparison_rows(found)} == {".062"}
    assert "With n = 6 and 2 comparisons the exact sign-flip test, corrected, cannot go below p = .062." in found.notes


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


def test_equal_results_are_equivalent_not_supported() -> None:
    found = result(study("none", "after_pool"), pair([0.0] * 6))
    c = only(found)
    assert (c.p_t, c.p_sign_flip, c.superiority, c.effect) == (1, 1, 0.5, 0)
    assert found.verdict is Verdict.EQUIVALENT


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


unit = st.floats(0, 1, allow_subnormal=False)
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


def test_expectations_of_single_levels() -> None:
    made = study("no_bias", "bias", expect={"before_activation": Direction.equivalent})
    base = BASE[:8]
    far, near = [b + g for b, g in zip(base, GAIN, strict=False)], [b + g for b, g in zip(base, NOISE, strict=False)]
    outcomes = [
        *from_values({"no_bias": base, "bias": far}, norm="none"),
        *from_values({"no_bias": base, "bias": near}, norm="before_activation"),
    ]
    found = result(made, outcomes)
    assert [(c.level, c.direction, c.verdict) for c in found.comparisons] == [
        ("norm=none", "different", Verdict.SUPPORTED),
        ("norm=before_activation", "equivalent", Verdict.EQUIVALENT),
    ]
    assert found.verdict is Verdict.SUPPORTED  # each level shows its own claim
    assert found.answer == (
        "Supported, bias against no_bias on mnist with lr 0.01, epochs 10: norm=none (+0.31 pp [0.27, 0.35]); "
        "equivalent: norm=before_activation (0.00 pp, 90 % interval [−0.01, 0.02]) "
        "(n = 8 paired seeds; equivalent means within ±0.20 pp)."
    )


def test_a_claim_that_holds_at_some_levels_only() -> None:
    made = study("none", "bn", direction="greater")
    outcomes: list[Outcome] = []
    for k in range(6):
        gain = GAIN if k < 2 else NOISE
        levels = {"optim__lr": 0.01 * 2**k}
        outcomes += from_values({"none": BASE, "bn": [b + g for b, g in zip(BASE, gain, strict=True)]}, **levels)
    found = result(made, outcomes)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.answer == (
        "In part (2 of 6 comparisons), bn against none on mnist with lr 0.01, epochs 10: supported: lr=0.01 (+0.31 pp), "
        "lr=0.02 (+0.31 pp); refuted by equivalence: lr=0.04 (0.00 pp), lr=0.08 (0.00 pp), lr=0.16 (0.00 pp), "
        "lr=0.32 (0.00 pp) (n = 10 paired seeds; equivalent means within ±0.20 pp)."
    )


@settings(deadline=None)
@given(st.integers(2, 6), st.integers(1, 12), st.integers(1, 8), st.booleans())
def test_answers_about_several_comparisons_stay_short(arms: int, levels: int, n: int, baseline: bool) -> None:
    names = [f"arm_number_{k}" for k in range(arms)]
    made = study(*names, **({} if baseline else {"baseline": None}))
    rng = np.random.default_rng(arms * levels * n)
    outcomes: list[Outcome] = []
    for level in range(levels):
        outcomes += from_values({name: list(rng.normal(90, 3, n)) for name in names}, batch_size=2**level)
    found = result(made, outcomes, settings=SETTINGS | {"optim.momentum": "0.9", "train.batch_size": "64"})
    if len(found.comparisons) > 1:
        assert len(found.answer) <= 300
    assert found.answer.count("a verdict needs") == (n < 6)
    assert found.answer.endswith(").")


def test_one_different_pair_answers_whether_arms_differ() -> None:
    made = study("none", "a", "b", baseline=None, question="Where does it belong?")
    table = {"none": BASE, "a": [b + g for b, g in zip(BASE, NOISE, strict=True)], "b": [b + 1 for b in BASE]}
    table["b"][0] += 0.1
    found = result(made, from_values(table))
    assert found.verdict is Verdict.SUPPORTED
    assert found.answer.startswith("Supported on mnist")
    assert ": b against none (+1.01 pp [0.99, 1.03]), b against a (" in found.answer
    assert "; equivalent: a against none (0.00 pp, 90 % interval [" in found.answer


def test_diverged_runs_stay_in_at_chance_and_are_named() -> None:
    outcomes = pair(GAIN)
    outcomes[2] = replace(outcomes[2], status=Status.diverged, value=0.1)
    outcomes[4] = replace(outcomes[4], status=Status.diverged, value=math.nan)  # no metric: chance, as analyse is told
    found = result(study("none", "after_pool", direction="greater"), outcomes)
    none = next(summary for summary in found.arms if summary.arm == "none")
    assert (none.n, none.diverged, none.missing) == (10, 2, 0)
    assert none.mean == pytest.approx((sum(BASE) - BASE[2] - BASE[4] + 20) / 10)
    assert only(found).n == 10
    assert "none: seeds 2, 4 diverged; kept, at chance." in found.notes
    losses = [replace(o, value=None if o.status is Status.diverged else 0.05) for o in outcomes]
    found = result(study("none", "after_pool", metric="test/loss"), losses)
    assert found.arms[0].mean == pytest.approx((8 * 0.05 + 2 * math.log(10)) / 10)


def lost(arms: tuple[str, ...], seeds: int, value: float | None = 0.1, **levels: float) -> list[Outcome]:
    return [outcome(arm, seed, value, Status.diverged, **levels) for arm in arms for seed in range(seeds)]


@pytest.mark.parametrize("direction", ["greater", "different", "equivalent"])
@pytest.mark.parametrize("n", [3, 6, 20])
def test_runs_that_all_diverged_are_no_evidence_of_equivalence(direction: str, n: int) -> None:
    made = study("none", "bn", direction=direction)
    found = result(made, lost(("none", "bn"), n))
    c = only(found)
    assert found.verdict == c.verdict == (Verdict.ESTIMATE if n < 6 else Verdict.INCONCLUSIVE)
    assert c.reason == "every run of both arms diverged, so nothing was tested"
    assert "every run of bn and none diverged, so nothing was tested," in found.answer
    assert all(math.isnan(p) for p in (c.p_t, c.p_sign_flip, c.p_adjusted, c.p_equivalence, c.superiority, c.effect))
    assert (c.n, c.both_diverged, c.difference, c.n_needed) == (n, n, 0, None)
    (row,) = comparison_rows(found)
    assert {row[key] for key in ("95 % interval", "p adjusted", "p sign flip", "wins", "n needed")} == {"–"}
    assert not any("sign-flip" in note for note in found.notes)
    third = result(study("none", "bn", "gn", direction=direction), lost(("none", "bn", "gn"), n))
    assert third.omnibus_p is None
    assert "every run of all 2 comparisons diverged, so nothing was tested" in third.answer


def test_a_level_where_every_run_diverged_does_not_join_the_family() -> None:
    made = study("none", "after_pool", direction="greater")
    fine = [replace(o, level="lr=0.1", levels={"lr": 0.1}) for o in pair(GAIN)]
    found = result(made, [*fine, *lost(("none", "after_pool"), 10, lr=9.0)])
    assert [c.verdict for c in found.comparisons] == [Verdict.SUPPORTED, Verdict.INCONCLUSIVE]
    assert found.comparisons[0].p_adjusted == found.comparisons[0].p_t
    assert "supported: lr=0.1 (+0.31 pp [0.27, 0.35]); every run diverged: lr=9.0 (n = 10 paired seeds)." in found.answer


@pytest.mark.parametrize("direction", ["greater", "different", "equivalent"])
def test_pairs_of_which_both_runs_diverged_weaken_but_never_show_equivalence(direction: str) -> None:
    made = study("none", "after_pool", direction=direction)
    outcomes = [replace(o, status=Status.diverged, value=0.1) if o.seed == 0 else o for o in pair(NOISE)]
    c = only(result(made, outcomes))
    assert (c.both_diverged, c.verdict) == (1, Verdict.INCONCLUSIVE)
    assert math.isnan(c.p_equivalence)
    assert "both runs diverged in 1 of 10 pairs, so equivalence is not tested" in c.reason
    strong = [g + 0.7 for g in GAIN]
    for count, verdict in ((4, Verdict.SUPPORTED), (5, Verdict.INCONCLUSIVE)):
        outcomes = [replace(o, status=Status.diverged, value=0.1) if o.seed < count else o for o in pair(strong)]
        c = only(result(study("none", "after_pool", direction="greater"), outcomes))
        assert (c.n, c.verdict) == (10, verdict)
    assert c.reason.endswith("both runs diverged in 5 of 10 pairs, and a verdict needs 6 others")


def test_missing_failed_and_lonely_runs_are_listed() -> None:
    outcomes = pair(GAIN)
    outcomes[0] = replace(outcomes[0], status=Status.missing, value=None)
    outcomes[3] = replace(outcomes[3], status=Status.missing, value=None)
    outcomes[11] = replace(outcomes[11], status=Status.failed, value=None)
    outcomes.append(outcome("none", 99, 0.5))
    outcomes.append(replace(outcomes[5], run_id="again"))
    found = result(study("none", "after_pool", direction="greater"), outcomes)
    assert found.unpaired == [
        "none: seeds 0, 3 not run yet.",
        "after_pool: seed 1 failed.",
        "none: seed 99 without a partner in after_pool.",
        "none: seed 5 recorded more than once; only the first run is used. Group by what differs between them.",
    ]
    assert only(found).n == 7
    assert [(s.arm, s.n, s.missing) for s in found.arms] == [("none", 9, 2), ("after_pool", 9, 1)]
    assert len(found.outcomes) == len(outcomes)


def test_a_study_without_any_result_still_answers() -> None:
    nothing = [outcome(arm, seed, None, Status.missing) for arm in ("none", "bn") for seed in range(3)]
    found = result(study("none", "bn"), nothing)
    assert found.verdict is Verdict.ESTIMATE
    assert only(found).reason == "no seed has a result in both arms"
    assert found.answer == "No run has a result yet."
    lonely = [*nothing, outcome("none", 7, 0.9), outcome("bn", 8, 0.9)]
    assert "bn and none share no seed with a result" in result(study("none", "bn"), lonely).answer
    assert json.dumps(found.to_dict(), allow_nan=False)
    assert result(study("none"), []).answer == "Nothing to compare: the study has fewer than two arms."


def test_losses_are_in_nats_and_need_a_margin_of_their_own() -> None:
    outcomes = [replace(o, value=1 - (o.value or 0)) for o in pair(GAIN)]
    found = result(study("none", "after_pool", direction="less", metric="test/loss"), outcomes)
    c = only(found)
    assert (c.unit, c.verdict) == ("nats", Verdict.SUPPORTED)
    assert c.difference == pytest.approx(-0.0031)
    assert math.isnan(c.margin)
    assert "test/loss of after_pool is 0.0031 nats [0.0027, 0.0035] lower than of none" in found.answer
    assert "No margin is set for test/loss, so equivalence is not tested; set study.margin (nats)." in found.notes
    assert only(result(study("none", "after_pool", metric="test/loss", margin=0.01), outcomes)).margin == 0.01


def test_the_test_sets_own_error_is_named() -> None:
    found = result(study("none", "after_pool"), pair(GAIN), num_test=10_000)
    assert any("The 10,000 test images alone give one accuracy a standard error of 0.10 pp." in note for note in found.notes)


def test_yes_and_no_are_kept_for_questions_that_ask_for_the_claim() -> None:
    for keys in ({"direction": "different"}, {"direction": "greater", "question": "Where is it best?"}):
        assert result(study("none", "after_pool", **keys), pair(GAIN)).answer.startswith("Supported: ")


def test_an_unknown_baseline_is_an_error() -> None:
    with pytest.raises(
        ConfigError, match=r"study.baseline=nome is no arm: allowed is none, bn, after_pool or null. Did you mean none\?"
    ):
        result(study("none", "bn", baseline="nome"), pair(GAIN))


def test_results_survive_json() -> None:
    outcomes = pair(GAIN[:3])
    outcomes[1] = replace(outcomes[1], status=Status.failed, value=None)
    found = result(study("none", "after_pool", metric="test/loss", factors={"optim.lr": [0.1]}), outcomes)
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    back = StudyResult.from_dict(data)
    assert repr(back) == repr(found)
    assert back.outcomes == found.outcomes
    assert isinstance(back.comparisons[0].verdict, Verdict)
    assert isinstance(back.outcomes[1].status, Status)
    assert math.isnan(back.margin)


def test_table_rows_are_text_with_equal_keys() -> None:
    found = result(study("none", "after_pool", direction="greater"), pair(GAIN))
    assert arm_rows(found)[0] == {
        "arm": "none",
        "n": "10",
        "test/accuracy (pp)": "98.92",
        "95 % interval": "[98.89, 98.95]",
        "sd": "0.04",
        "diverged": "0",
        "missing": "0",
    }
    (row,) = comparison_rows(found)
    expected = {"difference": "+0.31 pp", "95 % interval": "[0.27, 0.35]", "p adjusted": "< .001", "wins": "100 %"}
    assert expected.items() <= row.items()
    assert row["verdict"] == "SUPPORTED"
    leveled = result(study("none", "after_pool"), from_values({"none": BASE[:1], "after_pool": BASE[:1]}, lr=0.1))
    (row,) = comparison_rows(leveled)
    assert row["level"] == "lr=0.1"
    assert row["95 % interval"] == "–"
    assert row["d_z"] == "–"


@given(unit, unit, unit, st.sampled_from(list(Direction)), st.integers(0, 20))
def test_verdicts_follow_the_evidence(p: float, equivalence: float, beyond: float, direction: Direction, n: int) -> None:
    template = only(result(study("none", "after_pool"), pair(GAIN)))
    c = replace(template, p_adjusted=p, p_equivalence_adjusted=equivalence, direction=direction.value, n=n, difference=0.3)
    verdict = decide(c, beyond)
    assert (verdict is Verdict.ESTIMATE) == (n < 6)
    if n >= 6 and min(p, equivalence, beyond) >= 0.05:
        assert verdict is Verdict.INCONCLUSIVE
    if verdict is Verdict.SUPPORTED:
        assert p < 0.05
        assert direction in (Direction.greater, Direction.different)
    if verdict is Verdict.EQUIVALENT:
        assert equivalence < 0.05
        assert direction in (Direction.equivalent, Direction.different)


def test_comparing_imports_neither_torch_nor_wandb() -> None:
    code = (
        "import importlib, pkgutil, sys, bnexp.compare as c\n"
        "[importlib.import_module(f'bnexp.compare.{m.name}') for m in pkgutil.iter_modules(c.__path__)]\n"
        "print([m for m in ('torch', 'torchvision', 'wandb', 'polars', 'hydra', 'scipy.stats') if m in sys.modules])"
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


def test_what_a_probe_measures_has_no_chance_value() -> None:
    outcomes = [replace(o, value=None, status=Status.diverged) if o.seed == 0 else o for o in pair(GAIN)]
    found = result(study("none", "after_pool", metric="landscape/loss_range"), outcomes)
    assert only(found).n == 9
    assert "none: seed 0 diverged without a finite value of the metric." in found.unpaired


def test_the_bootstrap_interval_is_scipys() -> None:
    c = only(result(study("none", "after_pool"), pair(GAIN)))
    expected = bootstrap((GAIN,), np.mean, n_resamples=50_000, method="BCa", random_state=1).confidence_interval
    assert (c.low_bca, c.high_bca) == pytest.approx((expected.low, expected.high), abs=0.004)
    assert math.isnan(only(result(study("none", "after_pool"), pair([0.3] * 6))).low_bca)


def test_the_noise_floor_compares_seeds_of_the_baseline() -> None:
    made = study("none", "after_pool", noise_floor=True)
    (note,) = [n for n in result(made, pair(GAIN)).notes if n.startswith("Noise floor")]
    sd = math.sqrt(2) * np.std(BASE, ddof=1)
    assert note.startswith("Noise floor of none: 5 of its seeds against 5 others differ by ")
    assert note.endswith(f"; two seeds by {sd:.2f} pp (standard deviation).")
    assert not any("Noise floor" in n for n in result(study("none", "after_pool"), pair(GAIN)).notes)
