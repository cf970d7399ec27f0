"""Networks and images of the user's own in a configuration: how arguments are set, what makes an id, which studies fit."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from bnexp.config.factory import Named
from bnexp.config.keys import schema_keys
from bnexp.config.options import ModelName
from bnexp.config.schema import ConfigError, Decides, RunConfig, StudyConfig
from bnexp.plan.compose import compose
from bnexp.plan.expand import expand_multirun, expand_study
from bnexp.plan.reaching import fit_reach
from bnexp.plan.spec import RunSpec, identity
from bnexp.plan.study import as_job

BUILD = "def build(norm, in_channels, num_classes, size, width=16, *, act='relu'):\n    ...\n"
PYTHON = ("model=python", "model.factory=nets.py:build")
STUDIES = Path(__file__).parents[2] / "configs/study"


@pytest.fixture(autouse=True)
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(BUILD)
    (tmp_path / "images.py").write_text("def load(root='.'):\n    ...\n")
    return tmp_path / "nets.py"


def run_id(*overrides: str) -> str:
    return RunSpec(compose([*PYTHON, *overrides])).run_id


@pytest.mark.parametrize(
    "form", ["model.args.width=32", "+model.args.width=32", "++model.args.width=32", "model.args={width: 32}"]
)
def test_arguments_are_set_in_every_form(form: str) -> None:
    config = compose([*PYTHON, form])
    assert config.model.args == {"width": 32}
    assert config.model.factory == "nets.py:build"
    assert isinstance(config.model.factory, Named)
    assert re.fullmatch("[0-9a-f]{12}", config.model.fingerprint)
    assert run_id(form) == run_id("model.args.width=32") != run_id()


def test_arguments_are_keys_of_sweeps_arms_and_factors() -> None:
    swept = expand_multirun([*PYTHON, "model.args.width=8,16", "+model.args.act=relu,tanh"])
    assert [config.model.args for config in swept] == [
        {"width": width, "act": act} for width in (8, 16) for act in ("relu", "tanh")
    ]
    plan = expand_study(["study=batchnorm", "study.seeds=1", "data=digits", *PYTHON, "model.args.width=8,16"])
    assert [(config.model.args["width"], config.study.levels) for config in plan.configs[::2]] == [
        (width, {"model.args.width": width}) for width in (8, 16)
    ]
    assert as_job(["+model.args.width=8", "+study.levels={}", "seed=1"]) == {
        "model.args.width": "8",
        "+study.levels": "{}",
        "seed": "1",
    }


def test_a_study_of_the_users_own_varies_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own/study").mkdir(parents=True)
    study = {
        "name": "widths",
        "arms": {"narrow": ["model.args.width=8"], "wide": ["+model.args.width=16"]},
        "factors": {"model.args.act": ["relu", "tanh"]},
        "seeds": 1,
    }
    (tmp_path / "own/study/widths.yaml").write_text(f"# @package _global_\n{yaml.safe_dump({'study': study})}")
    monkeypatch.setenv("BNEXP_CONFIG_PATH", str(tmp_path / "own"))
    plan = expand_study(["study=widths", "data=digits", *PYTHON])
    assert [config.model.args for config in plan.configs] == [
        {"width": width, "act": act} for act in ("relu", "tanh") for width in (8, 16)
    ]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["model=python"], "model=python needs model.factory: a function of yours; add model.factory=FILE.py:FUNCTION or "),
        (["data=python"], "data=python needs data.factory: a function of yours; add data.factory="),
        (["model.factory=nets.py:build"], "model.factory=nets.py:build is used with model=python only; add model=python, or "),
        (["model.args.width=3"], "model.args is used with model=python only; add model=python, or leave it out."),
        ([*PYTHON, "model.fingerprint=aa"], "model.fingerprint is set by bnexp; leave it out."),
        (["data.fingerprint=aa"], "data.fingerprint is set by bnexp; leave it out."),
        (
            [*PYTHON, "model.args.widht=3"],
            "model.args.widht is no argument of nets.py:build(norm, in_channels, num_classes, size, width=16, *, act='relu'). "
            "Did you mean width?",
        ),
        ([*PYTHON, "model.args.size=3"], "model.args.size is no argument of nets.py:build("),
        (
            ["data=python", "data.factory=images.py:load", "data.args.rot=x"],
            "data.args.rot is no argument of images.py:load(root=",
        ),
        (
            ["model=python", "model.factory=images.py:load"],
            "model.factory=images.py:load(root='.') cannot be called with (norm, in_channels, num_classes, size): too many "
            "positional arguments; the first parameters of the function have to be (norm, in_channels, num_classes, size).",
        ),
        (
            [*PYTHON, "model.width=32"],
            "model.width=32 has no effect with model=python: your function makes the network; leave it ",
        ),
        ([*PYTHON, "model.width=32"], "or give it to the function: model.args.width=32."),
        ([*PYTHON, "model.init.scheme=normal"], "model.init.scheme=normal has no effect with model=python: "),
        (
            [*PYTHON, "norm.placement=both"],
            "norm.placement=both has no effect with model=python: where your function calls norm() ",
        ),
        ([*PYTHON, "norm.linear=false"], "norm.linear=false has no effect with model=python: "),
    ],
)
def test_each_mistake_has_its_sentence(overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        compose(overrides)
    assert sentence in str(raised.value)


def test_keys_without_effect_are_refused_where_they_vary_too() -> None:
    with pytest.raises(ConfigError, match=r"norm.placement=both has no effect with model=python"):
        expand_multirun([*PYTHON, "norm.placement=both,after_pool"])
    with pytest.raises(ConfigError, match=r"norm.linear=.* has no effect with model=python"):
        expand_study(["study=batchnorm", "data=digits", *PYTHON, "norm.linear=true,false"])


def test_the_id_is_of_the_function_its_source_and_its_arguments(nets: Path) -> None:
    first = run_id("norm=batch")
    (nets.parent / "deep").mkdir()
    nets.rename(nets.parent / "deep/networks.py")
    moved = ["model=python", "model.factory=deep/networks.py:build", "norm=batch"]
    assert RunSpec(compose(moved)).run_id == first
    assert RunSpec(compose(["model=python", "model.factory=deep.networks:build", "norm=batch"])).run_id == first
    (nets.parent / "deep/networks.py").write_text(f"{BUILD}other = build\n")
    changed = RunSpec(compose(moved)).run_id
    assert changed != first
    moved[1] = "model.factory=deep/networks.py:other"
    assert RunSpec(compose(moved)).run_id not in (first, changed)


def test_the_same_runs_of_bnexps_networks_keep_their_ids() -> None:
    kept = identity(RunConfig())
    assert not [name for name in kept if name.split(".")[-1] in ("factory", "fingerprint") or ".args" in name]
    own = identity(compose([*PYTHON, "norm=batch", "data=python", "data.factory=images.py:load", "data.args.root=x"]))
    built_in = {info.name for info in schema_keys() if info.metadata["built_in"]}
    assert not built_in & own.keys()
    assert {name: own[name] for name in own if "factory" in name or "args" in name} == {
        "data.factory": "load",
        "data.args.root": "x",
        "model.factory": "build",
    }


def test_a_record_holds_the_function_as_it_was_typed(nets: Path) -> None:
    named = f"{nets}:build"
    config = RunSpec(compose(["model=python", f"model.factory={named}", "model.args.width=8"])).to_dict()
    found = yaml.safe_load(yaml.safe_dump(config))["model"]
    assert (found["factory"], found["args"]) == (named, {"width": 8})


def studies() -> list[str]:
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def study_of(name: str) -> StudyConfig:
    text = yaml.safe_load((STUDIES / f"{name}.yaml").read_text())["study"]
    kept = {key: value for key, value in text.items() if key in ("name", "arms", "factors", "metrics")}
    study = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(StudyConfig), kept))
    assert isinstance(study, StudyConfig)
    return study


def test_shipped_studies_fit_or_say_why_not() -> None:
    refused = {}
    for name in studies():
        assert fit_reach(study_of(name), ModelName.lenet) == (study_of(name), "")
        try:
            fit_reach(study_of(name), ModelName.python)
        except ConfigError as error:
            refused[name] = str(error)
    assert refused["placement"] == (
        "study placement makes no sense with model=python: its arms before_activation and after_activation differ only in "
        "norm.placement, which your network does not use; it goes with studies whose arms and levels differ in data, norm (but "
        "placement, linear), optim, train, probe or model.args."
    )
    assert "its levels of model.depth 2 and 4 differ only in model.depth" in refused["depth"]
    assert "its arms none and skipinit differ only in model.init.residual" in refused["residual"]
    fitting = {
        "batchnorm",
        "norm_kind",
        "learning_rate",
        "learning_rate_scaling",
        "batch_size",
        "transfer",
    }
    assert not fitting & refused.keys()


def test_a_study_says_which_of_its_keys_do_not_reach_the_network() -> None:
    assert fit_reach(study_of("batchnorm"), ModelName.python)[1] == (
        "norm.placement of its arms has no effect with model=python: norms are where your function calls norm()."
    )
    plan = expand_study(["study=batchnorm", "study.seeds=1", "data=digits", *PYTHON])
    assert "norm.placement of its arms has no effect" in plan.note


def test_of_arms_that_differ_only_in_where_norms_stand_one_is_kept() -> None:
    plan = expand_study(["study=landscape", "study.seeds=1", "data=digits", *PYTHON])
    assert [config.study.arm for config in plan.configs] == ["none", "before_activation"]
    assert "norms are where your function calls norm(), so after_pool is left out." in plan.note
    study = study_of("landscape")
    study.decides = [Decides(arm="after_pool"), Decides(arm="before_activation"), Decides(arm="after_pool", baseline="none")]
    study.baseline = "after_pool"
    fitted, _ = fit_reach(study, ModelName.python)
    assert fitted.baseline == "before_activation"
    assert fitted.decides == [Decides(arm="before_activation"), Decides(arm="before_activation", baseline="none")]


def test_files_in_a_folder_that_the_code_adds_to_the_path_belong_to_it(nets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [*sys.path])
    (nets.parent / "lib").mkdir()
    nets.write_text(f"import sys\nsys.path.append({str(nets.parent / 'lib')!r})\nfrom parts_of_nets import WIDTH\n{BUILD}")
    found = []
    for width in (4, 5, 4):
        (nets.parent / "lib/parts_of_nets.py").write_text(f"WIDTH = {width}\n")
        found.append(run_id())
    assert found[0] == found[2] != found[1]
