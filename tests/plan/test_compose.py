"""Names and overrides become configurations, or one sentence that says what is wrong."""

from __future__ import annotations

import pytest

from bnexp.config.schema import ConfigError
from bnexp.plan import compose as c
from bnexp.plan.expand import expand_multirun
from bnexp.plan.session import load, session
from bnexp.plan.study import as_job, texts_of


def test_groups_and_keys_are_resolved() -> None:
    config = c.compose(
        ["data=cifar10", "norm=batch", "norm.placement=before_activation", "optim.lr=0.5", "model.conv_bias=true"]
    )
    assert (config.data.name, config.norm.kind, config.norm.placement) == ("cifar10", "batch", "before_activation")
    assert (config.optim.lr, config.model.conv_bias) == (0.5, "true")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("optim.lrr=1", "there is no key 'optim.lrr' in the configuration. Did you mean optim.lr=1?"),
        ("lr=1", "Did you mean optim.lr=1?"),
        ("optim.lr=fast", "optim.lr=fast is not possible: allowed is a number above 0"),
        (
            "norm=bach",
            "norm=bach does not exist. Did you mean batch? Allowed are batch, batch_renorm, group, instance, layer, none.",
        ),
        ("norm.placement=after_pol", "Allowed is before_activation, after_activation, after_pool, both"),
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


def test_a_budget_gives_way_to_an_override() -> None:
    assert c.compose(["study=batchnorm", "budget=smoke"]).data.name == "digits"
    config = c.compose(["study=batchnorm", "budget=smoke", "data=mnist", "train.epochs=7"])
    assert (config.data.name, config.train.epochs, config.study.seeds) == ("mnist", 7, 2)


@pytest.mark.parametrize("override", ["optim.lr=" + "[" * 3000 + "]" * 3000, "seed=" + "9" * 5000])
def test_an_override_that_is_too_much_to_read_is_not_repeated_whole(override: str) -> None:
    with pytest.raises(ConfigError, match="cannot read") as error:
        c.compose([override])
    assert len(str(error.value)) < 500


def test_runs_are_composed_once_for_all_their_seeds_and_starts_and_share_nothing() -> None:
    jobs = [
        {"seed": str(seed), "norm": "batch", "train.init_from": f"'{start}'"} for seed in (0, 1) for start in ("abc", "123")
    ]
    with session() as hydra:
        composer = c.Composer(hydra.loader, load(hydra.loader, [], multirun=True))
        configs = composer(jobs)
        assert len(composer._configs) == 1
        others = [
            {"norm": "batch", "seed": "2"},
            {"norm": "none", "seed": "0"},
            {"optim.lr": "0.5"},
            {"optim": "adam", "optim.lr": "0.5"},
        ]
        plain = composer(others)
        assert len(composer._configs) == 5
    assert [(config.seed, config.train.init_from) for config in configs] == [(0, "abc"), (0, "123"), (1, "abc"), (1, "123")]
    configs[0].study.levels["x"] = 1
    assert [config.study.levels for config in configs[1:]] == [{}] * 3
    assert [(config.seed, config.norm.kind, config.optim.name, config.optim.lr) for config in plain] == [
        (2, "batch", "sgd", 0.01),
        (0, "none", "sgd", 0.01),
        (0, "none", "sgd", 0.5),
        (0, "none", "adam", 0.5),
    ]
    assert plain == [c.compose(texts_of(job)) for job in others]


@pytest.mark.parametrize(
    ("shared", "changed", "times"),
    [
        (["study=batchnorm"], {"optim.lr": "0.5"}, 0),
        (["study=batchnorm", "optim.lr=0.1", "study.seeds=[7]"], {"data": "mnist", "train.epochs": "3"}, 0),
        (["study=batchnorm", "optim.lr=0.1"], {"norm": "batch"}, 1),
        (["study=batchnorm", "+study.levels.a=1"], {"optim.lr": "0.5"}, 1),  # a key cannot be added twice
        (["study=batchnorm", "optim.lr=0.1"], {"optim.lr": "0.5"}, 1),
    ],
)
def test_files_are_composed_again_only_for_a_job_that_chooses_others(
    shared: list[str], changed: dict[str, str], times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = as_job(shared) | changed
    with session(shared) as hydra:
        composer, again = c.Composer(hydra.loader, load(hydra.loader, shared, multirun=True)), []
        sweep = hydra.loader.load_sweep_config
        monkeypatch.setattr(hydra.loader, "load_sweep_config", lambda *given: again.append(given) or sweep(*given))
        (found,) = composer([job])
    assert len(again) == times
    assert found == c.to_config(load(hydra.loader, texts_of(job)))


def test_a_seed_that_is_no_number_is_refused_wherever_it_stands_in_the_list() -> None:
    with pytest.raises(ConfigError, match="seed=abc is not possible: allowed is an integer at least 0"):
        expand_multirun(["seed=0,abc"])
