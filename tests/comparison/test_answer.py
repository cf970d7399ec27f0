"""What a study says in words: the answer, its tables and its notes."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from made_outcomes import BASE, GAIN, NOISE, SETTINGS, from_values, only, outcome, pair, result, study

from bnexp.comparison.looks import FIRST, Look
from bnexp.comparison.result import Outcome, Status, StudyResult, Test, Verdict
from bnexp.comparison.sequential import Rule, seeds_needed
from bnexp.comparison.tables import arm_rows, comparison_rows, decided_and_measured
from bnexp.comparison.text import RATIO, effect, number, p_equals, p_text, quantity, times
from bnexp.comparison.text import SETTINGS as LABELS
from bnexp.comparison.words import FACTORS, MEASURES, at, factor_name, measure_name, settings_text
from bnexp.config.keys import PROBE_METRICS, SPLITS, schema_keys
from bnexp.config.options import Analysis, Direction
from bnexp.config.schema import Decides


def test_a_supported_claim_in_words() -> None:
    found = result(study("none", "after_pool", direction="greater"), pair(GAIN))
    assert found.verdict is Verdict.SUPPORTED
    assert found.answer == (
        "Yes: after_pool is 0.31 pp [0.27, 0.35] more accurate than none on mnist with learning rate 0.01, 10 epochs "
        "(n = 10 paired seeds, paired t test p < .001; larger than the margin of 0.20 pp)."
    )
    c = only(found)
    assert c.reason == "+0.31 pp, larger than the margin of 0.20 pp"
    assert (c.unit, c.n, c.superiority, c.p_sign_flip) == ("pp", 10, 1.0, 2 / 2**10)
    assert c.difference == pytest.approx(0.31)


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0009, "< .001"), (0.001, ".001"), (0.0494, ".049"), (0.0496, "< .05"), (0.05, ".050"), (0.099, ".099"), (0.1, ".10")],
)
def test_no_p_below_5_percent_is_shown_as_5_percent(p: float, text: str) -> None:
    assert (p_text(p), p_equals(p)) == (text, f"p {text}" if "<" in text else f"p = {text}")


def test_a_refuted_claim_in_words() -> None:
    found = result(study("none", "after_pool", direction="greater"), pair([-g / 2 for g in GAIN]))
    assert found.verdict is Verdict.REFUTED
    assert found.answer == (
        "No: after_pool is 0.16 pp [0.14, 0.17] less accurate than none on mnist with learning rate 0.01, 10 epochs (n = 10 "
        "paired seeds, paired t test p < .001; against the expected direction; significant but no larger than the margin of "
        "0.20 pp)."
    )


def test_an_open_question_names_the_pairs_needed() -> None:
    found = result(study("none", "after_pool", direction="greater"), pair([0.9, -0.5, 0.4, 0.1, -0.6, 0.8]))
    assert found.verdict is Verdict.INCONCLUSIVE
    c = only(found)
    assert c.n_needed is not None
    assert c.n_needed > 6
    assert f"a new study would need about {c.n_needed:,} pairs for 80 % power at this estimate" in c.reason
    assert found.answer.startswith("Not settled: after_pool is 0.18 pp [−0.")
    assert found.answer.endswith("(n = 6 paired seeds, paired t test p = .51: no clear difference).")


def test_small_differences_are_named_as_such() -> None:
    c = only(result(study("none", "after_pool"), pair([g / 4 for g in GAIN])))
    assert c.verdict is Verdict.SUPPORTED
    assert c.reason == "+0.08 pp, significant but no larger than the margin of 0.20 pp"
    c = only(result(study("none", "after_pool"), pair(GAIN), margin=0.3))
    assert c.reason == "+0.31 pp, larger than the margin of 0.30 pp, though the interval reaches below it"


def two_parts(at_none: list[float], before: list[float], look: Look = FIRST) -> StudyResult:
    """A claim of two parts: bias matters without norm, and does not before the activation."""
    parts = [Decides(at={"norm": "none"}), Decides(at={"norm": "before_activation"}, expect=Direction.equivalent)]
    levels = {"norm": ["none", "before_activation", "after_pool"]}
    made = study("no_bias", "bias", question="Is it redundant there, and only there?", factors=levels, decides=parts)
    outcomes: list[Outcome] = []
    for level, gain in (("none", at_none), ("before_activation", before), ("after_pool", [50.0] * 8)):
        far = [b + g for b, g in zip(BASE, gain, strict=False)]
        outcomes += from_values({"no_bias": BASE[:8], "bias": far[:8]}, norm=level)
    return result(made, outcomes, look=look)


def test_a_look_changes_nothing_of_what_is_also_measured() -> None:
    first, again = (two_parts(GAIN, NOISE, look).comparisons for look in (FIRST, Look(Rule.again())))
    assert again[0].test is Test.anytime_t
    assert again[0].low < first[0].low
    assert (again[2].test, again[2].narrow_level, again[2].p_test) == (first[2].test, 90, first[2].p_test)


def test_a_claim_of_two_parts_tells_both() -> None:
    found = two_parts(GAIN, NOISE)
    assert [(c.level, c.direction, c.verdict, c.decides) for c in found.comparisons] == [
        ("norm=none", "different", Verdict.SUPPORTED, True),
        ("norm=before_activation", "equivalent", Verdict.EQUIVALENT, True),
        ("norm=after_pool", "different", None, False),
    ]
    assert found.verdict is Verdict.SUPPORTED  # each part shows its own claim; the third level has no weight
    assert found.answer == (
        "Yes: bias is 0.31 pp [0.27, 0.35] more accurate than no_bias at norm=none on mnist with learning rate 0.01, 10 epochs "
        "(n = 8 paired seeds, paired t test p < .001, corrected for 2 comparisons; larger than the margin of 0.20 pp); bias "
        "and no_bias are equally accurate within ±0.20 pp at norm=before_activation (difference 0.00 pp, 90 % interval "
        "[−0.01, 0.02])."
    )
    assert found.lead is found.comparisons[0]
    assert found.remedy is None


def test_an_answer_starts_with_a_comparison_that_shows_the_claim() -> None:
    """Differences that are all the same stand out of their spread as nothing else does, but six of them show nothing here."""
    base, wide = BASE[:6], [0.9, -0.8, 0.7, -0.6, 0.5, -0.4]
    table = {"none": base, "a": [b + 0.01 for b in base], "b": [b + 10 * g for b, g in zip(base, GAIN, strict=False)]}
    table["c"] = [b + w for b, w in zip(base, wide, strict=True)]
    found = result(study("none", "a", "b", "c", baseline=None), from_values(table))
    same, clear = found.deciding[0], found.deciding[1]
    assert (same.verdict, same.strength) == (Verdict.INCONCLUSIVE, math.inf)
    assert clear.verdict is Verdict.SUPPORTED
    assert found.answer.startswith("Yes: b is 3.")


def test_an_open_answer_does_not_start_with_arms_that_are_the_same() -> None:
    wide = [b + g for b, g in zip(BASE, [0.9, -0.5, 0.4, 0.1, -0.6, 0.8, 0.3, -0.2, 0.1, -0.4], strict=True)]
    found = result(study("none", "same", "wide", direction="greater"), from_values({"none": BASE, "same": BASE, "wide": wide}))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.answer.startswith("Not settled: wide is 0.09 pp [")


def test_an_answer_does_not_start_with_a_single_pair_that_is_the_same() -> None:
    wide = [b + g for b, g in zip(BASE, [0.9, -0.5, 0.4, 0.1, -0.6, 0.8], strict=False)]
    found = result(
        study("none", "same", "wide", direction="greater"), from_values({"none": BASE, "same": BASE[:1], "wide": wide})
    )
    assert found.lead is not None
    assert found.lead.arm == "wide"


def test_an_open_claim_of_equivalence_tells_how_the_interval_lies() -> None:
    found = result(study("none", "after_pool", direction="equivalent"), pair([0.9, -0.5, 0.4, 0.1, -0.6, 0.8]))
    c = only(found)
    assert found.answer.endswith(
        f"(n = 6 paired seeds, TOST {p_equals(c.p_equivalence)}, the 90 % interval [{number(c.low90, 'pp')}, "
        f"{number(c.high90, 'pp')}] is not inside ±0.20 pp)."
    )


def test_a_refuted_claim_of_equivalence_quotes_the_p_against_the_margin() -> None:
    gains = [0.31, 0.18, 0.42, 0.29, 0.35, 0.22, 0.27, 0.38]  # far from 0, near the margin of .2
    found = result(study("none", "after_pool", direction="equivalent"), pair(gains))
    against_margin = scipy.stats.ttest_1samp(gains, 0.2).pvalue
    assert scipy.stats.ttest_1samp(gains, 0).pvalue < 0.001 < against_margin
    assert found.verdict is Verdict.REFUTED
    assert f"paired t test against the margin {p_equals(against_margin)}; larger than the margin of 0.20 pp)" in found.answer


def test_a_claim_of_equivalence_of_equal_differences_tells_that_it_is_not_tested() -> None:
    same = [b + 0.01 for b in BASE]
    c = only(result(study("none", "after_pool", direction="equivalent"), from_values({"none": BASE, "after_pool": same})))
    assert c.reason == "+0.01 pp, all differences are the same, so equivalence is not tested"


@pytest.mark.parametrize(
    ("n", "reason"), [(1, "1 pair allows no verdict (at least 6)"), (3, "3 pairs allow no verdict (at least 6)")]
)
def test_too_few_pairs_are_counted_in_the_reason(n: int, reason: str) -> None:
    found = result(study("none", "after_pool", direction="greater"), pair(GAIN[:n]))
    assert only(found).reason.startswith(f"{quantity(only(found).difference, 'pp', sign=True)}, {reason}")
    assert f"(n = {n} paired seed{'s' if n > 1 else ''}, and a verdict needs 6)" in found.answer


def test_after_a_further_look_the_reason_names_the_seeds_of_what_is_claimed() -> None:
    gain, look = [0.9, -0.5, 0.4, 0.1, 0.6, 0.8], Look(Rule.again())
    different = only(result(study("none", "after_pool"), pair(gain), look=look))
    assert different.reason.endswith(f"a difference would be shown at about {different.n_needed} seeds, at this estimate")
    near = [0.1, -0.1, 0.08, -0.12, 0.02, 0.05]
    same = only(result(study("none", "after_pool", direction="equivalent"), pair(near), look=look))
    assert same.reason.endswith(f"; equivalence would be shown at about {same.n_needed} seeds, at this estimate")
    hardly = [0.9, -0.9, 0.7, -0.7, 0.5, -0.49]
    never = "more than 10,000 pairs would be needed"
    assert only(result(study("none", "after_pool"), pair(hardly), look=look)).reason.endswith(f"{never} at this estimate")
    assert only(result(study("none", "after_pool"), pair(hardly))).reason.endswith(f"{never} for 80 % power at this estimate")


def test_a_result_is_plain_values_that_any_format_holds() -> None:
    found = result(study("none", "after_pool", direction="greater"), pair(GAIN)).to_dict()
    assert yaml.safe_load(yaml.safe_dump(found)) == json.loads(json.dumps(found, allow_nan=False))
    assert (found["verdict"], found["comparisons"][0]["finding"]) == ("SUPPORTED", "above")


def test_either_part_of_a_claim_may_refute_it() -> None:
    found = two_parts(GAIN, GAIN)
    assert [c.verdict for c in found.deciding] == [Verdict.SUPPORTED, Verdict.REFUTED]
    assert found.verdict is Verdict.REFUTED
    assert found.answer.startswith("No: bias is 0.31 pp [0.27, 0.35] more accurate than no_bias at norm=before_activation on ")
    assert found.answer.endswith("; as claimed, bias is 0.31 pp [0.27, 0.35] more accurate than no_bias at norm=none.")
    found = two_parts(NOISE, NOISE)
    assert [c.verdict for c in found.deciding] == [Verdict.EQUIVALENT, Verdict.EQUIVALENT]  # a difference was claimed at none
    assert found.verdict is Verdict.REFUTED
    assert found.answer.startswith("No: bias and no_bias are equally accurate within ±0.20 pp at norm=none ")
    assert found.answer.endswith(
        "; as claimed, bias and no_bias are equally accurate within ±0.20 pp at norm=before_activation (difference 0.00 pp, "
        "90 % interval [−0.01, 0.02])."
    )


def test_only_the_deciding_comparisons_are_corrected_for() -> None:
    first, second, measured = two_parts(GAIN, [3 * x + 0.1 for x in NOISE]).comparisons
    assert first.p_adjusted == pytest.approx(2 * first.p_t)
    assert second.p_equivalence_adjusted == pytest.approx(2 * second.p_equivalence)
    assert math.isnan(measured.p_adjusted)
    assert math.isnan(measured.p_equivalence_adjusted)
    assert measured.n_needed is None
    assert measured.reason == "+50.00 pp, also measured"


@pytest.mark.parametrize(
    ("gain", "others", "said"),
    [
        (GAIN, 2, "both deciding comparisons are as claimed"),
        (GAIN, 3, "all 3 deciding comparisons are as claimed"),
        (NOISE, 2, "both deciding comparisons go against the claim"),
    ],
)
def test_parts_that_agree_are_counted_at_once(gain: list[float], others: int, said: str) -> None:
    arms = [f"a{k}" for k in range(others)]
    found = result(
        study("none", *arms, direction="greater"),
        from_values({"none": BASE} | {arm: [b + g for b, g in zip(BASE, gain, strict=True)] for arm in arms}),
    )
    assert f", corrected for {others} comparisons" in found.answer
    assert found.answer.endswith(f"; {said}.")


def test_without_a_claim_comparisons_are_not_said_to_be_as_claimed() -> None:
    values = {"none": BASE} | {arm: [b + g for b, g in zip(BASE, GAIN, strict=True)] for arm in ("a", "b")}
    unclaimed = replace(study("none", "a", "b", direction="different"), claim="", decides=[])
    assert result(unclaimed, from_values(values)).answer.endswith("; both pairs differ.")
    values["b"] = [b + n for b, n in zip(BASE, NOISE, strict=True)]
    assert result(unclaimed, from_values(values)).answer.endswith("; of 2 pairs 1 differs and 1 is equivalent.")


def test_a_part_that_is_open_leaves_the_question_open() -> None:
    open_part = [0.9, -0.5, 0.4, 0.1, -0.6, 0.8, 0.3, -0.2]
    found = two_parts(GAIN, open_part)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.answer.startswith(
        "Not settled: bias is 0.15 pp [−0.32, 0.62] more accurate than no_bias at norm=before_activation on mnist"
    )
    assert found.answer.endswith("; bias is 0.31 pp [0.27, 0.35] more accurate than no_bias at norm=none.")


def test_a_claim_that_holds_at_some_levels_only_is_refuted_by_the_others() -> None:
    made = study("none", "bn", direction="greater")
    outcomes: list[Outcome] = []
    for k in range(6):
        gain = GAIN if k < 2 else NOISE
        levels = {"optim__lr": 0.01 * 2**k}
        outcomes += from_values({"none": BASE, "bn": [b + g for b, g in zip(BASE, gain, strict=True)]}, **levels)
    found = result(made, outcomes)
    assert found.verdict is Verdict.REFUTED
    assert found.answer.startswith(
        "No: bn and none are equally accurate within ±0.20 pp at learning rate 0.04 (difference 0.00 pp, 90 % "
    )
    assert found.answer.endswith("; of 6 deciding comparisons 2 are as claimed and 4 go against the claim.")


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
    assert len(found.answer) <= 450
    assert found.answer.count("a verdict needs") == (n < 6)
    assert found.answer.count(" p ") <= 1
    assert found.answer.endswith(".")


def test_one_different_pair_answers_whether_arms_differ() -> None:
    made = study("none", "a", "b", baseline=None, question="Where does it belong?")
    table = {"none": BASE, "a": [b + g for b, g in zip(BASE, NOISE, strict=True)], "b": [b + 1 for b in BASE]}
    table["b"][0] += 0.1
    found = result(made, from_values(table))
    assert found.verdict is Verdict.SUPPORTED
    assert found.answer.startswith("Supported: b is 1.01 pp [0.99, 1.03] more accurate than a on mnist")
    assert found.answer.endswith("; of 3 pairs 2 differ and 1 is equivalent.")
    alike = result(made, from_values({"none": BASE, "a": table["a"], "b": [b - x for b, x in zip(BASE, NOISE, strict=True)]}))
    assert alike.verdict is Verdict.REFUTED
    assert {c.verdict for c in alike.comparisons} == {Verdict.EQUIVALENT}


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
    assert "the test loss is 0.0031 nats [0.0027, 0.0035] lower with after_pool than with none" in found.answer
    assert "No margin is set for test/loss, so equivalence is not tested; set study.margin (nats)." in found.notes
    assert only(result(study("none", "after_pool", metric="test/loss", margin=0.01), outcomes)).margin == 0.01


def test_the_test_sets_own_error_is_named() -> None:
    found = result(study("none", "after_pool"), pair(GAIN), num_test=10_000)
    assert any("The 10,000 test images alone give one accuracy a standard error of 0.10 pp." in note for note in found.notes)


def test_yes_and_no_are_kept_for_questions_that_ask_for_the_claim() -> None:
    verbs = ("Do", "Does", "Is", "Are", "Can", "Has", "Have", "Will", "Did", "Was", "Were")
    asked = {"Where is it best?": "Supported: "} | {f"{verb} it help?": "Yes: " for verb in verbs}
    for question, word in asked.items():
        assert result(study("none", "after_pool", question=question), pair(GAIN)).answer.startswith(word)


def test_results_are_strict_json() -> None:
    outcomes = pair(GAIN[:3])
    outcomes[1] = replace(outcomes[1], status=Status.failed, value=None)
    found = result(study("none", "after_pool", metric="test/loss", factors={"optim.lr": [0.1]}), outcomes)
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (data["margin"], data["verdict"]) == (None, "ESTIMATE")
    assert data["outcomes"][0]["status"] == "finished"
    assert data["comparisons"][0]["finding"] == "nothing"
    assert (data["outcomes"][1]["status"], data["outcomes"][1]["value"]) == ("failed", None)
    assert data["comparisons"][0]["differences"] == found.comparisons[0].differences


def test_table_rows_are_text_with_equal_keys() -> None:
    found = result(study("none", "after_pool", direction="greater"), pair(GAIN))
    assert arm_rows(found)[0] == {
        "arm": "none",
        "n": "10",
        "test/accuracy (%)": "98.92",
        "95 % interval": "[98.89, 98.95]",
        "sd": "0.04",
        "diverged": "0",
        "stuck": "0",
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


def test_a_table_of_comparisons_tells_everything_that_decides() -> None:
    columns = ["arm", "baseline", "n", "difference", "95 % interval", "95 % BCa", "p adjusted", "p sign flip", "p equivalence"]
    (row,) = comparison_rows(result(study("none", "after_pool", direction="greater"), pair(GAIN)))
    assert list(row) == [*columns, "d_z", "wins", "n needed", "verdict", "reason"]
    assert (row["arm"], row["baseline"], row["n"], row["n needed"]) == ("after_pool", "none", "10", "6")
    assert (row["p sign flip"], row["p equivalence"], row["wins"]) == (".002", "1.00", "100 %")
    assert row["reason"] == "+0.31 pp, larger than the margin of 0.20 pp"


def test_a_table_tells_what_decides_from_what_is_only_measured() -> None:
    found = two_parts(GAIN, NOISE)
    assert [(row["level"], row["decides"], row["verdict"]) for row in comparison_rows(found)] == [
        ("norm=none", "yes", "SUPPORTED"),
        ("norm=before_activation", "yes", "EQUIVALENT"),
        ("norm=after_pool", "no", "–"),
    ]
    decided, measured = decided_and_measured(found)
    assert ([row["decides"] for row in decided], [row["decides"] for row in measured]) == (["yes", "yes"], ["no"])


def test_a_table_names_measures_and_tests_where_they_are_not_the_usual_ones() -> None:
    rates = {0.1: "none", 0.2: "bn"}  # the largest at which each trains
    made = study("none", "bn", analysis=Analysis.sensitivity)
    outcomes = [
        outcome(arm, seed, 0.9 if rate <= last else 0.1, optim__lr=rate)
        for last, arm in rates.items()
        for rate in (0.1, 0.2, 0.4)
        for seed in range(6)
    ]
    first, area, _ = comparison_rows(result(made, outcomes))
    assert (first["measure"], first["test"]) == ("the largest learning rate at which an arm trains", "sign flip")
    assert (first["difference"], area["decides"]) == ("+1.00 octaves", "no")
    assert "level" not in first


def test_a_table_shows_a_dash_for_wins_without_pairs_and_the_pairs_needed_if_the_question_is_open() -> None:
    lost = [outcome("none", 0, 0.9), outcome("bn", 0, None, Status.missing)]
    (row,) = comparison_rows(result(study("none", "bn"), lost))
    assert (row["wins"], row["n needed"]) == ("–", "–")
    found = result(study("none", "after_pool", direction="greater"), pair([0.9, -0.5, 0.4, 0.1, -0.6, 0.8]))
    (row,) = comparison_rows(found)
    assert row["n needed"] == f"{only(found).n_needed:,}"


def test_ratios_are_told_as_how_many_times_fewer_or_more() -> None:
    assert effect(-1.0, RATIO, -2.0, 1.0) == "2.00× [0.50, 4.00] less"
    assert effect(1.0, RATIO, -1.0, 2.0) == "2.00× [0.50, 4.00] more"
    assert effect(1.0, RATIO) == "2.00× more"
    assert effect(0.31, "pp", 0.27, 0.35) == "+0.31 pp [0.27, 0.35]"
    c = replace(only(result(study("none", "after_pool"), pair(GAIN))), difference=1.0)
    assert times(c, 0.0, 2.0) == "2.00 times [1.00, 4.00]"
    assert times(c, -math.inf, 2.0) == times(c, 0.0, math.inf) == "2 times"


@pytest.mark.parametrize(
    ("level", "words"),
    [
        ("lr=0.04", "at learning rate 0.04"),
        ("depth=8, train_size=500", "at depth 8, 500 training images"),
        ("train_size=1", "at 1 training image"),
        ("epochs=1", "at 1 epoch"),
        ("epochs=20", "at 20 epochs"),
        ("duplicates=2", "at 2 copies of each image"),
        ("group_classes=2", "at 2 classes per batch"),
        ("steps_per_epoch=9", "at updates per epoch 9"),
        ("train_size=null", "at all training images"),
        ("activation=sigmoid", "at activation=sigmoid"),
        ("init_from=null", "at init_from=null"),
        ("normalize=true", "with input normalisation"),
        ("track_running_stats=false", "without track running stats"),
        ("normalize=false, lr=0.1", "at normalize=false, learning rate 0.1"),
    ],
)
def test_levels_in_words(level: str, words: str) -> None:
    assert at(level) == words


@pytest.mark.parametrize("word", ["Do", "Does", "Is", "Are", "Can", "Has", "Have", "Will", "Did", "Was", "Were"])
def test_a_question_with_a_verb_in_front_is_answered_by_yes_or_no(word: str) -> None:
    made = study("none", "after_pool", direction="greater", question=f"{word} norms help?")
    assert result(made, pair(GAIN)).answer.startswith("Yes: ")
    assert result(replace(made, question="Which norm helps?"), pair(GAIN)).answer.startswith("Supported: ")


def test_one_of_several_pairs_that_differs_is_told_in_the_singular() -> None:
    table = {"none": BASE, "a": [b + g for b, g in zip(BASE, GAIN, strict=True)]}
    table["b"] = [
        b + g / 2 + 2 * n for b, g, n in zip(BASE, GAIN, [0.2, -0.25, 0.1, -0.1, 0.2, -0.2, 0.2, 0.1, -0.2, -0.1], strict=True)
    ]
    found = result(study("none", "a", "b", baseline=None), from_values(table))
    assert [c.shows_claim for c in found.deciding] == [True, False, False]
    assert found.answer.endswith("; of 3 pairs 1 differs and 2 are open.")


@pytest.mark.parametrize(
    ("gain", "direction", "finding"),
    [
        (GAIN, "less", "above"),
        ([-g for g in GAIN], "less", "below"),
        (NOISE, "less", "equivalent"),
        (GAIN[:3], "less", "nothing"),
    ],
)
def test_what_a_comparison_shows_is_one_word_in_json(gain: list[float], direction: str, finding: str) -> None:
    (c,) = result(study("none", "after_pool", direction=direction), pair(gain)).to_dict()["comparisons"]
    assert c["finding"] == finding


def test_every_factor_with_a_name_of_its_own_is_a_setting() -> None:
    assert set(FACTORS) <= {info.name for info in schema_keys()}
    assert (at("weight_decay=0.1"), factor_name("train.batch_size")) == ("at weight decay 0.1", "batch size")


def test_settings_and_measures_in_words() -> None:
    losses = {"train": "training loss", "val": "validation loss", "test": "test loss"}
    assert {name: measure_name(f"{name}/loss") for name in losses} == losses
    assert measure_name("train_eval/loss") == "training loss in evaluation mode"
    assert (
        settings_text({"train.epochs": "1", "optim.lr": "0.1", "model.name": "lenet"}, LABELS) == "learning rate 0.1, 1 epoch"
    )
    assert settings_text({"train.batch_size": "64", "optim.momentum": "0.9"}, LABELS) == "momentum 0.9, batch size 64"
    assert measure_name("gap/loss") == "gap between validation and training loss"
    assert (factor_name("optim.lr"), factor_name("model.dropout_side")) == ("learning rate", "dropout side")
    assert (measure_name("landscape/beta"), measure_name("own/metric")) == ("effective smoothness constant", "own/metric")
    recorded = {metric for metrics in PROBE_METRICS.values() for metric in metrics}
    assert {name for name in MEASURES if name.split("/")[0] not in SPLITS} <= recorded


def test_an_anytime_valid_test_shows_equivalence_by_its_95_percent_interval() -> None:
    made = study("none", "after_pool", direction="equivalent")
    found = result(made, pair(NOISE), look=Look(Rule.declared(12)))
    c = only(found)
    assert (c.low90, c.high90) == (c.low, c.high)
    assert "95 % interval [" in found.answer
    assert "(n = 10 paired seeds, anytime-valid TOST p < .001)" in found.answer
    assert "90 %" not in found.answer + c.reason
    assert "90 % interval [" in result(made, pair(NOISE)).answer


def test_a_p_below_05_that_a_further_look_does_not_accept_is_not_called_unclear() -> None:
    gain = [0.4, 0.1, 0.5, 0.2, 0.6, 0.15, 0.45, 0.25]
    found = result(study("none", "after_pool", direction="greater"), pair(gain), look=Look(Rule.again()))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert 0.01 <= only(found).p_adjusted < 0.05
    assert "not below the level of .01 that this look needs" in found.answer
    assert "no clear difference" not in found.answer


def test_pairs_needed_beyond_a_declared_plan_are_those_of_a_further_look() -> None:
    gain = [0.6, 0.2, 0.5, -0.4, 0.8, 0.6, 0.1, 0.4, -0.5, 0.9]
    found = result(study("none", "after_pool", direction="greater"), pair(gain), look=Look(Rule.declared(10)))
    c = only(found)
    assert c.n_needed == seeds_needed(np.array(c.differences), Rule.again())
    assert c.reason.endswith(f"a difference would be shown at about {c.n_needed} seeds, at this estimate")


def test_a_missing_difference_has_no_unit() -> None:
    found = result(study("none", "after_pool"), [outcome("none", 0, 0.9), outcome("after_pool", 0, None, Status.missing)])
    assert comparison_rows(found)[0]["difference"] == "–"


def test_a_row_without_an_interval_shows_a_dash() -> None:
    (row,) = comparison_rows(result(study("none", "after_pool"), pair([0.3] * 6)))
    assert (row["95 % interval"], row["95 % BCa"], row["n needed"]) == ("–", "–", "–")


def test_an_answer_says_how_many_runs_behind_it_did_not_train() -> None:
    """A network without norm that never leaves chance makes a large gain; the number alone would not tell that."""
    runs = from_values({"none": [10.0, 11.0, 10.5, 96.0, 10.2, 10.4], "after_pool": [97.0, 96.5, 97.2, 97.1, 96.8, 97.3]})
    runs = [replace(run, stuck="at chance") if run.value is not None and run.value < 0.5 else run for run in runs]
    found = result(study("none", "after_pool", direction="greater"), runs)
    assert found.answer.endswith("larger than the margin of 0.20 pp; 5 of 6 runs of none did not train).")
    trained = result(study("none", "after_pool", direction="greater"), pair(GAIN))
    assert "did not train" not in trained.answer
