"""Names and overrides become configurations, or one sentence that says what is wrong."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hydra.types import RunMode
from omegaconf import DictConfig

from bnexp.config.schema import ConfigError
from bnexp.plan import compose as c
from bnexp.plan.spec import RunSpec
from bnexp.plan.study import Choice


def test_groups_and_keys_are_resolved() -> None:
    config = c.compose(
        ["data=cifar10", "norm=batch", "norm.placement=before_activation", "optim.lr=0.5", "model.conv_bias=true"]
    )
    assert (config.data.name, config.norm.kind, config.norm.placement) == ("cifar10", "batch", "before_activation")
    assert (config.optim.lr, config.model.conv_bias) == (0.5, "true")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("optim.lrr=1", "there is no key 'optim.lrr' in the configuration. Did you mean optim.lr?"),
        ("lr=1", "Did you mean optim.lr?"),
        ("optim.lr=fast", "optim.lr=fast is not possible: allowed is a number above 0"),
        (
            "norm=bach",
            "norm=bach does not exist: allowed are batch, batch_renorm, group, instance, layer, none. Did you mean batch?",
        ),
        ("norm.placement=after_pol", "allowed is before_activation, after_activation, after_pool, both"),
        ("norm.placement=after_pol", "Did you mean after_pool?"),
        ("train.epochs=1.5", "train.epochs=1.5 is not possible: allowed is an integer at least 1"),
        ("train.epochs=0", "train.epochs=0 is out of range: allowed is an integer at least 1"),
        ("model.conv_bias=maybe", "allowed is auto, true, false"),
        ("nonsense", "an override is KEY=VALUE"),
        ("~optim.lr", "set a value instead: optim.lr=VALUE"),
        ("seed=0,1", "add -m to bnexp train, or give one value"),
        ("+extra=1", "there is no key 'extra'"),
        ("study=batchnrm", "Did you mean batchnorm?"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        c.compose([override])
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_study_is_arms_times_levels_times_seeds_side_by_side() -> None:
    plan = c.expand_study(["study=conv_bias", "study.seeds=2"])
    specs = [RunSpec(config) for config in plan.configs]
    assert len(specs) == 2 * 3 * 2 == len({spec.run_id for spec in specs})
    assert [spec.arm for spec in specs[:2]] == ["no_bias", "bias"]
    assert {spec.levels["norm"] for spec in specs} == {"none", "before_activation", "after_pool"}
    assert all((spec.config.model.conv_bias == "true") == (spec.arm == "bias") for spec in specs)
    assert {spec.config.study.id for spec in specs} == {plan.study_id}


def test_jobs_compose_to_the_configurations_that_were_planned() -> None:
    plan = c.expand_study(["study=batchnorm", "study.seeds=[3,5]", "data=digits"])
    own = ("study.arm", "study.id", "+study.levels")
    again = [c.compose([item for item in job if not item.startswith(own)]) for job in plan.jobs]
    assert [RunSpec(config).run_id for config in again] == [RunSpec(config).run_id for config in plan.configs]
    assert [(config.seed, config.study.arm) for config in plan.configs] == [
        (3, "none"),
        (3, "after_pool"),
        (5, "none"),
        (5, "after_pool"),
    ]


def test_several_values_become_a_factor() -> None:
    plan = c.expand_study(["study=batchnorm", "study.seeds=1", "optim.lr=0.1,0.01"])
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
    plan = c.expand_study(["study=mine"])
    assert [config.study.arm for config in plan.configs] == ["kein", "größer"]
    assert plan.configs[0].study.levels == {"rate": "it's high"}
    assert plan.configs[0].optim.lr == 0.1


def test_the_study_id_hashes_what_is_asked_not_how_it_is_shown() -> None:
    base = c.expand_study(["study=batchnorm", "study.seeds=1"]).study_id
    assert c.expand_study(["study=batchnorm", "study.seeds=1", "track.wandb.mode=disabled"]).study_id == base
    for other in (
        "study.seeds=2",
        "optim.lr=0.1",
        "study.margin=0.5",
        "study.metric=val/accuracy",
        "study.direction=different",
    ):
        assert c.expand_study(["study=batchnorm", "study.seeds=1", other]).study_id != base, other


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
        c.expand_study(["study=batchnorm", *overrides])


def test_a_budget_gives_way_to_an_override() -> None:
    assert c.compose(["study=batchnorm", "budget=smoke"]).data.name == "digits"
    config = c.compose(["study=batchnorm", "budget=smoke", "data=mnist", "train.epochs=7"])
    assert (config.data.name, config.train.epochs, config.study.seeds) == ("mnist", 7, 2)


def test_a_users_own_directory_joins_the_search_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_text("name: sgd\nlr: 0.125\n")
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path))
    assert c.compose(["optim=mine"]).optim.lr == 0.125
    (tmp_path / "optim" / "mine.yaml").write_text("name: sgd\nlearning_rate: 0.125\n")
    with pytest.raises(ConfigError, match=r"optim.learning_rate"):
        c.compose(["optim=mine"])
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="not a directory"):
        c.compose([])


def test_every_seed_is_checked_though_runs_that_differ_in_no_more_are_composed_once() -> None:
    with pytest.raises(ConfigError, match="seed=-1 is out of range: allowed is an integer at least 0"):
        c.expand_multirun(["seed=0,-1"])


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
    for expanded in (c.expand_multirun, c.compose, lambda given: c.launch(lambda tree: None, given, multirun=True)):
        with pytest.raises(ConfigError) as error:
            expanded(overrides)  # type: ignore[operator]
        assert sentence in str(error.value)


LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
CHAIN = "a0: &a0 [ha]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 135))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (LAUGHS, "mine.yaml holds more than 10,000 values, its aliases (*name) followed"),
        (f"beta1: [{'1,' * 10_000}]", "mine.yaml holds more than 10,000 values"),
        ("lr: " + "[" * 100_000, "mine.yaml has more than 50 lists and mappings inside each other"),
        ("lr: &a [*a]", "mine.yaml contains *a inside &a, which never ends"),
        (CHAIN, "too many lists and mappings inside each other"),
        ("lr: [", "a configuration file is not valid YAML"),
        ("lr: *nowhere", "found undefined alias 'nowhere'"),
        (b"lr: \xff", "mine.yaml is not text in UTF-8"),
    ],
    ids=["laughs", "wide", "deep", "inside itself", "chain", "cut off", "undefined", "binary"],
)
def test_a_file_that_holds_too_much_is_refused(
    content: str | bytes, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path))
    assert c.compose().optim.lr == 0.01  # a file that is not asked for is not read
    with pytest.raises(ConfigError) as error:
        c.compose(["optim=mine"])
    assert sentence in str(error.value)


def test_aliases_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_text("lr: &x 0.25\nmomentum: *x\n")
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path))
    assert c.compose(["optim=mine"]).optim.momentum == 0.25


@pytest.mark.parametrize("override", ["optim.lr=" + "[" * 3000 + "]" * 3000, "seed=" + "9" * 5000])
def test_an_override_that_is_too_much_to_read_is_not_repeated_whole(override: str) -> None:
    with pytest.raises(ConfigError, match="cannot read") as error:
        c.compose([override])
    assert len(str(error.value)) < 500


def test_a_multirun_expands_as_the_basic_sweeper_does() -> None:
    configs = c.expand_multirun(["norm=none,batch", "seed=range(3)", "data=digits"])
    assert [(config.norm.kind, config.seed) for config in configs] == [(k, s) for k in ("none", "batch") for s in range(3)]


def test_of_files_with_one_name_that_of_the_first_directory_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, lr in (("first", 0.25), ("second", 0.5)):
        (tmp_path / name / "optim").mkdir(parents=True)
        (tmp_path / name / "optim" / "sgd.yaml").write_text(f"name: sgd\nlr: {lr}\n")
        (tmp_path / name / "optim" / f"{name}.yaml").write_text("name: sgd\n")
    monkeypatch.setenv("BNEXP_CONFIG_PATH", os.pathsep.join(["", str(tmp_path / "first"), str(tmp_path / "second")]))
    assert c.compose().optim.lr == 0.25
    assert c.groups()["optim"] == ["adam", "first", "second", "sgd"]


def test_an_installed_package_has_its_files_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c, "__file__", str(tmp_path / "bnexp" / "compose.py"))
    assert c.config_dirs() == [tmp_path / "configs"]
    (tmp_path / "bnexp" / "configs").mkdir(parents=True)
    assert c.config_dirs() == [tmp_path / "bnexp" / "configs"]


def test_a_task_gets_the_run_and_what_it_raises_comes_out_as_it_is() -> None:
    (job,) = c.launch(lambda tree: tree.seed, ["seed=7"], multirun=False)
    assert job.return_value == 7

    def failing(tree: DictConfig) -> None:
        raise ConfigError("the data are gone")

    with pytest.raises(ConfigError, match=r"^the data are gone$"):
        c.launch(failing, ["seed=7"], multirun=False)
    jobs = c.launch(lambda tree: tree.optim.lr, ["optim.lr=0.1,0.2", "hydra/launcher=basic"], multirun=True)
    assert [job.return_value for job in jobs] == [0.1, 0.2]


def test_runs_are_composed_once_for_all_their_seeds_and_starts_and_share_nothing() -> None:
    jobs = [[f"seed={seed}", "norm=batch", f"train.init_from='{start}'"] for seed in (0, 1) for start in ("abc", "123")]
    cache: c.Composed = {}
    with c._hydra() as hydra:
        master = hydra.compose_config("run", [], RunMode.MULTIRUN, with_log_configuration=False)
        configs = c.compose_jobs(hydra.config_loader, master, jobs, cache)
        assert len(cache) == 1
        others = [["norm=batch", "seed=2"], ["norm=none", "seed=0"], ["optim.lr=0.5"], ["optim=adam", "optim.lr=0.5"]]
        plain = c.compose_jobs(hydra.config_loader, master, others, cache)
        assert len(cache) == 5
    assert [(config.seed, config.train.init_from) for config in configs] == [(0, "abc"), (0, "123"), (1, "abc"), (1, "123")]
    configs[0].study.levels["x"] = 1
    assert [config.study.levels for config in configs[1:]] == [{}] * 3
    assert [(config.seed, config.norm.kind, config.optim.name, config.optim.lr) for config in plain] == [
        (2, "batch", "sgd", 0.01),
        (0, "none", "sgd", 0.01),
        (0, "none", "sgd", 0.5),
        (0, "none", "adam", 0.5),
    ]
    assert plain == [c.compose(job) for job in others]


def test_runs_that_are_not_known_beforehand_cannot_be_listed() -> None:
    with pytest.raises(ConfigError, match="the runs of a searching sweeper are not known before it runs; leave out --dry-run"):
        c.expand_multirun(["seed=0,1", "hydra/sweeper=study"])
    assert len(c.expand_multirun(["seed=0,1", "hydra/sweeper=basic"])) == 2


def test_a_multirun_of_a_study_is_that_study() -> None:
    given = ["study=batchnorm", "study.seeds=1", "data=digits"]
    assert c.expand_multirun(given) == c.expand_study(given).configs


def test_a_study_has_to_be_chosen() -> None:
    with pytest.raises(ConfigError, match=r"no study was chosen: allowed is one of .*batchnorm.*; try bnexp study \w+\."):
        c.expand_study(["data=digits"])


def test_a_plan_says_how_it_is_launched_and_marks_its_runs() -> None:
    given = ["study=batchnorm", "study.seeds=1", "data=digits"]
    plan, basic = c.expand_study(given), c.expand_study([*given, "hydra/launcher=basic"])
    assert (plan.launcher, basic.launcher) == ("cohort", "basic")
    assert re.fullmatch("[0-9a-f]{8}", plan.study_id)
    assert basic.study_id == plan.study_id
    assert all(job[-1] == f"study.id='{plan.study_id}'" for job in plan.jobs)
    assert {config.study.id for config in plan.configs} == {plan.study_id}
    assert plan.runs.phases == [plan.runs]
    assert plan.choices == []


def test_a_study_with_chosen_values_is_the_same_study() -> None:
    plan = c.expand_study(["study=batchnorm", "study.seeds=1", "data=digits", "study.tune.grid=[0.1,0.2]"])
    chosen = plan.with_choices([Choice(arm, {}, "optim.lr", lr, {}, False) for arm, lr in (("none", 0.1), ("after_pool", 0.2))])
    assert [(config.optim.lr, config.study.id) for config in chosen.configs] == [(0.1, plan.study_id), (0.2, plan.study_id)]
    assert (chosen.study_id, len(chosen.choices)) == (plan.study_id, 2)


def test_a_margin_of_the_data_is_part_of_the_question_where_the_study_has_none() -> None:
    given = ["study=batchnorm", "study.seeds=1", "data=digits"]
    own = [*given, "study.margin=0.5"]
    assert c.expand_study([*given, "data.margin=3"]).study_id != c.expand_study(given).study_id
    assert c.expand_study([*own, "data.margin=3"]).study_id == c.expand_study(own).study_id


def test_a_budget_does_not_thin_what_the_command_varies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mine.yaml").write_text(
        "# @package _global_\nstudy:\n  name: mine\n  seeds: 1\n  max_levels: 2\n"
        "  arms: {a: [norm=none], b: [norm=batch]}\n  factors: {optim.lr: [0.1, 0.2, 0.3]}\n"
    )
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path))
    assert c.expand_study(["study=mine"]).study.factors == {"optim.lr": [0.1, 0.3]}
    plan = c.expand_study(["study=mine", "optim.lr=0.4,0.5,0.6", "train.epochs=1,2"])
    assert plan.study.factors == {"optim.lr": ["0.4", "0.5", "0.6"], "train.epochs": ["1", "2"]}
    assert len(plan.configs) == 3 * 2 * 2
