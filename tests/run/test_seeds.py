"""How many seeds a study trains next, when it stops, and how it goes on: on made results, then on real runs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

import bnexp
from bnexp.comparison.conclude import conclude
from bnexp.comparison.record import from_plan, load
from bnexp.comparison.result import StudyResult, Verdict
from bnexp.config.schema import ConfigError
from bnexp.plan.expand import StudyPlan, expand_study
from bnexp.plan.spec import RunSpec
from bnexp.run import runner, seeds
from bnexp.run.seeds import Clock, growing, next_number, parse_time
from bnexp.tracking.store import Store

SMALL = ["data=digits", "data.train_size=200", "train.epochs=1", "track.wandb.mode=disabled", "executor=inline"]


def test_a_study_starts_with_six_seeds_and_adds_what_fills_the_machine() -> None:
    assert next_number(0, 40, 8) == 6
    assert [next_number(now, 40, 1) for now in (6, 7, 12, 24, 39, 40)] == [7, 8, 14, 28, 40, 40]
    assert next_number(6, 40, 4) == 10


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("1.5 h", 5400), ("8h", 28800)])
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "5x", "5m3", "0s", "-5m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"time=.*(like 90s, 30m, 8h or 1h30m|above 0, like 30m)\."):
        parse_time(text)


def test_what_lets_a_study_grow() -> None:
    assert growing([], False, None) == []
    assert growing([], True, None) == ["study.max_seeds=40"]
    assert growing(["study.max_seeds=20"], True, None) == []
    assert growing([], False, 12) == ["study.max_seeds=12"]


def test_time_is_compared_with_what_seeds_took(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(seeds.time, "monotonic", lambda: now[0])
    clock = Clock(100.0, _start=0.0)
    assert clock.allows(1000)  # nothing has trained, so that nothing is known
    now[0] = 60.0
    clock.trained(60.0, 6)
    assert clock.allows(4)
    assert not clock.allows(5)
    assert Clock().allows(10**9)


def test_a_plan_that_grows_has_all_its_seeds_and_one_id() -> None:
    plan = expand_study(["study=batchnorm", *SMALL, "study.max_seeds=12"])
    assert plan.seeds == list(range(12))
    first = plan.first(6)
    assert (first.seeds, first.study_id, len(first.specs)) == (list(range(6)), plan.study_id, 12)
    fixed = expand_study(["study=batchnorm", *SMALL, "study.seeds=7"])
    assert fixed.question_id == plan.question_id
    assert fixed.study_id != plan.study_id
    assert expand_study(["study=batchnorm", *SMALL, "study.max_seeds=13"]).study_id != plan.study_id
    assert expand_study(["study=batchnorm", *SMALL, "optim.lr=0.02"]).question_id != plan.question_id


def test_other_words_and_other_rules_are_no_other_question() -> None:
    """Otherwise a further look would count as a first one."""

    def question(*overrides: str) -> str:
        return expand_study(["study=batchnorm", *SMALL, "study.seeds=6", *overrides]).question_id

    asked = question()
    same = ["study.question=why", "study.claim=x", "study.sources=[x]", "study.seeds=[3,4]", "study.noise_floor=true"]
    same += ["study.max_levels=5", "track.wandb.mode=offline", "executor=local", "study.theme=x"]
    same += ["study.margin=0.5", "data.margin=0.5", "study.direction=less", "study.baseline=null"]
    same += ["study.decides=[{arm: after_pool}]"]
    assert {question(override) for override in same} == {asked}
    other = ["train.epochs=7", "study.metric=val/accuracy", "study.analysis=predictions", "study.tune.grid=[0.1,0.2]"]
    assert len({asked, *map(question, other)}) == 5


def test_a_plan_that_grows_keeps_the_pretraining_of_its_seeds() -> None:
    plan = expand_study(["study=transfer", "data=digits", "budget=smoke", "study.max_seeds=8"])
    first = plan.first(6).runs
    assert first.pretraining is not None
    assert {spec.run_id for spec in first.pretraining.specs} == {spec.config.train.init_from for spec in first.specs}


def test_seeds_of_ones_own_do_not_grow() -> None:
    with pytest.raises(ConfigError, match=r"study.seeds=\[3, 4\] does not go with study.max_seeds=8"):
        expand_study(["study=batchnorm", *SMALL, "study.seeds=[3,4]", "study.max_seeds=8"])


def test_a_number_of_seeds_that_a_growing_plan_does_not_use_is_named() -> None:
    plan = expand_study(["study=batchnorm", *SMALL, "study.seeds=50", "study.max_seeds=8"])
    assert plan.note == "study.seeds is not used: seeds are added one after the other, at most 8."
    other = expand_study(["study=batchnorm", *SMALL, "study.max_seeds=8"])
    assert (other.note, other.study_id) == ("", plan.study_id)


class Heard(bnexp.Listener):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.seeds: list[int] = []
        self.trained: list[int] = []
        self.lines: list[str] = []

    def planned(self, plan: StudyPlan, todo: Sequence[RunSpec]) -> None:
        self.seeds.append(len(plan.seeds))
        self.trained.append(len(todo))

    def looked(self, num_seeds: int, standing: str) -> None:
        self.lines.append(f"{num_seeds}: {standing}")

    def told(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def runs_dir() -> Path:
    return Path(os.environ["BNEXP_RUNS_DIR"])


def test_seeds_are_added_until_the_limit_and_the_plan_is_written_first(shared_cache: Path, runs_dir: Path) -> None:
    heard = Heard()
    result = bnexp.run_study("batchnorm", [*SMALL, "optim.lr=0.02"], max_seeds=8, listener=heard, report=False)
    assert result.verdict is not Verdict.ESTIMATE
    record = json.loads((runs_dir / "batchnorm" / f"study-{result.study_id}" / "study.json").read_text())
    assert record["study"]["max_seeds"] == record["study"]["seeds"] == 8
    assert len({run["seed"] for run in record["runs"]}) == max(heard.seeds) == len({o.seed for o in result.outcomes})
    assert "at most 8. This was declared before the first run" in result.answer
    assert result.comparisons[0].test == "anytime t"
    assert heard.seeds[0] == 6
    again = Heard()
    bnexp.run_study("batchnorm", [*SMALL, "optim.lr=0.02"], max_seeds=8, listener=again, report=False)
    assert (again.seeds, again.trained) == (heard.seeds[-1:], [0])  # it goes on where it was


def test_a_further_look_changes_the_test_and_says_so(shared_cache: Path, runs_dir: Path) -> None:
    def run(*overrides: str) -> StudyResult:
        return bnexp.run_study("batchnorm", [*SMALL, *overrides], report=False)

    first = run("study.seeds=6")
    assert first.comparisons[0].test == "paired t"
    further = run("study.seeds=7")
    assert further.comparisons[0].test == "anytime t"
    assert f"This is look 2 at this question, which was {first.verdict} with 6 seeds" in further.answer
    assert run("study.seeds=6").to_dict() == first.to_dict()  # the first conclusion stays what it was
    grown = bnexp.run_study("batchnorm", SMALL, max_seeds=8, report=False)
    assert "This is look 3 at this question" in grown.answer  # a plan that comes after looking is no plan beforehand
    few = run("study.seeds=2")
    assert few.verdict is Verdict.ESTIMATE
    # Seven seeds were recorded, so the growing plan began with them.
    (question,) = (runs_dir / "batchnorm").glob("question-*.json")
    assert [look["num_seeds"] for look in json.loads(question.read_text())["looks"]] == [6, 7, 7]


def test_no_step_begins_that_does_not_fit_into_the_time(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "why_stop", lambda *_: "")
    monkeypatch.setattr("bnexp.run.study.why_stop", lambda *_: "")
    heard = Heard()
    result = bnexp.run_study("batchnorm", SMALL, time="0.001s", listener=heard, report=False)
    assert len(heard.seeds) == 1  # the first six seeds are trained in any case
    assert heard.lines[0].startswith("Stopped with 6 seeds: the time is over. ")
    assert len({o.seed for o in result.outcomes}) == 6


def test_seeds_that_were_recorded_before_do_not_tell_how_long_one_takes(
    shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    monkeypatch.setattr(Clock, "trained", lambda self, seconds, num_seeds: told.append(num_seeds))
    for _ in range(2):
        bnexp.run_study("batchnorm", [*SMALL, "optim.lr=0.03"], max_seeds=6, report=False)
    assert told == [6, 0]


def test_a_look_at_an_unfinished_study_is_a_look(shared_cache: Path, runs_dir: Path) -> None:
    """Otherwise one could watch a long study and ask for that number of seeds at which its t test is significant."""

    def run(seeds: int) -> StudyResult:
        return bnexp.run_study("batchnorm", [*SMALL, f"study.seeds={seeds}"], report=False)

    run(1)  # makes the cache
    plan = expand_study(["study=batchnorm", *SMALL, "study.seeds=12"])
    before = expand_study(["study=batchnorm", *SMALL, "study.seeds=7"])
    store = Store()
    for each in (plan, before):
        from_plan(each, [], store).save()
    runner.run(plan.first(7).specs, store)
    unfinished = load(store.study_path("batchnorm", plan.study_id))
    result = conclude(unfinished, store)
    assert result.rule == "again"
    unfinished.save_verdict(result)
    assert conclude(load(store.study_path("batchnorm", before.study_id)), store).rule == "again"  # though it was planned before
    chosen = run(7)
    assert chosen.comparisons[0].test == "anytime t"
    assert f"This is look 2 at this question, which was {result.verdict} with 7 seeds" in chosen.answer
    assert run(12).comparisons[0].test == "paired t"  # a look at .01 on the way leaves the plan what it was


def test_seeds_are_not_chosen_among_those_that_were_looked_at(shared_cache: Path, runs_dir: Path) -> None:
    def run(seeds: str) -> StudyResult:
        return bnexp.run_study("batchnorm", [*SMALL, "data.train_size=100", f"study.seeds={seeds}"], report=False)

    run("8")
    with pytest.raises(ConfigError, match=r"study.seeds=\[0, 1, 2, 5, 6, 7\] are some of the seeds .* no test would be valid"):
        run("[0,1,2,5,6,7]")
    assert run("[0,5]").verdict is Verdict.ESTIMATE
    assert run("7").rule == run("[20,21,22,23,24,25]").rule == "again"
