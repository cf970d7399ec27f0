"""What other tools call our keys and values leads to what was meant, with a line that can be copied."""

from __future__ import annotations

import pytest

from bnexp.config import synonyms
from bnexp.config.keys import final_metrics, schema_keys
from bnexp.config.overrides import PLUGINS
from bnexp.config.schema import ConfigError, RunConfig
from bnexp.plan.compose import compose
from bnexp.plan.session import groups


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("optim.learning_rate=0.1", "optim.lr=0.1"),
        ("lr=0.1", "optim.lr=0.1"),
        ("seeds=10", "study.seeds=10"),
        ("random_state=3", "seed=3"),
        ("dataset=cifar", "data=cifar10"),
        ("optimizer=AdamW", "optim=adam"),
        ("batch-size=8", "train.batch_size=8"),
        ("max_epochs=3", "train.epochs=3"),
        ("use_bn=false", "norm=none"),
        ("wandb=off", "track.wandb.mode=disabled"),
        ("device=gpu", "train.device=cuda"),
        ("probe.every=2", "probe.per_epoch=2"),
        ("norm=batchnorm", "batch"),
        ("norm=BatchNorm2d", "batch"),
        ("norm=LayerNorm", "layer"),
        ("norm.placement=before", "before_activation"),
        ("train.device=gpu", "cuda"),
        ("train.device=cuda:0", "cuda"),
        ("model=resnet20", "resnet"),
        ("model.activation=swish", "silu"),
        ("data=FashionMNIST", "fashion_mnist"),
        ("data=cifar-10", "cifar10"),
        ("study=bn", "batchnorm"),
        ("study=bs", "batch_size"),
        ("study=wd", "weight_decay"),
        ("optim=SGD", "sgd"),
        ("data.test_size=100", "data.test_fraction=100"),
    ],
)
def test_a_word_of_other_tools_is_answered_with_ours(typed: str, meant: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose([typed])
    assert f". Did you mean {meant}? " in str(error.value)


def test_every_synonym_leads_to_something_that_exists_and_is_no_name_of_ours() -> None:
    files = groups()
    keys = {info.name: info.choices for info in schema_keys()} | {"optimized_metric": final_metrics(RunConfig())}
    keys |= {f"hydra/{kind}": list(names) for kind, names in PLUGINS.items()}
    assert set(synonyms.KEYS.values()) <= {*files, *keys, "hydra.sweeper.n_trials"}
    assert not set(synonyms.KEYS) & {*files, *keys}
    for name, words in synonyms.VALUES.items():
        known = files.get(name) or keys[name]
        assert set(words.values()) <= set(known)
        assert not set(words) & set(known)
        assert all(word == synonyms.plain(word) for word in words)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (
            "hydra/sweeper=nevergrad",
            "hydra/sweeper=nevergrad does not work: its plugin needs Python 3.10 or older; use hydra/sweeper=optuna.",
        ),
        (
            "hydra/launcher=ray_aws",
            "hydra/launcher=ray_aws needs a plugin that is not installed: pip install 'hydra-ray-launcher'.",
        ),
        ("hydra/launcher=slurm", "hydra/launcher=slurm does not exist. Did you mean submitit_slurm? Allowed are cohort,"),
        ("hydra/sweeper=tpe", "hydra/sweeper=tpe does not exist. Did you mean optuna? Allowed are study, basic, optuna."),
        (
            "hydra.sweeper.paramz=1",
            "there is no key 'hydra.sweeper.paramz' in the configuration. Did you mean hydra.sweeper.params?",
        ),
        (
            "optim.lr=[0.1,0.2]",
            "optim.lr=[0.1, 0.2] is not possible: allowed is a number above 0; several values have no brackets: opt",
        ),
        (
            "hydra/job_logging=colourful",
            "hydra/job_logging=colourful does not exist: allowed are default, disabled, none, stdout.",
        ),
        (
            "hydra/launcher=jobib",
            "hydra/launcher=jobib does not exist. Did you mean joblib? Allowed are cohort, basic, joblib,",
        ),
    ],
)
def test_a_plugin_that_is_not_installed_is_named_with_what_installs_it(typed: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose([typed])
    assert str(error.value).startswith(sentence)
