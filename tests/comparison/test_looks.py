"""Which test a look at a question uses, and what it says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_outcomes import GAIN, pair, result, study

from bnexp.comparison.looks import FIRST, Look, look_at, rule_of
from bnexp.comparison.questions import PastLook, Question
from bnexp.comparison.record import StudyRecord, from_plan, load, question_path, shared_settings
from bnexp.comparison.result import Outcome, PlannedRun, Status, Verdict
from bnexp.comparison.sequential import Rule
from bnexp.config.options import DataName
from bnexp.config.schema import DataConfig, RunConfig
from bnexp.plan.spec import RunSpec
from bnexp.plan.study import Choice
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.store import Store

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


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"study_id": "a"', '"study_id": "../a"', "study_id '../a' is not possible"),
        ('"question_id": "why"', '"question_id": "../why"', "question_id '../why' is not possible"),
        ('"run_id": "none--0"', '"run_id": "*"', "the run id '*' is not possible"),
        ('"max_seeds": null', '"max_seeds": 1', "study.max_seeds=1 is out of range"),
        ('"baseline": "none"', '"baseline": "nome"', "study.baseline=nome is not an arm of study made"),
        ('"factors": {}', '"factors": {"lr": 3}', "study.factors.lr is "),
    ],
)
def test_a_damaged_record_is_refused_with_the_reason(tmp_path: Path, old: str, new: str, reason: str) -> None:
    path = recorded(tmp_path, "a", pair(GAIN)).folder / "study.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DamagedRecord) as damage:
        load(path.parent)
    assert str(damage.value).startswith(f"{path} is damaged: {reason}")
    assert not str(damage.value).endswith("..")


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = recorded(tmp_path, "a", pair(GAIN))
    choice = Choice("none", {"train_size": None}, "optim.lr", 0.1, {0.1: 0.5, 0.2: 0.4}, at_edge=True)
    factors = {"train_size": [None, 100], "norm": {"off": ["norm.kind=none"], "on": ["norm.kind=batch"]}}
    full = replace(record, study=replace(record.study, factors=factors), tuning=[choice], earlier=[FORMER])
    full.save()
    assert load(record.folder) == full
    replace(full, tuning=[replace(choice, value=0.3)]).save()
    with pytest.raises(DamagedRecord, match=r"tuning.accuracies lacks the chosen value"):
        load(record.folder)


def test_a_record_names_the_command_that_runs_it_again(tmp_path: Path) -> None:
    record = replace(recorded(tmp_path, "a", []), overrides=["data=mnist", "study.seeds=[0, 1]"])
    assert record.command == "bnexp study made data=mnist 'study.seeds=[0, 1]'"


def test_a_plan_of_one_run_is_recorded(tmp_path: Path) -> None:
    spec = RunSpec(RunConfig(data=DataConfig(name=DataName.digits), seed=4))
    plan = SimpleNamespace(study=study("none"), study_id="a", question_id="why", specs=[spec], choices=[], added={})
    record = from_plan(plan, ["data=digits"], Store(tmp_path))
    assert (record.data.name, record.overrides, [run.seed for run in record.runs]) == ("digits", ["data=digits"], [4])


def test_settings_are_named_if_all_runs_share_them_and_they_are_not_the_usual_ones() -> None:
    default = RunConfig()
    wide = [replace(default, seed=seed, data=replace(default.data, train_size=500)) for seed in range(2)]
    named = shared_settings(wide)
    assert (named["data.train_size"], named["train.epochs"]) == ("500", str(default.train.epochs))
    assert "data.train_size" not in shared_settings([default])
    mixed = [*wide, replace(default, train=replace(default.train, epochs=3))]
    assert not {"data.train_size", "train.epochs"} & set(shared_settings(mixed))


@pytest.mark.parametrize(
    ("rule", "max_seeds", "expected"),
    [
        ("declared", 40, Rule.declared(40)),
        ("declared", None, Rule.again()),
        ("again", 40, Rule.again()),
        ("", None, Rule.again()),
        ("", 40, Rule.again()),
    ],
)
def test_a_result_is_drawn_with_the_rule_that_it_was_looked_at_with(rule: str, max_seeds: int | None, expected: Rule) -> None:
    made = study("none", "after_pool", max_seeds=max_seeds)
    assert rule_of(replace(result(made, pair(GAIN)), rule=rule)) == expected
    looked = result(made, pair(GAIN), look=Look(expected))
    assert looked.rule == expected.name
    assert rule_of(looked) == expected


def test_a_record_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedRecord, match=r"study.json is damaged: it is not there"):
        load(tmp_path)
