"""Notes and labels: levels in per cent, differences in pp, few sentences for many arms and levels."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from made_outcomes import GAIN, from_values, outcome, pair, result, study

from bnexp.comparison.notes import _floors
from bnexp.comparison.pairing import listed
from bnexp.comparison.result import Outcome, Status, StudyResult, Test
from bnexp.comparison.tables import arm_rows, comparison_rows
from bnexp.comparison.text import level_unit, quantity
from bnexp.config.options import Analysis, Direction
from bnexp.config.schema import Decides

RATES = (0.01, 0.1, 1.0, 10.0)


def test_levels_of_accuracies_are_per_cent_and_gaps_are_differences() -> None:
    units = {"test/accuracy": "%", "statistics/running": "%", "accuracy": "%", "gap/accuracy": "pp"}
    assert {measure: level_unit(measure, "pp") for measure in units} == units
    assert (level_unit("test/loss", "nats"), level_unit("cost/step_ms", "")) == ("nats", "")
    assert quantity(98.9, "%") == "98.90 %"


NEAR_100 = [99.9, 100.0, 99.1, 96.2]
BEYOND = "The 95 % interval of none is cut at 0 or 100 %: no accuracy lies beyond."


def test_an_interval_of_accuracies_ends_at_100_percent_and_a_note_says_so() -> None:
    found = result(study("none", "bn"), from_values({"none": NEAR_100, "bn": [98.0, 98.1, 98.2, 98.0]}))
    none, bn = found.arms
    assert (none.high, round(none.low, 2)) == (100.0, 95.97)
    assert bn.high < 98.3
    assert found.notes.count(BEYOND) == 1
    assert arm_rows(found)[0]["95 % interval"] == "[95.97, 100.00]"
    low = result(study("none", "bn"), from_values({"none": [0.1, 3.8, 0.0, 0.9], "bn": [98.0, 98.1, 98.2, 98.0]}))
    assert low.arms[0].low == 0
    assert BEYOND in low.notes


def test_a_table_of_arms_tells_the_level_and_a_dash_where_seeds_have_no_interval() -> None:
    made = from_values({"none": [90.0, 91.0], "bn": [92.0, 93.0]}, lr=0.1)
    (none, _) = arm_rows(result(study("none", "bn"), made))
    assert (none["arm"], none["level"], none["n"], none["95 % interval"]) == ("none", "lr=0.1", "2", "–")
    assert "level" not in arm_rows(result(study("none", "bn"), from_values({"none": [90.0], "bn": [92.0]})))[0]


def test_differences_and_gaps_have_no_end() -> None:
    wide = from_values({"none": [0.0, 99.0, 0.0, 99.0], "bn": [99.0, 0.0, 99.0, 99.0]})
    found = result(study("none", "bn"), wide)
    assert found.comparisons[0].high > 100
    gap = result(study("none", "bn", metric="gap/accuracy"), from_values({"none": [-3.0, 1.0, -2.0], "bn": [0.0, 1.0, 2.0]}))
    assert gap.arms[0].low < 0
    assert not any("cut at" in note for note in gap.notes)
    assert "gap/accuracy (pp)" in arm_rows(gap)[0]


def over_rates(num_bad: int, **keys: object) -> StudyResult:
    """Two arms over four rates, of which the last ``num_bad`` have runs that went wrong with seed 1."""
    made: list[Outcome] = []
    for rate in RATES:
        runs = [outcome(arm, seed, 0.9 + 0.01 * seed, lr=rate) for arm in ("none", "bn") for seed in range(6)]
        bad = rate in RATES[len(RATES) - num_bad :]
        made += [replace(o, **keys) if bad and o.seed == 1 else o for o in runs]  # type: ignore[arg-type]
    return result(study("none", "bn", factors={"lr": list(RATES)}), made)


@pytest.mark.parametrize("keys", [{"status": Status.diverged, "value": 0.1}, {"stuck": "training accuracy 10.0 %"}])
def test_untrained_runs_are_named_in_one_sentence(keys: dict[str, object]) -> None:
    what = (
        "diverged; kept, at chance"
        if "status" in keys
        else "never trained: training accuracy stays at what guessing gives; kept"
    )
    notes = over_rates(1, **keys).notes
    assert f"none at lr=10.0: seed 1; bn at lr=10.0: seed 1 {what}." in notes
    notes = over_rates(2, **keys).notes
    assert f"4 runs {what}: 1 of none at lr=1.0, 1 of bn at lr=1.0, 1 of none at lr=10.0, 1 of bn at lr=10.0." in notes
    (pairs,) = [note for note in notes if note.startswith("Neither run trained")]
    assert pairs == (
        "Neither run trained in 1 of 6 pairs of bn against none at lr=1.0 and 1 of 6 pairs of bn against none at lr=10.0: "
        "such a pair is no evidence of equivalence."
    )


def test_a_diverged_run_has_no_calibration_error() -> None:
    made = from_values({"none": [2.0, 2.2, 2.1], "bn": [3.0, 3.3, 3.2]})
    made[-1] = replace(made[-1], status=Status.diverged, value=None)
    found = result(study("none", "bn", metric="test/ece"), made)
    assert (found.comparisons[0].n, found.comparisons[0].unit) == (2, "pp")
    assert found.comparisons[0].difference == pytest.approx(1.05)
    assert found.unpaired == ["bn: seed 2 diverged without a finite value of the metric."]


def test_ties_show_no_equivalence_and_take_one_sentence() -> None:
    found = over_rates(0)  # both arms have the same accuracies
    (tie,) = [note for note in found.notes if "all 6 differences" in note]
    assert tie.endswith("all 6 differences in test/accuracy are 0, so there is no t test and no interval.")
    rows = comparison_rows(found)
    assert {row["95 % interval"] for row in rows} == {row["p equivalence"] for row in rows} == {"–"}
    shifted = result(study("none", "bn"), from_values({"none": [90.0] * 6, "bn": [91.0] * 6}))
    assert any(note.endswith("no interval; the exact sign-flip test decides.") for note in shifted.notes)
    assert math.isnan(shifted.comparisons[0].low)
    same = result(study("none", "bn", direction="equivalent"), from_values({"none": [90.0] * 6, "bn": [91.0] * 6}))
    assert any(note.endswith("no t test and no interval.") for note in same.notes)  # signs cannot show equivalence


@pytest.mark.parametrize(("num_seeds", "said"), [(1, True), (2, True), (3, False)])
def test_a_note_says_why_few_seeds_have_no_interval(num_seeds: int, said: bool) -> None:
    note = "Intervals are shown from 3 seeds on; with fewer they would be too wide to tell anything."
    found = result(study("none", "after_pool"), pair(GAIN[:num_seeds]))
    assert (note in found.notes) == said
    assert all(math.isnan(arm.low) == said for arm in found.arms)


def test_many_comparisons_with_ties_or_untrained_pairs_are_counted() -> None:
    tied = (
        "4 comparisons (bn against none at lr=0.01, bn against none at lr=0.1 and others): all 6 differences in test/accuracy "
    )
    assert any(note.startswith(tied) for note in over_rates(0).notes)
    lost = "4 comparisons (1 of 6 pairs of bn against none at lr=0.01, 1 of 6 pairs of bn against none at lr=0.1 and others)"
    assert any(note.startswith(f"Neither run trained in {lost}") for note in over_rates(4, stuck="training accuracy").notes)


def test_limits_of_tests_with_different_numbers_of_pairs_are_told_before_correction() -> None:
    made = [outcome(arm, seed, 0.9 + 0.01 * ((seed + len(arm)) % 3), lr=1.0) for arm in ("none", "bn") for seed in range(6)]
    made += [outcome(arm, seed, 0.9 + 0.01 * ((seed * len(arm)) % 5), lr=2.0) for arm in ("none", "bn") for seed in range(5)]
    notes = result(study("none", "bn", factors={"lr": [1.0, 2.0]}), made).notes
    floor = "the exact sign-flip test cannot go below p ="
    assert f"With n = 5 {floor} .062 before correction; a verdict needs 6 pairs." in notes
    assert f"With n = 6 {floor} .031 before correction. It is only a check: the verdict rests on the paired t test." in notes


def test_a_test_that_decides_at_one_level_is_a_check_at_another() -> None:
    """Equal differences have no t test, so signs decide there; that is another number of pairs."""
    made = [outcome(arm, seed, 0.9 + 0.01 * (arm == "bn"), lr=1.0) for arm in ("none", "bn") for seed in range(6)]
    made += [outcome(arm, seed, 0.9 + 0.01 * ((seed * len(arm)) % 5), lr=2.0) for arm in ("none", "bn") for seed in range(7)]
    notes = [note for note in result(study("none", "bn", factors={"lr": [1.0, 2.0]}), made).notes if note.startswith("With n")]
    assert ["only a check" in note for note in notes] == [False, True]


def test_the_noise_floor_needs_two_seeds_in_each_half_and_takes_the_first_arm() -> None:
    made = study("none", "after_pool", baseline=None, noise_floor=True)
    (note,) = [n for n in result(made, pair(GAIN[:4])).notes if n.startswith("Noise floor")]
    assert note.startswith("Noise floor of none: 2 of its seeds against 2 others differ by ")
    assert not any(n.startswith("Noise floor") for n in result(made, pair(GAIN[:3])).notes)


def test_limits_of_tests_are_those_of_the_comparisons_that_decide() -> None:
    made = [
        outcome(arm, seed, 0.9 + 0.01 * (seed % 3), lr=rate) for rate in RATES for arm in ("none", "bn") for seed in range(6)
    ]
    decides = [Decides(at={"lr": "0.1"}, expect=Direction.greater)]
    found = result(study("none", "bn", factors={"lr": list(RATES)}, decides=decides), made)
    said = "With n = 6 the exact sign-flip test cannot go below p = .031. It is only a check: the verdict rests on the"
    assert f"{said} paired t test." in found.notes
    assert not any("4 comparisons" in note and "sign-flip" in note for note in found.notes)


def test_a_margin_that_is_set_is_not_asked_for() -> None:
    outcomes = from_values({"none": [90.0, 90.5, 91.0], "bn": [91.0, 91.2, 92.5]})
    assert not any("No margin is set" in note for note in result(study("none", "bn"), outcomes).notes)
    assert any("No margin is set" in note for note in result(study("none", "bn"), outcomes, margin=math.nan).notes)


def test_the_smallest_p_of_few_pairs_comes_with_the_pairs_that_a_verdict_needs() -> None:
    outcomes = from_values({"none": [90.0, 90.5, 91.0, 90.2], "bn": [91.0, 91.2, 92.5, 90.9]})
    said = "With n = 4 the exact sign-flip test cannot go below p = .12; a verdict needs 6 pairs."
    assert said in result(study("none", "bn"), outcomes).notes


def test_of_many_names_two_are_told_and_how_many_there_are() -> None:
    assert listed(["a"], "arms") == "a"
    assert listed(["a", "b", "c"], "arms") == "a, b and c"
    assert listed(list("abcd"), "arms") == "4 arms (a, b and others)"
    assert listed(list("abcd"), "arms", 9) == "4 of 9 arms (a, b and others)"


@pytest.mark.parametrize("name", ["accuracy", "loss"])
def test_arms_with_metrics_of_their_own_are_compared_in_what_these_have_in_common(name: str) -> None:
    made = study("none", "bn", metric=f"test/{name}", metrics={"bn": f"val/{name}"})
    found = result(made, from_values({"none": [50.0, 51.0, 52.0], "bn": [53.0, 52.0, 54.0]}))
    assert found.comparisons[0].measure == name


def test_a_measure_with_a_margin_of_its_own_asks_for_none() -> None:
    made = study("none", "bn", analysis=Analysis.sensitivity, decides=[Decides(measure=m) for m in ("area", "largest_stable")])
    rows = [outcome(arm, seed, 0.9, optim__lr=lr) for arm in ("none", "bn") for seed in range(3) for lr in (0.1, 0.2)]
    notes = result(made, rows, margin=math.nan).notes
    area = "mean accuracy over learning rate from 0.1 to 0.2"
    assert [note for note in notes if note.startswith("No margin")] == [
        f"No margin is set for {area}, so equivalence is not tested; set study.margin (pp)."
    ]


def test_a_measure_without_a_unit_asks_for_a_margin_without_one() -> None:
    values = [replace(o, value=(o.value or 0) * 3) for o in pair(GAIN)]
    found = result(study("none", "after_pool", metric="landscape/beta"), values)
    (note,) = [note for note in found.notes if note.startswith("No margin is set")]
    assert note.endswith("so equivalence is not tested; set study.margin.")


def test_a_diverged_run_has_no_guess_of_what_a_probe_measures() -> None:
    values = [replace(o, value=2.0) for o in pair(GAIN)]
    values[0] = replace(values[0], status=Status.diverged, value=None)
    found = result(study("none", "after_pool", metric="landscape/beta"), values)
    assert (found.arms[0].n, found.arms[0].missing) == (9, 1)  # guessing would have a loss, but no smoothness


def test_groups_that_cannot_be_paired_do_not_change_what_is_said_of_the_pairs() -> None:
    """The smallest p of signs is that of paired runs, so the test named beside it is theirs too."""
    found = result(
        study("none", "bn", "gn"),
        from_values(
            {name: [90.0 + seed for seed in range(6)] for name in ("none",)}
            | {"bn": [91.0, 92.5, 93.1, 94.2, 95.4, 96.9], "gn": [90.2, 91.9, 92.4, 93.6, 94.1, 95.7]}
        ),
    )
    first, second = found.comparisons
    welch = replace(first, unpaired="seeds differ", test=Test.welch, p_sign_flip=math.nan)
    (note,) = [text for text in _floors([welch, second]) if text.startswith("With n = 6")]
    assert note.endswith("It is only a check: the verdict rests on the paired t test.")


def test_arms_without_a_baseline_have_a_best_one_and_those_that_may_be_as_good() -> None:
    low, near = [80.1, 80.0, 80.2, 80.1, 79.9, 80.0], [90.0, 90.4, 89.8, 90.1, 90.3, 90.0]
    best = [90.3, 90.2, 90.0, 90.0, 90.5, 90.1]
    table = {"a": low, "b": near, "c": best}
    notes = result(study("a", "b", "c", baseline=None), from_values(table)).notes
    assert "c has the highest mean accuracy. Not told apart from it: b." in notes
    table["b"] = [value - 5 for value in near]
    notes = result(study("a", "b", "c", baseline=None), from_values(table)).notes
    assert "c has the highest mean accuracy. It differs from every other arm." in notes
    assert not any("highest mean" in note for note in result(study("a", "b", "c"), from_values(table)).notes)


def test_no_best_arm_is_named_if_only_some_pairs_are_tested() -> None:
    """The two best arms are far apart, but no test says so: they would be called not told apart."""
    table = {name: [mean + 0.1 * (seed % 3) for seed in range(6)] for name, mean in (("a", 80.0), ("b", 85.0), ("c", 90.0))}
    part = study("a", "b", "c", baseline=None, decides=[Decides(arm="b", baseline="a", expect=Direction.at_least)])
    assert not any("highest mean accuracy" in note for note in result(part, from_values(table)).notes)
