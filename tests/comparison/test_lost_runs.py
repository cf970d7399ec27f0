"""Runs without a result: none is dropped silently, and none is evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from made_outcomes import BASE, GAIN, NOISE, only, outcome, pair, result, study

from bnexp.comparison.pairing import seed_text
from bnexp.comparison.result import Outcome, Status, Verdict
from bnexp.comparison.tables import comparison_rows
from bnexp.config.keys import PROBE_METRICS


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
    outcomes[2] = replace(outcomes[2], value=0.3)  # as other tools record it
    found = result(study("none", "after_pool", direction="greater"), outcomes)
    assert {"none: seed 4 diverged; kept, at chance.", "none: seed 2 diverged; kept, at the recorded value."} <= {*found.notes}
    losses = [replace(o, value=None if o.status is Status.diverged else 0.05) for o in outcomes]
    found = result(study("none", "after_pool", metric="test/loss"), losses)
    assert found.arms[0].mean == pytest.approx((8 * 0.05 + 2 * math.log(10)) / 10)


def lost(arms: tuple[str, ...], seeds: int, value: float | None = 0.1, **levels: float) -> list[Outcome]:
    return [outcome(arm, seed, value, Status.diverged, **levels) for arm in arms for seed in range(seeds)]


@pytest.mark.parametrize("direction", ["greater", "different", "equivalent"])
@pytest.mark.parametrize("n", [3, 6, 20])
def test_runs_that_all_untrained_are_no_evidence_of_equivalence(direction: str, n: int) -> None:
    made = study("none", "bn", direction=direction)
    found = result(made, lost(("none", "bn"), n))
    c = only(found)
    assert found.verdict == c.verdict == (Verdict.ESTIMATE if n < 6 else Verdict.INCONCLUSIVE)
    assert c.reason == "no run of either arm trained, so nothing was tested"
    assert "no run of bn or none trained, so nothing was tested," in found.answer
    assert all(math.isnan(p) for p in (c.p_t, c.p_sign_flip, c.p_adjusted, c.p_equivalence, c.superiority, c.effect))
    assert (c.n, c.both_untrained, c.difference, c.n_needed) == (n, n, 0, None)
    (row,) = comparison_rows(found)
    assert {row[key] for key in ("95 % interval", "p adjusted", "p sign flip", "wins", "n needed")} == {"–"}
    assert not any("sign-flip" in note for note in found.notes)
    third = result(study("none", "bn", "gn", direction=direction), lost(("none", "bn", "gn"), n))
    assert third.omnibus_p is None
    assert third.verdict is found.verdict
    assert "no run of bn or none trained, so nothing was tested," in third.answer


def test_a_level_where_every_run_diverged_does_not_join_the_family() -> None:
    made = study("none", "after_pool", direction="greater")
    fine = [replace(o, level="lr=0.1", levels={"lr": 0.1}) for o in pair(GAIN)]
    found = result(made, [*fine, *lost(("none", "after_pool"), 10, lr=9.0)])
    assert [c.verdict for c in found.comparisons] == [Verdict.SUPPORTED, Verdict.INCONCLUSIVE]
    assert found.comparisons[0].p_adjusted == found.comparisons[0].p_t
    assert found.answer.startswith(
        "Not settled: no run of after_pool or none at learning rate 9.0 trained, so nothing was tested, on "
    )
    assert found.answer.endswith("; of 2 deciding comparisons 1 is as claimed and 1 is open.")
    assert found.remedy is not None
    assert found.remedy.text.startswith("Neither after_pool nor none trains at learning rate 9.0: train longer")


STUCK = "training accuracy 11.2 % after 10 epochs, guessing gives up to 11.6 %"


def stuck(outcomes: list[Outcome], seeds: range, value: float = 0.1135) -> list[Outcome]:
    return [replace(o, value=value, stuck=STUCK) if o.seed in seeds else o for o in outcomes]


@pytest.mark.parametrize("direction", ["greater", "different", "equivalent"])
def test_a_study_of_stuck_runs_decides_nothing(direction: str) -> None:
    found = result(study("none", "after_pool", direction=direction), stuck(pair(NOISE), range(10)))
    c = only(found)
    assert (found.verdict, c.verdict, c.both_untrained) == (Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE, 10)
    assert c.reason == "no run of either arm trained, so nothing was tested"
    assert all(math.isnan(p) for p in (c.p_adjusted, c.p_equivalence))
    assert found.omnibus_p is None
    assert {o.ending for o in found.outcomes} == {"stuck"}
    third = [replace(o, arm="third") for o in found.outcomes if o.arm == "none"]
    assert result(study("none", "after_pool", "third"), [*found.outcomes, *third]).omnibus_p is None
    assert [(s.diverged, s.stuck, s.mean) for s in found.arms] == [(0, 10, pytest.approx(11.35))] * 2  # it keeps its value


def test_a_pair_of_a_stuck_and_a_diverged_run_is_no_evidence_of_equivalence() -> None:
    outcomes = stuck(pair(NOISE), range(1))
    made = study("none", "after_pool", direction="equivalent")
    assert only(result(made, outcomes)).both_untrained == 1
    outcomes[0] = replace(outcomes[0], status=Status.diverged, value=None, stuck="")
    c = only(result(made, outcomes))
    assert (c.both_untrained, c.verdict) == (1, Verdict.INCONCLUSIVE)
    outcomes[0] = pair(NOISE)[0]
    assert only(result(made, outcomes)).both_untrained == 0  # one of the two has trained, so the pair says something


@pytest.mark.parametrize("direction", ["greater", "different", "equivalent"])
def test_pairs_of_which_both_runs_diverged_weaken_but_never_show_equivalence(direction: str) -> None:
    made = study("none", "after_pool", direction=direction)
    outcomes = [replace(o, status=Status.diverged, value=0.1) if o.seed == 0 else o for o in pair(NOISE)]
    c = only(result(made, outcomes))
    assert (c.both_untrained, c.verdict) == (1, Verdict.INCONCLUSIVE)
    assert math.isnan(c.p_equivalence)
    assert "neither run trained in 1 of 10 pairs, so equivalence is not tested" in c.reason
    strong = [g + 0.7 for g in GAIN]
    for count, verdict in ((4, Verdict.SUPPORTED), (5, Verdict.INCONCLUSIVE)):
        outcomes = [replace(o, status=Status.diverged, value=0.1) if o.seed < count else o for o in pair(strong)]
        c = only(result(study("none", "after_pool", direction="greater"), outcomes))
        assert (c.n, c.verdict) == (10, verdict)
    assert c.reason.endswith("neither run trained in 5 of 10 pairs, and a verdict needs 6 others")


def test_a_difference_that_is_claimed_may_be_shown_with_more_pairs_though_equivalence_may_not() -> None:
    gain = [0.3, 0.9, -0.5, 0.4, 0.1, 0.6, 0.8, -0.4]
    lost = [replace(o, status=Status.diverged, value=0.1) if o.seed == 0 else o for o in pair(gain)]
    needed = {way: only(result(study("none", "after_pool", direction=way), lost)).n_needed for way in ("greater", "equivalent")}
    assert needed["greater"] is not None
    assert needed["greater"] > 8
    assert needed["equivalent"] is None


def test_missing_failed_and_lonely_runs_are_listed() -> None:
    outcomes = pair(GAIN)
    outcomes[0] = replace(outcomes[0], status=Status.missing, value=None)
    outcomes[3] = replace(outcomes[3], status=Status.missing, value=None)
    outcomes[11] = replace(outcomes[11], status=Status.failed, value=None)
    outcomes.append(outcome("none", 99, 0.5))
    outcomes.append(replace(outcomes[5], run_id="again"))
    outcomes.append(outcomes[6])  # the same run once more
    outcomes[7] = replace(outcomes[7], status=Status.damaged, value=None)
    outcomes[8] = replace(outcomes[8], value=math.nan)
    found = result(study("none", "after_pool", direction="greater"), outcomes)
    assert found.unpaired == [
        "none: seeds 0, 3 not run yet.",
        "none: seed 7 with a damaged record.",
        "none: seed 8 finished without a finite value of the metric.",
        "after_pool: seed 1 failed.",
        "none: seed 99 without a partner in after_pool.",
        "none: seed 5 recorded more than once; only the first run is used. Group by what differs between them.",
    ]
    assert only(found).n == 5
    assert [(s.arm, s.n, s.missing) for s in found.arms] == [("none", 7, 4), ("after_pool", 9, 1)]
    assert len(found.outcomes) == len(outcomes)
    statuses = {outcome["status"] for outcome in found.to_dict()["outcomes"]}
    assert statuses == {"finished", "failed", "missing", "damaged"}


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        ([7], "seed 7"),
        ([9, 0, 2], "seeds 0, 2, 9"),
        (range(10), "seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        (range(2, 4999), "seeds 2 to 4998"),
        ([*range(5, 4999), 3, 1], "seeds 1, 3, 5 to 4998"),
        (range(0, 50, 2), "seeds 0, 2, 4, 6, 8, 10, 12, 14, 16, 18 and 15 more"),
        (range(-40, -20), "20 runs"),
    ],
)
def test_seeds_are_named_in_a_sentence_of_readable_length(seeds: Sequence[int], text: str) -> None:
    assert seed_text(seeds) == text


@pytest.mark.parametrize("direction", ["at_least", "equivalent", "greater"])
def test_arms_that_share_no_seed_are_no_failure(direction: str) -> None:
    c = only(result(study("none", "bn", direction=direction), [outcome("none", 0, 0.9), outcome("bn", 1, 0.9)]))
    assert (c.n, c.n_needed, c.verdict, c.reason) == (0, None, Verdict.ESTIMATE, "no seed has a result in both arms")


def test_an_arm_is_not_listed_at_a_level_for_which_no_run_was_planned() -> None:
    outcomes = [outcome(arm, seed, 0.9, lr=lr) for arm, lr in (("none", 0.1), ("none", 0.2), ("bn", 0.1)) for seed in range(2)]
    found = result(study("none", "bn", factors={"lr": [0.1, 0.2]}), outcomes)
    assert [(s.arm, s.level) for s in found.arms] == [("none", "lr=0.1"), ("bn", "lr=0.1"), ("none", "lr=0.2")]


AT_CHANCE = ["train/loss", "val/accuracy", "test/accuracy", *PROBE_METRICS["statistics"]]
UNKNOWN = [metric for name, metrics in PROBE_METRICS.items() if name != "statistics" for metric in metrics]


@pytest.mark.parametrize(("metric", "n"), [*((name, 10) for name in AT_CHANCE), *((name, 9) for name in UNKNOWN)])
def test_what_a_probe_measures_has_no_chance_value(metric: str, n: int) -> None:
    outcomes = [replace(o, value=None, status=Status.diverged) if o.seed == 0 else o for o in pair(GAIN)]
    found = result(study("none", "after_pool", metric=metric), outcomes)
    assert only(found).n == n
    assert ("none: seed 0 diverged without a finite value of the metric." in found.unpaired) == (n == 9)
