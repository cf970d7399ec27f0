"""The figure of the differences as the seeds came."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import made_reports
import pytest

from bnexp.comparison.looks import rule_of
from bnexp.comparison.result import StudyResult
from bnexp.comparison.sequential import Rule
from bnexp.report.charts import sequences
from bnexp.report.sequence import watched


def made(name: str, root: Path) -> StudyResult:
    return made_reports.record(made_reports.STUDIES[name](), root)[0]


def test_the_last_band_is_the_confidence_sequence_at_all_seeds(tmp_path: Path) -> None:
    result = made("batchnorm", tmp_path)
    (figure,) = sequences(result, ["none", "after_pool"])
    spec = figure.chart.to_dict()
    (c,) = result.deciding
    rows = max((rows for rows in spec["datasets"].values() if "pair" in rows[0]), key=len)
    interval = Rule.again().interval(c.differences, 0.95)
    assert [row["seeds"] for row in rows] == list(range(1, c.n + 1))
    assert (rows[-1]["mean"], rows[-1]["low"], rows[-1]["high"]) == pytest.approx(tuple(interval), rel=1e-4)
    assert rows[4]["low"] is None  # not watched before six seeds
    assert f", {c.n} seeds" in figure.description


def test_each_comparison_that_decides_has_a_chart_that_names_it(tmp_path: Path) -> None:
    result = made("conv_bias", tmp_path)
    assert watched(result) == result.deciding
    titles = [figure.chart.to_dict()["title"] for figure in sequences(result, ["no_bias", "bias"])]
    assert len(set(titles)) == len(result.deciding) > 1
    nothing = replace(result, comparisons=[replace(c, decides=False) for c in result.comparisons])
    assert sequences(nothing, ["no_bias", "bias"]) == []


def test_a_declared_plan_is_drawn_by_its_own_rule(tmp_path: Path) -> None:
    result = made("batchnorm", tmp_path)
    assert rule_of(result) == Rule.again()
    declared = replace(result, rule="declared", study=result.study | {"max_seeds": 20})
    assert rule_of(declared) == Rule.declared(20)
