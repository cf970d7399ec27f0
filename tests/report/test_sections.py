"""What a report says: numbers that agree with the records, nothing dropped; and the charts drawn from them."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import altair as alt
import made_reports
import numpy as np
import polars as pl
import pytest
from pages import Page

from bnexp.comparison.result import StudyResult
from bnexp.comparison.varying import setting_text
from bnexp.report import charts, curves, figures, style
from bnexp.report.claims import tell
from bnexp.report.courses import summarise
from bnexp.report.factor import Factor
from bnexp.report.html import render
from bnexp.report.predictions import data_uri
from bnexp.report.reliability import binned, calibration_error
from bnexp.report.sections import Report, paired_differences
from bnexp.tracking.store import Store

Get = Callable[[str], Report]


def test_differences_average_to_the_comparisons(reports: Get) -> None:
    for name in made_reports.STUDIES:
        report = reports(name)
        for c in report.result.comparisons:
            keys = {"arm": c.arm, "baseline": c.baseline, "level": c.level, "measure": c.measure}
            mine = paired_differences(report.result).filter(*(pl.col(key) == value for key, value in keys.items()))
            assert mine.height == c.n
            assert mine["difference"].mean() == pytest.approx(c.difference)


def test_curves_are_means_over_seeds_of_runs_that_did_not_diverge(reports: Get) -> None:
    report = reports("learning_rate")
    summary = summarise(report.curves)
    cell = report.curves.filter(
        (pl.col("arm") == "none") & (pl.col("level") == "lr=0.128") & (pl.col("metric") == "val/accuracy")
    )
    finished = sum(o.status == "finished" for o in report.result.outcomes if (o.arm, o.level) == ("none", "lr=0.128"))
    last = summary.filter(pl.col("epoch") == 10).filter(arm="none", level="lr=0.128", metric="val/accuracy").to_dicts()[0]
    values = 100 * cell.filter(pl.col("epoch") == 10)["value"]
    assert last["n"] == finished < 6
    assert (last["mean"], last["low"], last["high"]) == pytest.approx((values.mean(), values.min(), values.max()))


def _built(plan: made_reports.Synthetic, result: StudyResult, store: Store, root: Path) -> Report:
    record = made_reports.study_record(plan, result, root)
    return made_reports.build(record, result, store, facts=made_reports.facts(made_reports.DIGITS), images=None)


def test_every_planned_run_is_a_value_or_an_incident(reports: Get) -> None:
    for name in made_reports.STUDIES:
        report = reports(name)
        finished = sum(o.status == "finished" for o in report.result.outcomes)
        assert finished + len(report.incidents) == len(report.result.outcomes)


def test_missing_record_is_an_incident(tmp_path: Path) -> None:
    plan = made_reports.batchnorm()
    result, store = made_reports.record(plan, tmp_path)
    outcome = made_reports.Outcome("none", "", {}, 99, made_reports.Status.missing, None, "0" * 12)
    result.outcomes.append(outcome)
    report = _built(plan, result, store, tmp_path)
    assert [i.detail for i in report.incidents if i.seed == 99] == ["planned, but no record was found"]


def test_a_stuck_run_is_an_incident_with_its_reason_everywhere(tmp_path: Path) -> None:
    plan, why = made_reports.batchnorm(), "training accuracy 11.2 % after 10 epochs, guessing gives up to 11.6 %"
    found, store = made_reports.record(plan, tmp_path)
    outcomes = [dataclasses.replace(o, stuck=why) if (o.arm, o.seed) == ("none", 2) else o for o in found.outcomes]
    result = made_reports.analyse(plan.study, outcomes, study_id="0", margin=0.2, settings=found.settings, chance=0.1)
    report = _built(plan, result, store, tmp_path)
    assert [(i.seed, i.status, i.detail) for i in report.incidents if i.arm == "none"] == [(2, "stuck", why)]
    page = Page(render(report))
    assert page.text.count("1 stuck") == 2  # of the arm, and of all runs
    assert why in page.text
    assert "1 stuck" in tell(made_reports.study_record(plan, result, tmp_path), result, store, tmp_path).runs


def test_configuration_tells_arms_factors_and_fixed_apart(reports: Get) -> None:
    plain = reports("batchnorm").configuration
    assert plain.differing == {"norm.kind": {"none": "none", "after_pool": "batch"}}
    assert plain.varied["seed"] == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert plain.fixed["optim.lr"] == "0.01"
    rates = reports("learning_rate").configuration
    assert "optim.lr" in rates.varied
    assert "optim.lr" not in rates.differing
    biases = reports("conv_bias").configuration
    assert list(biases.differing) == ["model.conv_bias"]
    assert set(biases.varied) == {"seed", "norm.kind", "norm.placement"}


def test_focus_is_the_level_with_the_best_mean_over_arms(reports: Get) -> None:
    report = reports("learning_rate")
    means = {level: np.mean([s.mean for s in report.result.arms if s.level == level]) for level in report.levels}
    assert means[report.focus] == max(means.values())


def test_factor_is_numeric_and_logarithmic_only_where_it_should_be(reports: Get) -> None:
    rates, biases = reports("learning_rate").factor, reports("conv_bias").factor
    assert rates
    assert biases
    assert (rates.numeric, rates.log, rates.frame.height) == (True, True, 22)
    assert (biases.numeric, biases.log, biases.frame["x"].to_list()[::2]) == (
        False,
        False,
        ["none", "before_activation", "after_pool"],
    )
    assert reports("batchnorm").factor is None


def test_agreement_counts_every_image_once(reports: Get) -> None:
    section = reports("placement").predictions
    assert section
    assert len(section.agreements) == 6
    for a in section.agreements:
        assert a.both_right + a.only_arm + a.only_other + a.both_wrong == pytest.approx(section.num_images)
        assert a.differing * section.num_images >= a.only_arm + a.only_other - 1e-9
    for matrix in section.confusions.values():
        assert matrix.sum() == pytest.approx(section.num_images)


def test_gallery_has_every_arm_for_every_image_and_leads_with_disagreements(reports: Get) -> None:
    report = reports("placement")
    assert report.predictions
    gallery = report.predictions.gallery
    assert all([row.arm for row in image.rows] == report.arms for image in gallery)
    assert gallery[0].disagreement
    assert all((row.prediction == image.truth) == row.correct for image in gallery for row in image.rows)
    assert len(gallery) <= 24 + 5 * 16


def test_pictures_survive_the_data_uri() -> None:
    import base64
    import io

    from PIL import Image

    rng = np.random.default_rng(0)
    for shape in ((32, 32, 1), (32, 32, 3)):
        pixels = rng.integers(0, 256, shape).astype(np.uint8)
        raw = base64.b64decode(data_uri(pixels).removeprefix("data:image/png;base64,"))
        assert np.array_equal(np.array(Image.open(io.BytesIO(raw))).reshape(shape), pixels)


def test_arms_keep_their_colour_in_every_chart(reports: Get) -> None:
    report = reports("conv_bias")
    assert report.factor
    summary = summarise(report.curves)
    drawn = [
        curves.learning_curve(summary, "val/loss", report.arms, report.focus),
        figures.factor_plot(report.factor, "", report.arms, "test/accuracy", "pp"),
        figures.difference_plot(paired_differences(report.result), report.result.comparisons, report.arms),
    ]
    found = []

    def walk(node: object) -> None:
        if isinstance(node, dict):
            channels = [node[key] for key in ("fill", "stroke") if isinstance(node.get(key), dict)]
            shown = [channel for channel in channels if channel.get("field") == "arm"]
            assert all(channel["title"] is None for channel in shown)  # no heading over the names of arms
            found.extend(dict(zip(c["scale"]["domain"], c["scale"]["range"], strict=True)) for c in shown)
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    for chart in drawn:
        walk(style.spec(chart))
    assert len(found) >= 5
    assert all(colours == {"no_bias": style.COLOURS[0], "bias": style.COLOURS[1]} for colours in found)


def test_loss_is_logarithmic_only_where_it_falls_far() -> None:
    row = {"arm": "a", "level": "", "metric": "val/loss", "n": 1}
    near = pl.DataFrame([row | {"epoch": e, "mean": v, "low": v, "high": v} for e, v in ((1, 2.0), (2, 1.9))])
    far = pl.DataFrame([row | {"epoch": e, "mean": v, "low": v, "high": v} for e, v in ((1, 2.0), (2, 0.1))])
    kinds = [
        style.spec(curves.learning_curve(f, "val/loss", ["a"], ""))["layer"][1]["encoding"]["y"]["scale"] for f in (near, far)
    ]
    assert kinds[0].get("type") is None
    assert kinds[1]["type"] == "log"


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 10, 11, 30, 90, 1000])
def test_epoch_ticks_are_distinct_whole_numbers(epochs: int) -> None:
    rows = [
        {"arm": "a", "level": "", "metric": "val/loss", "n": 1, "mean": 1.0, "low": 1.0, "high": 1.0, "epoch": e + 1}
        for e in range(epochs)
    ]
    chart = style.spec(curves.learning_curve(pl.DataFrame(rows), "val/loss", ["a"], ""))
    ticks = chart["layer"][0]["encoding"]["x"]["axis"]["values"]
    assert ticks[0] == 1
    assert ticks == sorted({int(t) for t in ticks})
    assert len(ticks) == epochs if epochs <= 11 else 4 <= len(ticks) <= 11
    assert ticks[-1] <= epochs


def _axis(chart: alt.LayerChart) -> dict[str, Any]:
    return dict(style.spec(chart)["layer"][0]["encoding"]["y"])


def _factor_axis(factor: Factor, low: float, high: float, metric: str, unit: str) -> dict[str, Any]:
    frame = factor.frame.with_columns(low=pl.lit(low), mean=pl.lit((low + high) / 2), high=pl.lit(high))
    return _axis(figures.factor_plot(dataclasses.replace(factor, frame=frame), "", ["none", "after_pool"], metric, unit))


def test_axes_end_at_round_numbers_close_to_the_data(reports: Get) -> None:
    factor = reports("learning_rate").factor
    assert factor
    near = _factor_axis(factor, 94.1, 97.2, "test/accuracy", "pp")
    assert (near["scale"]["domain"], near["title"]) == ([94, 97.5], "test/accuracy (%)")
    assert near["axis"]["values"] == [94, 95, 96, 97]
    gap = _factor_axis(factor, -60, 140, "gap/accuracy", "pp")
    assert (gap["scale"]["domain"], gap["title"]) == ([-60, 140], "gap/accuracy (pp)")  # a gap may be below 0
    assert _factor_axis(factor, 0.9, 3.2, "test/loss", "nats")["scale"]["domain"] == [0.5, 3.5]
    same = _factor_axis(factor, 100.0, 100.0, "test/accuracy", "pp")["scale"]["domain"]
    assert same[0] < 100 == same[1]


def test_an_axis_that_does_not_begin_at_0_says_so(reports: Get) -> None:
    factor = reports("conv_bias").factor
    assert factor
    title = style.spec(figures.factor_plot(factor, "", ["no_bias", "bias"], "test/accuracy", "pp"))["title"]
    low = _axis(figures.factor_plot(factor, "", ["no_bias", "bias"], "test/accuracy", "pp"))["scale"]["domain"][0]
    assert title["subtitle"] == f"The axis begins at {low:g} %, not at 0."
    frame = factor.frame.with_columns(low=pl.lit(0.0), mean=pl.lit(5.0), high=pl.lit(9.0))
    whole = figures.factor_plot(dataclasses.replace(factor, frame=frame), "", ["no_bias", "bias"], "test/accuracy", "pp")
    assert style.spec(whole)["title"] == "test/accuracy over norm"


def test_an_accuracy_over_a_wide_range_is_drawn_by_its_error(reports: Get) -> None:
    """94 and 97 % are far apart although others guess; 100 % has a place; ends of an accuracy are 0 and 100 %."""
    factor = reports("learning_rate").factor
    assert factor
    wide = _factor_axis(factor, 10.0, 98.0, "test/accuracy", "pp")
    assert (wide["field"], wide["scale"]["type"], wide["scale"]["reverse"]) == ("low_error", "symlog", True)
    low, high = wide["scale"]["domain"]
    height = {a: math.log1p((100 - a) / wide["scale"]["constant"]) for a in (94, 97)}
    whole = math.log1p(high / wide["scale"]["constant"]) - math.log1p(low / wide["scale"]["constant"])
    assert (height[94] - height[97]) / whole > 0.1 > 3 / 90
    assert {2, 5, 10, 50, 90} <= set(wide["axis"]["values"])
    assert all(low <= tick <= high for tick in wide["axis"]["values"])
    assert _factor_axis(factor, -60.0, 140.0, "test/accuracy", "pp")["scale"]["domain"] == [0, 100]


def test_each_level_has_the_axis_of_its_own_curves(reports: Get) -> None:
    report = reports("learning_rate")
    summary = summarise(report.curves)
    chart = style.spec(curves.learning_curve(summary, "val/accuracy", report.arms, report.focus))
    axes = next(param["value"] for param in chart["params"] if param["name"] == "axes")
    assert set(axes) == set(summary["level"])
    for level, axis in axes.items():
        own = summary.filter(metric="val/accuracy", level=level)
        assert axis["low"] <= 100 - own["high"].max() <= 100 - own["low"].min() <= axis["high"]  # type: ignore[operator]
        assert axis["ticks"]
        assert axis["about"][0] == f"At {level}"
    assert chart["title"]["subtitle"] == axes[report.focus]["about"]


def test_paired_differences_keep_away_from_the_edges_and_the_labels(reports: Get) -> None:
    report = reports("batchnorm")
    (c,) = report.result.comparisons
    one = dataclasses.replace(c, n=1, difference=3.0, low=math.nan, high=math.nan)
    for comparison, points in ((one, [3.0]), (c, paired_differences(report.result)["difference"].to_list())):
        frame = pl.DataFrame([paired_differences(report.result).row(0, named=True) | {"difference": value} for value in points])
        chart = style.spec(figures.difference_plot(frame, [comparison], report.arms))
        encoding = chart["layer"][2]["encoding"]
        low, high = encoding["x"]["scale"]["domain"]
        least, greatest = min(0, -c.margin, *points), max(0, c.margin, *points)
        assert low <= least - 0.05 * (greatest - least)
        assert high >= greatest + 0.05 * (greatest - least)
        assert encoding["y"]["axis"].get("labelOffset", 0) == 0
        assert encoding["y"]["axis"].get("labelAlign", "right") == "right"  # outside the plot, on its left


def test_reliability_is_accuracy_over_confidence_in_bins_closed_above() -> None:
    edge = float(np.float32(13 / 15))
    frame = pl.DataFrame({"confidence": [0.5, 0.5, edge, 0.9, 1.0], "correct": [True, False, True, False, True]})
    found = binned([frame, frame]).rows()
    expected = [(7, 0.5, 0.5, 0.4), (12, edge, 1.0, 0.2), (13, 0.9, 0.0, 0.2), (14, 1.0, 1.0, 0.2)]
    assert [row[0] for row in found] == [row[0] for row in expected]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert calibration_error(frame) == pytest.approx((2 / 15 + 0.9) / 5, rel=1e-6)


def test_reliability_is_drawn_for_studies_that_ask_for_it_with_the_error_of_each_arm(reports: Get) -> None:
    report = reports("batchnorm")
    assert "How far confidence can be trusted" in render(report)
    assert "How far confidence can be trusted" not in render(reports("placement"))
    (figure,) = charts.reliability(report.frames, report.arms, report.focus)
    spec = style.spec(figure.chart)
    for k, (arm, frames) in enumerate(report.frames.items()):
        error = np.mean([calibration_error(frame) for frame in frames.values()])
        assert f"{arm} {100 * error:.2f} %, " in figure.description
        names = spec["datasets"][spec["layer"][-1]["data"]["name"]]
        assert names[k]["text"] == f"{arm}: ECE {100 * error:.2f} %"
        points = [row for row in spec["datasets"][spec["layer"][2]["data"]["name"]] if row["arm"] == arm]
        assert sum(row["share"] for row in points) == pytest.approx(100, abs=1e-3)
        assert {row["seeds"] for row in points} == {len(frames)}
        assert [row["ece"] for row in points] == pytest.approx([100 * error] * len(points), abs=1e-4)
    assert charts.reliability({}, report.arms, "") == []


def test_damaged_predictions_cost_one_run_not_the_report(tmp_path: Path) -> None:
    plan = made_reports.batchnorm()
    plan.study.seeds, plan.failed = 4, set()
    result, store = made_reports.record(plan, tmp_path)
    files = sorted(tmp_path.glob("*/*/predictions.parquet"))
    junk = {files[0]: b"junk", files[1]: b"", files[2]: None}
    for file, content in junk.items():
        if content is None:
            pl.DataFrame({"image_id": [1, 2], "other": ["a", "b"]}).write_parquet(file)
        else:
            file.write_bytes(content)
    report = _built(plan, result, store, tmp_path)
    assert report.predictions
    assert sum(report.predictions.num_seeds.values()) == 5
    assert report.notes[: len(result.notes)] == result.notes
    extra = report.notes[len(result.notes) :]
    assert all(sum(str(file) in note for note in extra) == 1 for file in junk)
    assert all(note in html.unescape(render(report)) for note in extra)
    for file in files:
        file.write_bytes(b"junk")
    assert _built(plan, result, store, tmp_path).predictions is None


def test_charts_become_png(reports: Get) -> None:
    matrix = np.eye(30) * 9 + 0.1
    chart = figures.confusion_heatmap(matrix, [f"class {k}" for k in range(30)], "thirty classes")
    picture = style.png(chart, width=300, scale=1.0)
    assert picture.startswith(b"\x89PNG")


def test_configuration_values_read_as_they_are_typed() -> None:
    assert [setting_text(v) for v in (None, True, 1e-5, 0.1, [1, "a"], "x")] == ["null", "true", "1e-05", "0.1", "[1, a]", "x"]


def test_an_analysis_of_change_shows_the_difference_over_the_factor(reports: Get) -> None:
    report = reports("batch_size")
    advantage = report.advantage
    assert advantage
    assert (advantage.baseline, advantage.numeric, advantage.log) == ("none", True, True)
    assert set(advantage.frame["arm"]) == {"before_activation", "after_pool"}
    means = {(s.arm, s.level): s.mean for s in report.result.arms}
    for row in advantage.frame.to_dicts():
        assert row["mean"] == pytest.approx(means[row["arm"], row["level"]] - means["none", row["level"]])
        assert row["low"] < row["mean"] < row["high"]
    chart = style.spec(figures.factor_plot(advantage, "", report.arms, "test/accuracy", "pp"))
    low, high = chart["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert chart["layer"][0]["mark"]["type"] == "rule"
    usual = style.spec(figures.factor_plot(reports("learning_rate").factor, "", report.arms, "test/accuracy", "pp"))
    assert usual["layer"][0]["mark"]["type"] != "rule"  # at zero, which means nothing for accuracies
    assert low < 0 < high < 10  # differences, not per cents
    assert chart["title"] == "test/accuracy, difference from none, over train.batch_size"
    assert all(reports(name).advantage is None for name in ("batchnorm", "learning_rate", "conv_bias"))


def test_probes_are_drawn_by_epoch(reports: Get) -> None:
    report = reports("batch_size")
    summary = summarise(report.probes)
    assert not set(summary["metric"]) & {"val/loss", "learning_rate", "step"}
    chart = style.spec(curves.percentiles(summary, "act2", report.arms, report.focus))
    rows = [row for row in next(iter(chart["datasets"].values())) if row["level"] == report.focus and row["epoch"] == 3]
    assert [row["arm"] for row in rows] == report.arms
    for row in rows:  # means over six seeds: .025 above those of seed 0
        assert (row["low"], row["mean"], row["high"]) == pytest.approx((-2 + 0.325, 0.2 + 0.325, 2.4 + 0.325))
    accuracy = style.spec(curves.learning_curve(summary, "statistics/precise", report.arms, report.focus))
    assert accuracy["layer"][1]["encoding"]["y"]["title"] == "statistics/precise (%)"
    assert next(iter(accuracy["datasets"].values()))[0]["mean"] == pytest.approx(90)
    page = html.unescape(render(report))
    assert all(f'id="probe-{k}"' in page for k in range(4))  # two layers, two metrics of the whole network
    assert 'id="probe-4"' not in page
    assert 'id="advantage-0"' in page
    assert reports("batchnorm").probes.is_empty()


def test_ratios_are_drawn_as_logarithms_and_told_as_ratios(reports: Get) -> None:
    report = reports("batchnorm")
    (c,) = report.result.comparisons
    ratio = dataclasses.replace(c, unit="log2 ratio", measure="updates to target", difference=-1.0, low=-1.5, high=-0.5)
    chart = style.spec(
        figures.difference_plot(
            paired_differences(report.result).with_columns(measure=pl.lit(ratio.measure)), [ratio], report.arms
        )
    )
    assert chart["layer"][1]["encoding"]["x"]["title"].startswith("arm over baseline, log2")
    page = render(dataclasses.replace(report, result=dataclasses.replace(report.result, comparisons=[ratio])))
    assert "<b>0.50×</b><small>0.35 to 0.71</small>" in page
