"""Every study file is whole: its header says what it does, its claim has a source, and it expands under every budget."""

from __future__ import annotations

import math
import re
from functools import cache

import pytest

from bnexp.config.keys import metric_unit
from bnexp.config.options import Analysis, Direction
from bnexp.config.schema import ConfigError, StudyConfig
from bnexp.plan import compose as c
from bnexp.plan import expand as e
from bnexp.plan.budget import budgeted
from bnexp.plan.session import config_dirs, groups
from bnexp.plan.spec import RunSpec
from bnexp.plan.study import varied_keys

STUDIES = groups()["study"]
TREND_LEVELS = 3  # that Page's test needs


@cache
def definition(name: str) -> StudyConfig:
    return c.compose([f"study={name}"]).study


@cache
def few(name: str, *overrides: str) -> e.StudyPlan:
    """The study with one seed, for all tests that look at it: composing its runs takes time."""
    return e.expand_study([f"study={name}", *overrides, "study.seeds=[0]"])


def header(name: str) -> str:
    """The comment that a study file opens with, as one line."""
    text = (config_dirs()[0] / "study" / f"{name}.yaml").read_text()
    return " ".join(line.removeprefix("#").strip() for line in text.split("\ndefaults:")[0].splitlines())


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_file_says_what_it_does(name: str) -> None:
    study = definition(name)
    assert study.name == name
    assert study.question.endswith("?")
    assert study.claim
    assert study.sources
    levels = [len(levels) for levels in study.factors.values()]
    trained = {(*changes, arm == study.tune.linear.arm) for arm, changes in study.arms.items()}
    (said,) = re.findall(rf"bnexp study {name} +\((.*?) on MNIST", header(name))
    assert math.prod(int(part.split()[0]) for part in said.split(" x ")) == math.prod([len(trained), *levels, study.seeds])
    assert "min on 2 cores)" in header(name) or "h on 2 cores" in header(name)
    assert re.search(r" Refuted by: \w", header(name))
    assert study.margin or metric_unit(study.metric) == "pp", "without a margin nothing can refute a difference"


def test_every_study_expands_at_smoke_and_shares_runs_with_others() -> None:
    seen: set[str] = set()
    total = 0
    for name in STUDIES:
        plan = few(name, "budget=smoke")
        ids = {RunSpec(config).run_id for config in plan.configs}
        seen |= ids
        total += len(ids)
        data = {(config.data.name, config.train.epochs) for config in plan.configs}
        assert data == {("digits", 1)}, name
        assert all((config.data.train_size or 0) <= 1000 for config in plan.configs), name
        if plan.study.analysis is Analysis.trend:
            assert len(next(iter(plan.study.factors.values()))) >= TREND_LEVELS
    assert len(seen) < 0.85 * total


def test_a_directed_claim_has_a_baseline_and_equivalence_a_margin() -> None:
    for name in STUDIES:
        study = definition(name)
        if study.direction is not Direction.different:
            assert study.baseline in study.arms, name
        if study.direction is Direction.equivalent:
            assert study.metric == "test/accuracy", name  # which has the data set's margin


@pytest.mark.parametrize(("budget", "updates"), [("smoke", 8), ("quick", 500), ("standard", 9380), ("tuned", 9380)])
def test_where_batches_or_images_vary_every_run_has_the_same_number_of_updates(budget: str, updates: int) -> None:
    for name in ("batch_size", "duplicated_batches", "regularization", "sorted_batches"):
        found = {c.train.epochs * c.train.updates_per_epoch(200) for c in few(name, f"budget={budget}", "data=mnist").configs}
        assert found == {updates}, name


def test_a_budget_thins_the_grid_of_a_study_but_not_that_of_the_user() -> None:
    study = ["study=batch_size", "budget=smoke"]
    assert e.expand_study(study).study.tune.grid == [0.001, 0.064]
    assert e.expand_study([*study, "study.tune.max_values=null"]).study.tune.grid == [0.001, 0.004, 0.016, 0.064]
    assert e.expand_study([*study, "study.tune.grid=[0.1,0.2,0.3]"]).study.tune.grid == [0.1, 0.2, 0.3]


def test_a_budget_thins_levels_evenly_and_drops_what_is_beyond_its_limits() -> None:
    study = StudyConfig(factors={"a": list(range(11)), "b": [200, 1000, 5000, None], "c": {"x": [], "y": []}})
    assert budgeted(study) == study.factors
    study.max_levels, study.limits = 3, {"b": 5000}
    assert budgeted(study) == {"a": [0, 5, 10], "b": [200, 1000, 5000], "c": {"x": [], "y": []}}
    study.max_levels, study.limits = 2, {"b": 4000, "a": 7}
    assert budgeted(study) == {"a": [0, 7], "b": [200, 1000], "c": {"x": [], "y": []}}


@pytest.mark.parametrize(
    ("name", "budget", "levels", "there"),
    [
        ("regularization", [], [200, 1000, None], "1,366"),
        ("regularization", ["budget=quick"], [200, 1000, None], "1,409"),  # null: all of them, which the budget allows
        ("regularization", ["budget=smoke"], [200, 1000], ""),  # which allows no 5,000
        ("transfer", ["budget=quick"], [500], "1,409"),
    ],
)
def test_levels_beyond_the_data_are_left_out_and_named(
    name: str, budget: list[str], levels: list[int | None], there: str
) -> None:
    plan = e.expand_study([f"study={name}", "data=digits", "study.seeds=1", *budget])
    assert plan.study.factors["data.train_size"] == levels
    assert {config.data.train_size for config in plan.configs} == set(levels)
    assert plan.note == (f"digits has {there} training images, so that data.train_size=5000 is left out." if there else "")
    assert e.expand_study([f"study={name}", "study.seeds=1", *budget, "data=mnist"]).note == ""


def test_a_study_of_more_images_than_there_are_says_which_levels_to_give() -> None:
    many = ["study=transfer", "data=digits", "data.val_fraction=0.8"]
    with pytest.raises(ConfigError, match=r"over 500, 5000, but digits has 288 training images; give its levels, like"):
        e.expand_study(many)
    assert len(e.expand_study([*many, "data.train_size=144,288", "study.seeds=1"]).configs) == 5 * 2 * 2
    with pytest.raises(ConfigError, match=r"data.train_size=289 is more than there is"):
        e.expand_study([*many, "data.train_size=144,289"])


def test_levels_that_a_user_gives_are_all_used() -> None:
    plan = e.expand_study(["study=batchnorm", "budget=smoke", "optim.lr=0.1,0.2,0.3,0.4"])
    assert plan.study.factors["optim.lr"] == ["0.1", "0.2", "0.3", "0.4"]


def test_what_a_study_shows_changes_neither_its_id_nor_its_runs() -> None:
    plan = e.expand_study(["study=blog"])
    other = e.expand_study(["study=blog", "study.show.figures=[]", "study.show.errata=[one]"])
    assert plan.study_id == other.study_id == "38fcd194"
    assert [RunSpec(config).run_id for config in plan.configs] == [RunSpec(config).run_id for config in other.configs]


def test_every_study_expands_under_the_budget_that_tunes() -> None:
    for name in STUDIES:
        plan = few(name, "budget=tuned", "data=mnist")
        varies = "optim.lr" in varied_keys(plan.study)
        assert bool(plan.study.tune.grid) != varies, name
        assert ("varies, so the budget tunes nothing" in plan.note) == varies, name
