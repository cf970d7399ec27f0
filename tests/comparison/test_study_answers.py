"""What every study file answers to three made outcomes: as its claim predicts, the opposite, and nothing clear."""

from __future__ import annotations

import os
import re
import shlex
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from made_studies import Made, composed, made_result
from scipy import stats

from bnexp.comparison.result import Comparison, StudyResult, Test, Verdict, leading
from bnexp.comparison.text import p_equals
from bnexp.comparison.words import at_level
from bnexp.config.options import Direction
from bnexp.config.schema import StudyConfig
from bnexp.plan.compose import compose
from bnexp.plan.session import groups

STUDIES = groups()["study"]
ANSWERS = Path(__file__).with_name("study_answers.md")
UPDATE = "BNEXP_WRITE_ANSWERS=1 pytest tests/comparison/test_study_answers.py"
EXPECTED = {
    Made.textbook: (Verdict.SUPPORTED, "Yes: "),
    Made.opposite: (Verdict.REFUTED, "No: "),
    Made.unclear: (Verdict.INCONCLUSIVE, "Not settled: "),
}
# (study, outcome) -> why the study file does not allow it: a file to correct.
NOT_SHOWN: dict[tuple[str, Made], str] = {}
CASES = [pytest.param(name, made, id=f"{name}-{made.name}") for name in STUDIES for made in Made]
MOST_CHARACTERS = 490


@cache
def found(name: str, made: Made) -> StudyResult:
    return made_result(name, made)


@pytest.mark.parametrize(("name", "made"), CASES)
def test_a_study_can_be_supported_refuted_and_left_open(name: str, made: Made) -> None:
    verdict, word = EXPECTED[made]
    result = found(name, made)
    shown = result.verdict is verdict and result.answer.startswith(word)
    if why := NOT_SHOWN.get((name, made)):
        assert not shown, f"{name} can be {verdict} now; take it off NOT_SHOWN, which says: {why}"
        pytest.xfail(why)
    assert shown, result.answer


@pytest.mark.parametrize(("name", "made"), CASES)
def test_an_answer_is_a_sentence_for_a_reader(name: str, made: Made) -> None:
    result = found(name, made)
    answer = result.answer
    assert " on mnist" in answer
    assert f"n = {composed(name).study.seeds} paired seeds" in answer
    assert len(re.findall(r"\bp (?:=|<)", answer)) == 1
    assert len(re.findall(r"TOST|t test\b|Page's test|sign-flip test", answer)) == 1
    assert len(answer) <= MOST_CHARACTERS
    for avoided in ("octave", "In part", "nan", "[]", "–", "_name", "  ", "80 %"):
        assert avoided not in answer
    assert not re.search(
        r"\b(optim|model|train|data|landscape|covariate_shift|cost)[./]\w", answer
    )  # a key or the name of a metric
    assert answer.endswith(".")


@pytest.mark.parametrize("name", STUDIES)
def test_an_open_question_says_what_would_settle_it(name: str) -> None:
    remedy = found(name, Made.unclear).remedy
    assert remedy is not None
    assert remedy.text.endswith(".")
    if remedy.command:
        program, word, study, *overrides = shlex.split(remedy.command)
        assert (program, word, study) == ("bnexp", "study", name)
        keys = [text for text in overrides if "=" in text]
        compose([f"study={name}", *(text for text in keys if "," not in text)])  # which refuses what cannot run
        assert set(overrides) - set(keys) <= {"--until-settled", "--max-seeds", *map(str, range(6, 101))}
    assert found(name, Made.textbook).remedy is None
    assert found(name, Made.opposite).remedy is None


@pytest.mark.parametrize("name", STUDIES)
def test_what_is_also_measured_has_no_weight(name: str) -> None:
    """Made outcomes shift it against the verdict, and it has none of its own."""
    for made in Made:
        result = found(name, made)
        assert result.deciding
        assert [c for c in result.comparisons if c.verdict is not None] == result.deciding
        assert result.lead in result.deciding


def p_of(c: Comparison) -> float:
    """The p of the test that the answer names, by scipy, before Holm's correction."""
    d = np.array(c.differences)
    if c.shows_equivalence or (c.tolerates and not c.shows_difference):
        if c.direction == Direction.at_least:
            return float(stats.ttest_1samp(d, -c.margin, alternative="greater").pvalue)
        sides = (stats.ttest_1samp(d, -c.margin, alternative="greater"), stats.ttest_1samp(d, c.margin, alternative="less"))
        return float(max(side.pvalue for side in sides))
    if c.test is Test.sign_flip:
        flips = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
        return float(flips.pvalue)
    return float(stats.ttest_1samp(d, 0).pvalue)


@pytest.mark.parametrize(("name", "made"), CASES)
def test_the_p_of_an_answer_is_that_of_scipy(name: str, made: Made) -> None:
    result = found(name, made)
    lead = leading(result.deciding, result.verdict)
    assert lead is not None
    if lead.test is Test.page:
        pytest.skip("Page's test is compared with scipy in test_stats")
    equivalence = lead.shows_equivalence or (lead.tolerates and not lead.shows_difference)
    p = lead.p_equivalence if equivalence else lead.p_test
    assert p == pytest.approx(p_of(lead), rel=1e-6)
    adjusted = lead.p_equivalence_adjusted if equivalence else lead.p_adjusted
    assert p <= adjusted <= min(1.0, len(result.deciding) * p) * (1 + 1e-9)
    assert p_equals(adjusted) in result.answer


def described(c: Comparison) -> str:
    return f"{c.arm} against {c.baseline}{at_level(c)}, {c.measure}: {c.direction}"


def section(name: str) -> str:
    study: StudyConfig = composed(name).study
    decides = [f"- {described(c)}" for c in found(name, Made.textbook).deciding]
    lines = [f"## {name}", "", f"**{study.question}**", "", f"Claim: {study.claim}", "", "Decided by:", "", *decides, ""]
    for made in Made:
        result = found(name, made)
        remedy = result.remedy
        command = f" `{remedy.command}`" if remedy and remedy.command else ""
        lines += [f"{made.value}: {result.answer}{f' {remedy.text}{command}' if remedy else ''}", ""]
    return "\n".join(lines[:-1])


def test_the_answers_of_all_studies_are_on_file() -> None:
    head = f"# What every study answers to made outcomes\n\nThe numbers are made up. Written by `{UPDATE}`.\n"
    text = "\n".join([head, "\n\n".join(map(section, STUDIES)), ""])
    if os.environ.get("BNEXP_WRITE_ANSWERS"):
        ANSWERS.write_text(text)
    recorded = ANSWERS.read_text() if ANSWERS.exists() else ""
    changed = [name for name in STUDIES if section(name) not in recorded]
    assert recorded == text, (
        f"{ANSWERS.name} has other answers of {', '.join(changed) or 'nothing'}; read the new ones: {UPDATE}"
    )
