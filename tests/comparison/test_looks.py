"""Which test a look at a question uses, and what it says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_outcomes import GAIN, pair, result, study

from bnexp.comparison.looks import FIRST, Look, look_at
from bnexp.comparison.questions import PastLook, Question
from bnexp.comparison.record import StudyRecord, load, question_path
from bnexp.comparison.result import Outcome, PlannedRun, Status, Verdict
from bnexp.comparison.sequential import Rule
from bnexp.config.schema import DataConfig

FORMER = PastLook("abc", 6, "INCONCLUSIVE", "2026-01-01")


def test_the_first_conclusion_at_the_planned_number_needs_no_words() -> None:
    look = look_at([], None, unfinished=False)
    assert look == FIRST == Look(None, (), False)
    assert (look.alpha, look.sentence) == (0.05, "")


@pytest.mark.parametrize("unfinished", [False, True])
def test_a_declared_plan_says_so(unfinished: bool) -> None:
    look = look_at([], 40, unfinished=unfinished)
    assert look == Look(Rule.declared(40), unfinished=unfinished)
    assert look.sentence == (
        "Seeds are added until it is settled, at most 40. This was declared before the first run, so the test is valid at "
        "every look (level .05)."
    )


def test_a_part_of_the_runs_is_looked_at_with_a_test_that_allows_it() -> None:
    look = look_at([], None, unfinished=True)
    assert look == Look(Rule.again(), unfinished=True)
    assert look.alpha == 0.01
    assert look.sentence == (
        "Not all planned runs are made yet, so a test that is valid however often one looks decides, at level .01."
    )


@pytest.mark.parametrize("max_seeds", [None, 40])
def test_a_further_look_names_the_first_one(max_seeds: int | None) -> None:
    later = PastLook("def", 8, "SUPPORTED", "2026-01-02")
    look = look_at([FORMER, later], max_seeds, unfinished=False)
    assert look == Look(Rule.again(), [FORMER, later])  # a plan that comes after looking is no plan beforehand
    assert look.sentence == (
        "This is look 3 at this question, which was INCONCLUSIVE with 6 seeds, so a test that is valid however often one looks "
        "decides, at level .01."
    )


@pytest.mark.parametrize(
    ("before", "seeds", "valid"),
    [
        ([], [0, 1, 2, 3, 4, 5, 6], True),
        ([], [5, 4, 3, 2, 1, 0], True),  # in whatever order they were given
        ([], [0, 1, 2], True),
        ([], [0, 1, 2, 3, 4, 6], False),
        ([], [6, 7, 8], True),
        ([], [5, 6, 7], False),
        ([3, 9, 4], [3, 4, 9, 12], True),
        ([3, 9, 4], [0, 1, 2], True),
        ([3, 9, 4], [0, 1, 2, 3], False),
    ],
)
def test_seeds_go_on_from_a_look_or_share_none_with_it(before: list[int], seeds: list[int], valid: bool) -> None:
    """The first records did not tell the seeds: they were the first ones."""
    assert PastLook("abc", 6, "SUPPORTED", "2026-01-01", before).is_continued_by(seeds) is valid


def test_a_study_that_is_concluded_again_keeps_its_place() -> None:
    first = Question([FORMER]).concluded("def", 8, "SUPPORTED", range(8))
    again = first.concluded("abc", 7, "REFUTED", range(7))
    assert [(past.study_id, past.num_seeds, past.verdict) for past in again.looks] == [
        ("abc", 7, "REFUTED"),
        ("def", 8, "SUPPORTED"),
    ]
    assert again.looks[0].at == FORMER.at
    assert again.looks[0].seeds == list(range(7))
    assert again.before("abc") == []
    assert again.before("def") == again.looks[:1]
    assert again.before("new") == again.looks


def recorded(runs: Path, study_id: str, outcomes: list[Outcome], question_id: str = "why") -> StudyRecord:
    """The record of a study with these runs, written to a folder of its own."""
    planned = [PlannedRun(o.run_id, o.arm, o.levels, o.seed) for o in outcomes]
    made = study("none", "after_pool")
    folder = runs / f"study-{study_id}"
    folder.mkdir(parents=True)
    record = StudyRecord(made, study_id, [], DataConfig(), {}, planned, question_id=question_id, folder=folder)
    record.save()
    return record


def test_a_verdict_is_a_look_that_later_studies_of_the_question_know(tmp_path: Path) -> None:
    first, other, later = (recorded(tmp_path, name, pair(GAIN)) for name in ("a", "b", "c"))
    unfinished = [replace(o, status=Status.missing, value=None) if o.seed == 9 and o.arm == "none" else o for o in pair(GAIN)]
    assert not first.concluded
    first.save_verdict(result(first.study, unfinished))
    assert first.concluded
    assert json.loads((first.folder / "verdict.json").read_text())["verdict"] == "SUPPORTED"
    (look,) = Question.read(question_path(first.folder, "why")).looks
    assert (look.study_id, look.num_seeds, look.verdict, look.seeds) == ("a", 9, Verdict.SUPPORTED, list(range(10)))
    assert later.up_to_date() == replace(later, earlier=[look])
    assert first.up_to_date().earlier == []
    other.save_verdict(result(other.study, pair(GAIN)))
    assert [past.study_id for past in later.up_to_date().earlier] == ["a", "b"]
    assert load(later.folder).earlier == []  # what was known when it was written


def test_too_few_seeds_are_no_look(tmp_path: Path) -> None:
    short, later = (recorded(tmp_path, name, pair(GAIN[:3])) for name in ("a", "b"))
    short.save_verdict(result(short.study, pair(GAIN[:3])))
    assert short.concluded
    assert not question_path(short.folder, "why").exists()
    assert later.up_to_date() is later


def test_a_record_without_a_question_counts_no_looks(tmp_path: Path) -> None:
    old = recorded(tmp_path, "a", pair(GAIN), question_id="")
    old.save_verdict(result(old.study, pair(GAIN)))
    assert [path.name for path in tmp_path.iterdir()] == ["study-a"]
    assert old.concluded
    assert old.up_to_date() is old
    assert load(old.folder) == old
