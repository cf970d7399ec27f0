"""From measurements to rows, bars and remarks."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bnexp.bench.ladder import LeftOut, Plan, climb
from bnexp.bench.measure import Measurement, concluded
from bnexp.bench.result import Ladder, build, legend, table
from bnexp.bench.rows import standard_error
from bnexp.bench.work import RUNGS, BenchError, RungResult, RunResult, Work
from bnexp.config.options import DataName, Device
from bnexp.tracking.store import write_json
from tests.bench.made_measurements import WORK, measurement, settling
from tests.report import made_reports


def ladder(seconds: dict[str, list[float]], num_runs: int = 6, accuracy: dict[str, float] | None = None) -> Ladder:
    made = [
        measurement(rung, num_runs, repeat, value, (accuracy or {}).get(rung, 0.97))
        for rung, values in seconds.items()
        for repeat, value in enumerate(values, 1)
    ]
    return build(WORK, made, 10_000, {})


def test_a_row_has_median_and_range_and_the_ratio_within_each_repeat() -> None:
    # In the second repeat the machine was half as fast for both: the ratio does not see that.
    found = {
        row.rung: row for row in ladder({"B0": [60.0, 120.0, 66.0], "B2": [20.0, 40.0, 22.0], "B5": [10.0, 20.0, 12.0]}).rows
    }
    assert (found["B0"].seconds.median, found["B0"].seconds.low, found["B0"].seconds.high) == (66.0, 60.0, 120.0)
    over_b0, over_b2 = found["B5"].over_b0, found["B5"].over_b2
    assert over_b0 is not None
    assert over_b2 is not None
    assert (over_b0.median, over_b0.low, over_b0.high) == pytest.approx((6.0, 5.5, 6.0))
    assert over_b2.median == pytest.approx(2.0)
    assert found["B0"].over_b0.median == found["B2"].over_b2.median == 1.0  # type: ignore[union-attr]
    assert found["B2"].images_per_second.median == pytest.approx(6000 / 11)


def test_a_ratio_to_a_rung_that_was_not_measured_is_absent() -> None:
    (row,) = ladder({"B5": [10.0]}).rows
    assert row.over_b0 is None
    assert row.over_b2 is None
    assert table(ladder({"B5": [10.0]}))[0]["over B0"] == ""


def test_bars_are_met_or_missed_by_the_median() -> None:
    met = ladder({"B0": [60.0] * 3, "B2": [25.0] * 3, "B5": [10.0, 10.0, 30.0]})
    assert [bar.met for bar in met.bars] == [True, True, None, None]
    assert met.bars[0].sentence() == "6 runs on a CPU, B5 over B0: at least 4.5x: met, 6.00x (2.00 to 6.00)"
    missed = ladder({"B0": [44.0] * 3, "B2": [24.0] * 3, "B5": [10.0] * 3})
    assert [bar.met for bar in missed.bars] == [False, False, None, None]
    assert "MISSED" in missed.bars[0].sentence()
    assert [bar.met for bar in ladder({"B0": [59.0], "B5": [10.0]}, num_runs=4).bars] == [None] * 4
    ten_epochs = build(replace(WORK, epochs=10), missed.measurements, 10_000, {}).bars
    assert [bar.wanted for bar in ten_epochs[:2]] == [7.0, 3.0]


def test_growth_on_a_cpu_is_the_time_of_a_run_among_many_over_that_among_few() -> None:
    made = [measurement("B5", 10, 1, 20.0), measurement("B5", 200, 1, 420.0)]
    growth = build(WORK, made, 10_000, {}).bars[2]
    assert growth.met
    assert growth.measured is not None
    assert growth.measured.median == pytest.approx(1.05)


def test_the_bars_of_a_gpu_include_time_and_growth() -> None:
    made = [measurement("B5", 10, 1, 4.0), measurement("B5", 100, 1, 20.0), measurement("B5", 500, 1, 300.0)]
    bars = build(replace(WORK, device=Device.cuda), [*made, measurement("B2", 100, 1, 900.0)], 10_000, {}).bars
    assert [bar.met for bar in bars] == [True, True, False]
    assert bars[2].measured is not None
    assert bars[2].measured.median == pytest.approx(1.5)


def test_an_accuracy_beyond_noise_is_flagged_and_said() -> None:
    times = {"B0": [3.0] * 3, "B2": [2.0] * 3, "B5": [1.0] * 3}
    assert not any(row.flagged for row in ladder(times, accuracy={"B5": 0.9695}).rows)
    found = ladder(times, accuracy={"B5": 0.93})
    assert [row.flagged for row in found.rows] == [False, False, True]
    assert table(found)[2]["accuracy %"] == "93.00 (!)"
    assert any("B5 at 6 runs deviates by -4.00 pp" in note for note in found.notes)


def test_the_standard_error_is_that_of_a_difference_of_means() -> None:
    same = [RunResult("none", seed, 0.9) for seed in range(4)]
    assert standard_error(same, 1000) == pytest.approx(math.sqrt(2 / 4 * 0.09 / 1000), rel=0.01)
    spread = [RunResult("none", seed, 0.9 + 0.02 * (seed - 1.5)) for seed in range(4)]
    assert standard_error(spread, 10**9) == pytest.approx(math.sqrt(2 / 4 * 0.02**2 * 5 / 3), rel=0.01)
    assert standard_error([RunResult("none", 0, 1.0)], 100) > 0


def test_one_run_is_told_as_it_is() -> None:
    slower = ladder({"B2": [5.0] * 3, "B5": [10.0] * 3}, num_runs=1)
    assert any("bnexp is slower than (0.50 times the speed of) B2 there" in note for note in slower.notes)
    faster = ladder({"B2": [20.0] * 3, "B5": [10.0] * 3}, num_runs=1)
    assert any("bnexp is 2.00 times as fast as B2 there" in note for note in faster.notes)


def test_what_weakens_the_numbers_is_said() -> None:
    made = [measurement(rung, 6, 1, 10.0) for rung in ("B0", "B2", "B5")]
    notes = " ".join(build(replace(WORK, data=DataName.digits), made, 360, {}).notes)
    for words in ("Fewer than 3 repeats of B0, B2, B5: ", "promises for all of MNIST"):
        assert words in notes
    once = " ".join(ladder({"B0": [60.0], "B5": [10.0] * 3}).notes)
    assert "Fewer than 3 repeats of B0: " in once
    whole = " ".join(ladder({"B0": [60.0] * 3, "B2": [20.0] * 3, "B5": [10.0] * 3}).notes)
    assert "Fewer" not in whole
    assert "promises" not in whole


def test_the_json_has_every_measurement_and_no_special_values() -> None:
    made = ladder({"B0": [60.0] * 3, "B5": [10.0] * 3})
    values = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert len(values["measurements"]) == 6
    assert values["rows"][1]["over_b0"]["median"] == 6.0
    assert [bar["met"] for bar in values["bars"]] == [True, None, None, None]
    assert values["work"] == {"data": "mnist", "train_size": None, "epochs": 1, "device": "cpu"}
    result = made.measurements[0].result
    assert RungResult.from_json(result.to_json()) == result


def test_estimates_grow_with_the_runs_and_give_way_to_measurements() -> None:
    plan = Plan(list(RUNGS), [1, 6], 3, WORK, 1e9)
    before = plan.estimate()
    assert all(before[rung, 6] > before[rung, 1] > 0 for rung in RUNGS if not rung.startswith("S"))  # type: ignore[operator]
    assert before["S0", 20] > before["S1", 20] > 0  # type: ignore[operator]
    after = plan.estimate([measurement("B2", 1, 1, 1000.0)])
    assert after["B2", 1] == 1000.0
    assert 5000 < (after["B2", 6] or 0) <= 6000
    assert after["B0", 6] == before["B0", 6]
    both = plan.estimate([measurement("B2", 6, 1, 700.0), measurement("B2", 1, 1, 500.0)])
    assert (both["B2", 1], both["B2", 6]) == (500.0, 700.0)
    more = replace(plan, num_runs=[12]).estimate([measurement("B2", 1, 1, 500.0), measurement("B2", 6, 1, 700.0)])
    assert 1300 < (more["B2", 12] or 0) <= 1400
    on_gpu = replace(plan, work=replace(WORK, device=Device.cuda))
    assert set(on_gpu.estimate().values()) == {None}


def test_what_would_take_too_long_is_left_out(tmp_path: Path) -> None:
    skipped: list[LeftOut] = []
    plan = Plan(["B0", "B2", "S0"], [1, 6], 1, WORK, 0.0)
    assert list(climb(plan, tmp_path, skipped.append)) == []
    assert [(item.rung, item.num_runs) for item in skipped] == [("B0", 1), ("B2", 1), ("B0", 6), ("B2", 6), ("S0", 20)]
    assert re.fullmatch(r"it would take about \d+ s each time", skipped[0].why)


def test_rungs_take_turns_some_of_them_once_and_a_peer_that_fails_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(rung: str, work: Work, repeat: int, folder: Path, environment: object) -> Measurement:
        if rung == "P2":
            raise BenchError("no agent")
        return measurement(rung, work.num_runs, repeat, 1.0)

    monkeypatch.setattr("bnexp.bench.ladder.measure", measured)
    skipped: list[LeftOut] = []
    plan = Plan(["B0", "B2", "P2", "S0", "S1"], [2], 2, WORK, 1e9, once=["B0"])
    done = [(m.rung, m.repeat, m.num_runs) for m in climb(plan, tmp_path, skipped.append)]
    assert done == [("B0", 1, 2), ("B2", 1, 2), ("B2", 2, 2), ("S0", 1, 20), ("S1", 1, 20), ("S0", 2, 20), ("S1", 2, 20)]
    assert skipped == [LeftOut("P2", 2, "no agent")]


def test_the_table_has_the_limit_and_says_why_a_rung_is_not_there() -> None:
    made = [measurement(rung, 6, 1, seconds) for rung, seconds in (("B0", 80.0), ("B5", 20.0))]
    left_out = [LeftOut("P1", 6, "pip failed: no network")]
    found = build(WORK, made, 10_000, {"matrix products": "200 GFLOP/s"}, left_out, {6: 2.0})
    lines = {line["rung"]: line for line in table(found)}
    assert list(lines) == ["B0", "B5", "limit", "P1"]
    assert (lines["B5"]["over B0"], lines["B5"]["x limit"]) == ("4.00x", "10")
    assert (lines["limit"]["seconds"], lines["limit"]["over B0"], lines["limit"]["over B2"]) == ("2.0", "40x", "")
    assert "200 GFLOP/s" in str(lines["limit"]["adds"])
    assert (lines["P1"]["seconds"], lines["P1"]["adds"]) == ("", "left out: pip failed: no network")
    assert "P1: left out: pip failed: no network" in legend(found)


def test_the_steps_say_what_each_part_gains() -> None:
    seconds = {"B0": 80.0, "B2": 40.0, "B3": 25.0, "B5-torch": 20.0, "B5-local": 15.0, "B5": 16.0, "P1": 64.0}
    found = {(step.slower, step.faster): step.gain.median for step in ladder({name: [s] for name, s in seconds.items()}).steps}
    gains = {("B0", "B2"): 2.0, ("B2", "B3"): 1.6, ("B3", "B5-torch"): 1.25, ("B5-torch", "B5"): 1.25, ("P1", "B5"): 4.0}
    assert found == pytest.approx(gains | {("B5", "B5-local"): 16 / 15})
    assert [(step.slower, step.faster) for step in ladder({"B3": [25.0], "B5": [20.0]}).steps] == [("B3", "B5")]


def test_an_answer_that_comes_sooner_is_promised_for_large_effects_only() -> None:
    made = [settling("S0", 1, 20.0, 10), settling("S1", 1, 13.0, 6), settling("S0", 2, 40.0, 10), settling("S1", 2, 24.0, 6)]
    found = build(WORK, made, 10_000, {})
    assert found.bars[-1].sentence().endswith("d_z > 2 (here 2.50): at most 0.7x: met, 0.62x (0.60 to 0.65)")
    assert [(line["runs"], line["rung"]) for line in table(found)] == [(20, "S0"), (12, "S1")]
    assert table(found)[1]["adds"].endswith("SUPPORTED with 6 seeds, d_z 2.50 (none 94.00 %, after_pool 97.00 %)")  # type: ignore[union-attr]
    small = build(WORK, [settling("S0", 1, 20.0, 10, effect=1.5), settling("S1", 1, 30.0, 10)], 10_000, {}).bars[-1]
    assert small.met is None
    assert "does not apply, 1.50x" in small.sentence()


def test_what_a_study_concluded_is_read_from_its_record(tmp_path: Path) -> None:
    result, _ = made_reports.record(made_reports.STUDIES["batchnorm"](), tmp_path)
    write_json(tmp_path / "batchnorm" / "study-1a2b3c4d" / "verdict.json", result.to_dict())
    found, comparison = concluded(tmp_path), result.comparisons[0]
    assert (found.verdict, found.num_seeds, found.effect) == (result.verdict, comparison.n, comparison.effect)
    assert found.accuracies == {arm.arm: arm.mean for arm in result.arms}


def test_a_peer_is_compared_by_its_spread_and_not_at_all_with_one_seed() -> None:
    rows = {row.rung: row for row in ladder({"B0": [3.0], "B5": [1.0], "P1": [2.0]}, accuracy={"P1": 0.9}).rows}
    assert (rows["P1"].flagged, rows["P1"].apart) == (True, None)
    assert (rows["B0"].apart, rows["B5"].apart) == (None, 0.0)
    assert not any(row.flagged for row in ladder({"B0": [3.0], "P1": [2.0]}, num_runs=2, accuracy={"P1": 0.9}).rows)
