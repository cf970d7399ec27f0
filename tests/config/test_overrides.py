"""Overrides are looked at before Hydra sees them, and Hydra's errors are told in words of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnexp.config.overrides import parse
from bnexp.config.schema import ConfigError
from bnexp.plan.compose import compose
from bnexp.plan.expand import expand_multirun

GROUPS = {"norm": ["batch", "none"], "optim": ["adam", "sgd"]}
ALLOWED = "does not exist: allowed are batch, none."


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("optim.lr=0.1", None),
        ("optim.lr=0.1,0.2", None),
        ("+optim.lr=0.1", None),
        ("norm=batch", None),
        ("norm='batch'", None),
        ("norm=null", None),
        ("norm=none,batch", None),
        ("norm=choice(none,batch)", None),
        ("norm=glob(*)", None),
        ("hydra/launcher=cohort", None),
        ("hydra.sweep.dir=x", None),
        ("track.wandb={mode: offline}", None),
        ("probe={gap: true}", None),
        ("model.init={gain: 2}", None),
        ("+study.metrics.none=test/loss", None),
        ("+study.limits.a=3", None),
        ("norm=nome", "norm=nome does not exist. Did you mean none? Allowed are batch, none."),
        ("norm=batch_", "norm=batch_ does not exist. Did you mean batch? Allowed are batch, none."),
        ("norm=batch,nope", "norm=nope does not exist. Did you mean none? Allowed are batch, none."),
        ("norm=glob(x*)", f"norm=glob(x*) {ALLOWED}"),
        ("norm=interval(1,2)", f"norm=interval(1,2) {ALLOWED}"),
        ("norm=range(1,3)", f"norm=range(1,3) {ALLOWED}"),
        ("optim.lr=glob(*)", "optim.lr=glob(*) finds no value: glob chooses among the files of a group, as norm=glob(*)"),
        ("norm=glob(*,include=b*)", "cannot read 'norm=glob(*,include=b*)': allowed is glob(b*) or glob(*,exclude=batch*), in"),
        ("hydra.sweeper.params={optim.lr: '0.1,0.2'}", None),
        ("hydra.sweeper.params={norm: 'none,nope'}", "norm=nope does not exist. Did you mean none?"),
        ("+hydra.sweeper.params.optim.rate=1,2", "there is no key 'optim.rate' in the configuration."),
        ("hydra.sweeper.params=0.1", "hydra.sweeper.params=0.1 is not possible: allowed is a mapping of keys to values, as"),
        ("0.2", "cannot read '0.2': several values stand without blanks or brackets: optim.lr=0.1,0.2."),
        ("optim.lr=0.1,", "cannot read 'optim.lr=0.1,': several values stand without blanks or brackets"),
        ("optim.lr=(0.1,0.2)", "cannot read 'optim.lr=(0.1,0.2)': several values stand without blanks or brackets"),
        ("optim.lr=loguniform(0.1,1)", "cannot read 'optim.lr=loguniform(0.1,1)': allowed is tag(log,interval(LOW,HIGH)), in"),
        ("optim.lr=uniform(0.1,1)", "cannot read 'optim.lr=uniform(0.1,1)': allowed is interval(LOW,HIGH), in quotes"),
        ("model.optimizer.lr=0.1", "there is no key 'model.optimizer.lr' in the configuration. Did you mean optim.lr=0.1?"),
        ("n_trials=3", "there is no key 'n_trials' in the configuration. Did you mean hydra.sweeper.n_trials=3?"),
        ("nonsense", "cannot read 'nonsense': an override is KEY=VALUE, like optim.lr=0.1 or norm=batch; quote"),
        ("~optim.lr", "~optim.lr would remove a key, which the configuration needs; set a value instead: optim.lr=VALUE."),
        ("~norm", "~norm would remove a key, which the configuration needs; set a value instead: norm=VALUE."),
        ("study.arm=x", "study.arm is set by the study itself; leave it out."),
        ("+study.id=x", "study.id is set by the study itself; leave it out."),
        ("+study.levels={a: 1}", "study.levels is set by the study itself; leave it out."),
        ("nrm=batch", "there is no key 'nrm' in the configuration. Did you mean norm=batch? See all with bnexp config --keys."),
        ("study.question.x=1", "there is no key 'study.question.x' in the configuration."),
        ("study.armies=1", "there is no key 'study.armies' in the configuration. Did you mean study.arms=1?"),
    ],
)
def test_an_override_is_let_through_or_answered_in_one_sentence(override: str, sentence: str | None) -> None:
    if sentence is None:
        parse(["seed=1", override], GROUPS)
        return
    with pytest.raises(ConfigError) as error:
        parse(["seed=1", override], GROUPS)
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("optim.lr=fast", "optim.lr=fast is not possible: allowed is a number above 0 (learning rate (peak))."),
        ("optim.lr=null", "optim.lr=null is not possible: allowed is a number above 0"),
        ("optim.lr={a: 1}", "optim.lr={'a': 1} is not possible: allowed is a number above 0"),
        (
            "norm.kind=bach",
            "norm.kind=bach is not possible. Did you mean batch? Allowed is none, batch, layer, instance, group, batch_renorm",
        ),
        ("study.arms=3", "study.arms=3 is not possible: allowed is a mapping (arm name -> overrides)."),
        ("study.arms={a: []}", "there is no key 'study.arms.a' in the configuration. Did you mean study.arms?"),
        ("study.sources={a: 1}", "study.sources is not possible: allowed is a list (where the claim is made)."),
        (
            "study.tune.grid=[x]",
            "study.tune.grid[0]=x is not possible: Value 'x' of type 'str' could not be converted to Float.",
        ),
        ("study.decides=[{armm: none}]", "study.decides has no key 'armm': allowed are arm, baseline, "),
        ("study.decides=[{expect: les}]", "expect=les is not possible: Invalid value 'les', expected one of [greater, less, "),
        ("model.init=3", "model.init=3 is not possible: "),
        ("seed=${x}", "seed refers to what is not there: Interpolation key 'x' not found; give a value."),
        ("data.root=${oc.env:NOPE}", "data.root refers to what is not there: "),
        ("+seed=3", "the configuration cannot be composed: Could not append to config."),
    ],
)
def test_a_value_that_a_key_cannot_have_is_named_with_what_it_can(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose([override])
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


def test_a_debugger_changes_no_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """With this variable, as under a debugger, OmegaConf makes an error the cause of itself."""
    monkeypatch.setenv("OC_CAUSE", "1")
    with pytest.raises(ConfigError, match=r"there is no key 'study.arms.a' in the configuration"):
        compose(["study.arms={a: []}"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: sgd\nlearning_rate: 1\n", "there is no key 'optim.learning_rate' in the configuration (optim/mine.yaml)."),
        ("name: sgd\nlr: fast\n", "optim.lr=fast is not possible: allowed is a number above 0 (learning rate (peak))."),
        ("name: sdg\n", "optim.name=sdg is not possible. Did you mean sgd? Allowed is sgd, adam (optimiser)."),
        ("name: [\n", "a configuration file is not valid YAML: "),
        ("defaults: [nothing]\n", "the configuration cannot be composed: In 'optim/mine': Could not load 'optim/nothing'."),
    ],
)
def test_what_is_wrong_with_a_users_file_is_said_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, sentence: str
) -> None:
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_text(text)
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path))
    with pytest.raises(ConfigError) as error:
        compose(["optim=mine"])
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)
    assert not str(error.value).endswith("..")


def test_a_study_file_without_its_first_line_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mine.yaml").write_text("study:\n  name: mine\n")
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path))
    line = "a study file.* sets keys of the whole configuration: its first line must be '# @package _global_'."
    with pytest.raises(ConfigError, match=line):
        compose(["study=mine"])
    (tmp_path / "study" / "mine.yaml").write_text("defaults:\n  - override /norm: batch\nstudy:\n  name: mine\n")
    with pytest.raises(ConfigError, match=line):
        compose(["study=mine"])


def test_a_glob_chooses_every_file_that_it_matches() -> None:
    kinds = [config.norm.kind for config in expand_multirun(["norm=glob(b*,exclude=*renorm)", "data=digits"])]
    assert kinds == ["batch"]


@pytest.mark.parametrize(
    "typed",
    [
        "hydra.sweeper.params={optim.lr: '0.1,0.2'}",
        "hydra.sweeper.params={optim: {lr: [0.1, 0.2]}}",
        "+hydra.sweeper.params.optim.lr='0.1,0.2'",
        "hydra.sweeper.params.optim.lr=0.1,0.2",
        "hydra.sweeper.params={optim.lr: 'choice(0.1, 0.2)'}",
    ],
)
def test_params_of_a_sweeper_are_overrides_with_several_values(typed: str) -> None:
    assert [config.optim.lr for config in expand_multirun([typed, "data=digits"])] == [0.1, 0.2]
    fixed = expand_multirun([typed, "data=digits", "optim.lr=0.5"])
    assert [config.optim.lr for config in fixed] == [0.5]  # the key by itself comes first
