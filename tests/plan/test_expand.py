"""Studies and multiruns become runs, or one sentence that says what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bnexp.config.schema import ConfigError
from bnexp.plan import compose as c
from bnexp.plan import expand as e
from bnexp.plan.spec import RunSpec
from bnexp.plan.study import Choice, texts_of
from bnexp.run.train import launch


def test_a_study_is_arms_times_levels_times_seeds_side_by_side() -> None:
    plan = e.expand_study(["study=conv_bias", "study.seeds=2"])
    specs = [RunSpec(config) for config in plan.configs]
    assert len(specs) == 2 * 3 * 2 == len({spec.run_id for spec in specs})
    assert [spec.arm for spec in specs[:2]] == ["no_bias", "bias"]
    assert {spec.levels["norm"] for spec in specs} == {"none", "before_activation", "after_pool"}
    assert all((spec.config.model.conv_bias == "true") == (spec.arm == "bias") for spec in specs)
    assert {spec.config.study.id for spec in specs} == {plan.study_id}


@pytest.mark.parametrize(
    ("overrides", "num_seeds"),
    [
        ([], 10),
        (["budget=quick"], 8),
        (["budget=quick", "study.seeds=6"], 6),
        (["budget=smoke"], 2),
        (["study.seeds=[3,5]"], 2),
    ],
    ids=str,
)
def test_a_budget_takes_at_least_the_seeds_that_a_study_needs(overrides: list[str], num_seeds: int) -> None:
    assert len(e.expand_study(["study=convergence", *overrides]).seeds) == num_seeds


def test_jobs_compose_to_the_configurations_that_were_planned() -> None:
    plan = e.expand_study(["study=batchnorm", "study.seeds=[3,5]", "data=digits"])
    own = ("study.arm", "study.id", "+study.levels")
    again = [c.compose([item for item in texts_of(job) if not item.startswith(own)]) for job in plan.runs.jobs]
    assert [RunSpec(config).run_id for config in again] == [spec.run_id for spec in plan.specs]
    assert [(config.seed, config.study.arm) for config in plan.configs] == [
        (3, "none"),
        (3, "after_pool"),
        (5, "none"),
        (5, "after_pool"),
    ]


def test_several_values_become_a_factor() -> None:
    plan = e.expand_study(["study=batchnorm", "study.seeds=1", "optim.lr=0.1,0.01"])
    assert [(config.study.levels["optim.lr"], config.optim.lr) for config in plan.configs] == [
        (0.1, 0.1),
        (0.1, 0.1),
        (0.01, 0.01),
        (0.01, 0.01),
    ]


def test_names_may_be_words_of_any_language_and_levels_any_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mine.yaml").write_text(
        "# @package _global_\nstudy:\n  name: mine\n  seeds: 1\n"
        '  arms: {kein: [norm=none], größer: [norm=batch]}\n  factors: {rate: {"it\'s high": [optim.lr=0.1]}}\n'
    )
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path))
    plan = e.expand_study(["study=mine"])
    assert [config.study.arm for config in plan.configs] == ["kein", "größer"]
    assert plan.configs[0].study.levels == {"rate": "it's high"}
    assert plan.configs[0].optim.lr == 0.1


def test_the_study_id_hashes_what_is_asked_not_how_it_is_shown() -> None:
    base = e.expand_study(["study=batchnorm", "study.seeds=1"]).study_id
    for shown in ("track.wandb.mode=disabled", "study.theme=mine"):
        assert e.expand_study(["study=batchnorm", "study.seeds=1", shown]).study_id == base, shown
    for other in (
        "study.seeds=2",
        "optim.lr=0.1",
        "study.margin=0.5",
        "study.metric=val/accuracy",
        "study.direction=different",
    ):
        assert e.expand_study(["study=batchnorm", "study.seeds=1", other]).study_id != base, other


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["norm=batch"], "norm is what study batchnorm varies"),
        (["seed=3"], r"set study.seeds=\[...\] instead"),
        (["seed=3,4"], r"set study.seeds=\[...\] instead"),
        (["study.seeds=4,6"], "study.seeds cannot be a factor"),
        (["data=digits,mnist"], "run it once for each: data=NAME"),
        (["optim.lr=0.01,0.010"], "the level lr=0.01 is there twice"),
        (["train.device=cpu,auto"], "are the same experiment"),
        (["+study.arms.other=['norm=none']"], "the arms none and other are the same experiment"),
        (["study.arm=x"], "study.arm is set by the study itself"),
        (["study.name=../../evil"], "study.name '../../evil' is not possible"),
        (["study.metric=test/acuracy"], "Did you mean test/accuracy?"),
        (["study.metric=test/loss"], "add study.direction=less"),
        (["study.metric=val/accuracy", "data.val_fraction=0"], "study.metric=val/accuracy is not recorded"),
        (["study.seeds=0"], "study.seeds=0 is not possible"),
        (
            ["study.baseline=non"],
            "study.baseline=non is not an arm of study batchnorm: allowed are none, after_pool. Did you mean none?",
        ),
        (["optim.lr=0.1,-1"], "optim.lr=-1 is out of range"),
        (["study.seeds=1000000000"], "study.seeds=1000000000 is too many: allowed are at most 100,000 runs"),
        (["study.seeds=60000"], r"asks for 120,000 runs \(2 arms x 60,000 seeds\)"),
        (
            ["optim.lr=range(0,300)", "optim.momentum=range(0,300)", "study.seeds=2"],
            r"asks for 360,000 runs \(2 arms x 300 optim.lr x 300 optim.momentum x 2 seeds\)",
        ),
        (["optim.lr=range(0,1e9)"], r"optim.lr=range\(0,1e9\) makes 1,000,000,000 runs"),
    ],
)
def test_a_study_that_cannot_run_is_refused_before_it_starts(overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        e.expand_study(["study=batchnorm", *overrides])


def test_every_seed_is_checked_though_runs_that_differ_in_no_more_are_composed_once() -> None:
    with pytest.raises(ConfigError, match="seed=-1 is out of range: allowed is an integer at least 0"):
        e.expand_multirun(["seed=0,-1"])


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["executor=range(0,1000000000)"], "executor=range(0,1000000000) does not exist: allowed are auto, inline, local, ray"),
        (["seed=range(0,1000000000)"], "seed=range(0,1000000000) makes 1,000,000,000 runs: allowed are at most 100,000"),
        (["seed=shuffle(range(1000000000))"], "makes 1,000,000,000 runs"),
        (["hydra/launcher=range(0,1000000000)"], "makes 1,000,000,000 runs"),
        (["optim.lr=range(1e-18,1,1e-18)"], "makes 999,999,999,999,999,999 runs"),
        (
            ["seed=range(1000)", "optim.lr=range(1,0,-0.001)"],
            "seed=range(1000) optim.lr=range(1,0,-0.001) makes 1,000,000 runs",
        ),
        (["optim.lr=range(0,inf)"], "allowed is range(START,STOP,STEP) of finite numbers"),
        (["seed=range(0,9,0)"], "STEP other than 0"),
        (["seed=range(0,1000000000)", "optim.lr=range(1,0)"], "makes 1,000,000,000 runs"),
    ],
)
def test_more_runs_than_anyone_wants_are_counted_and_refused(overrides: list[str], sentence: str) -> None:
    for expanded in (e.expand_multirun, c.compose, lambda given: launch(given, multirun=True)):
        with pytest.raises(ConfigError) as error:
            expanded(overrides)  # type: ignore[operator]
        assert sentence in str(error.value)


def test_a_multirun_expands_as_the_basic_sweeper_does() -> None:
    configs = e.expand_multirun(["norm=none,batch", "seed=range(3)", "data=digits"])
    assert [(config.norm.kind, config.seed) for config in configs] == [(k, s) for k in ("none", "batch") for s in range(3)]


def test_hydras_mode_makes_a_multirun_without_being_asked() -> None:
    assert len(e.expand_multirun(["seed=0,1", "hydra.mode=MULTIRUN"], asked=False)) == 2
    assert len(e.expand_multirun(["seed=0"], asked=False)) == 1
    with pytest.raises(ConfigError, match="seed=0,1 has several values: that makes several runs; add -m to bnexp train"):
        e.expand_multirun(["seed=0,1"], asked=False)


def test_runs_that_are_not_known_beforehand_cannot_be_listed() -> None:
    with pytest.raises(ConfigError, match="the runs of a searching sweeper are not known before it runs; leave out --dry-run"):
        e.expand_multirun(["seed=0,1", "hydra/sweeper=study"])
    assert len(e.expand_multirun(["seed=0,1", "hydra/sweeper=basic"])) == 2


def test_a_multirun_of_a_study_is_that_study() -> None:
    given = ["study=batchnorm", "study.seeds=1", "data=digits"]
    assert e.expand_multirun(given) == e.expand_study(given).configs


def test_a_study_has_to_be_chosen() -> None:
    with pytest.raises(ConfigError, match=r"no study was chosen: allowed is one of .*batchnorm.*; try bnexp study \w+\."):
        e.expand_study(["data=digits"])


def test_a_plan_says_how_it_is_launched_and_marks_its_runs() -> None:
    given = ["study=batchnorm", "study.seeds=1", "data=digits"]
    plan, basic = e.expand_study(given), e.expand_study([*given, "hydra/launcher=basic"])
    assert (plan.launcher, basic.launcher) == ("cohort", "basic")
    assert re.fullmatch("[0-9a-f]{8}", plan.study_id)
    assert basic.study_id == plan.study_id
    assert all(job["study.id"] == f"'{plan.study_id}'" for job in plan.runs.jobs)
    assert {config.study.id for config in plan.configs} == {plan.study_id}
    assert plan.runs.phases == [plan.runs]
    assert plan.choices == []


def test_a_study_with_chosen_values_is_the_same_study() -> None:
    plan = e.expand_study(["study=batchnorm", "study.seeds=1", "data=digits", "study.tune.grid=[0.1,0.2]"])
    chosen = plan.with_choices([Choice(arm, {}, "optim.lr", lr, {}, False) for arm, lr in (("none", 0.1), ("after_pool", 0.2))])
    assert [(config.optim.lr, config.study.id) for config in chosen.configs] == [(0.1, plan.study_id), (0.2, plan.study_id)]
    assert (chosen.study_id, len(chosen.choices)) == (plan.study_id, 2)


def test_a_margin_of_the_data_is_part_of_the_question_where_the_study_has_none() -> None:
    given = ["study=batchnorm", "study.seeds=1", "data=digits"]
    own = [*given, "study.margin=0.5"]
    assert e.expand_study([*given, "data.margin=3"]).study_id != e.expand_study(given).study_id
    assert e.expand_study([*own, "data.margin=3"]).study_id == e.expand_study(own).study_id


def test_a_budget_does_not_thin_what_the_command_varies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mine.yaml").write_text(
        "# @package _global_\nstudy:\n  name: mine\n  seeds: 1\n  max_levels: 2\n"
        "  arms: {a: [norm=none], b: [norm=batch]}\n  factors: {optim.lr: [0.1, 0.2, 0.3]}\n"
    )
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path))
    assert e.expand_study(["study=mine"]).study.factors == {"optim.lr": [0.1, 0.3]}
    plan = e.expand_study(["study=mine", "optim.lr=0.4,0.5,0.6", "train.epochs=1,2"])
    assert plan.study.factors == {"optim.lr": ["0.4", "0.5", "0.6"], "train.epochs": ["1", "2"]}
    assert len(plan.configs) == 3 * 2 * 2


@pytest.mark.parametrize("expanded", [e.expand_study, e.expand_multirun])
def test_an_interval_is_refused_because_it_has_no_list_of_values(expanded: Callable[[list[str]], object]) -> None:
    study = ["study=batchnorm"] if expanded is e.expand_study else []
    with pytest.raises(
        ConfigError, match="is for a searching sweeper; add hydra/sweeper=optuna to bnexp train -m, or list the values: "
    ):
        expanded([*study, "data=digits", "optim.lr=interval(0.1,0.2)"])
