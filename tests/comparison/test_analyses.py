"""Each analysis is one file, and the answer is told in its words."""

from __future__ import annotations

import pytest
from made_outcomes import GAIN, pair, result, study

from bnexp.comparison.analyses import ANALYSES
from bnexp.comparison.levels import Levels
from bnexp.comparison.result import Comparison
from bnexp.config.options import Analysis


def test_every_analysis_that_a_study_can_name_is_listed_and_has_a_file_of_its_own() -> None:
    files = {analysis: type(method).__module__ for analysis, method in ANALYSES.items()}
    assert files == {analysis: f"bnexp.comparison.{analysis}" for analysis in Analysis}


def test_an_analysis_brings_its_own_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    class Told(Levels):
        def different(self, c: Comparison) -> str:
            return f"{c.arm} beats {c.baseline}"

    monkeypatch.setitem(ANALYSES, Analysis.levels, Told())
    found = result(study("none", "after_pool", direction="greater"), pair(GAIN))
    assert found.answer == (
        "Yes: after_pool beats none on mnist with learning rate 0.01, 10 epochs (n = 10 paired seeds, paired t test p < .001; "
        "larger than the margin of 0.20 pp)."
    )
