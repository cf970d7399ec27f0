"""Names and overrides become configurations, or one sentence that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnexp import compose as c
from bnexp.config import ConfigError
from bnexp.plan import RunSpec


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
        (["optim.lr=0.01,0.010"], "the level optim.lr=0.01 is there twice"),
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


def test_a_multirun_expands_as_the_basic_sweeper_does() -> None:
    configs = c.expand_multirun(["norm=none,batch", "seed=range(3)", "data=digits"])
    assert [(config.norm.kind, config.seed) for config in configs] == [(k, s) for k in ("none", "batch") for s in range(3)]
