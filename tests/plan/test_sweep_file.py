"""Sweep files mean what W&B's documentation says, and each mistake in one is named in a sentence before anything trains."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from bnexp.config.schema import ConfigError
from bnexp.plan.session import session
from bnexp.plan.sweep.distribution import KINDS, parameter
from bnexp.plan.sweep.file import load_file, sweep_files
from bnexp.plan.sweep.points import SweepPlan, plan_sweep

LR = {"distribution": "log_uniform_values", "min": 0.001, "max": 1.0}
NORMS = {"values": ["none", "batch"]}


def planned(path: Path, content: dict[str, Any], *overrides: str, seeds: int | None = None, search_seed: int = 0) -> SweepPlan:
    file = path / "mine.yaml"
    file.write_text(yaml.safe_dump({"method": "grid", "parameters": {"norm": NORMS}} | content))
    with session(["data=digits", *overrides]) as hydra:
        plan = plan_sweep(hydra, load_file(str(file)), seeds, search_seed)
        for point in itertools.islice(plan.points(), 3):
            plan.specs(point)
        return plan


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"method": "gird"}, "method: gird is not possible. Did you mean grid?"),
        ({"method": None}, "mine.yaml: there is no method: allowed are grid, random, bayes"),
        ({"methods": "grid"}, "has no key 'methods'. Did you mean method?"),
        ({"parameters": {}}, "mine.yaml has no parameters"),
        (
            {"parameters": {"optim.lrr": {"value": 1}}},
            "there is no key 'optim.lrr' in the configuration. Did you mean optim.lr=1?",
        ),
        ({"parameters": {"norm": {"values": ["none", "bacth"]}}}, "norm=bacth does not exist. Did you mean batch?"),
        ({"parameters": {"norm": {"values": []}}}, "norm has no values"),
        ({"parameters": {"norm": {"values": [[1]]}}}, "norm has a list or mapping among its values"),
        ({"parameters": {"norm": 3}}, "norm is 3, not a mapping"),
        ({"parameters": {"norm": {"vlaues": [1]}}}, "norm has no key 'vlaues'. Did you mean values?"),
        ({"parameters": {"optim.lr": LR | {"min": 2}}}, "min of optim.lr is 2, and has to be below its max of 1"),
        ({"parameters": {"optim.lr": LR | {"min": 0.0}}}, "log_uniform_values needs it above 0"),
        (
            {"parameters": {"optim.lr": LR | {"min": "1e-3"}}},
            "min of optim.lr is '1e-3', not a number; YAML reads 1e-3 as text",
        ),
        ({"parameters": {"optim.lr": LR | {"distribution": "log_unifrom"}}}, "Did you mean log_uniform?"),
        ({"parameters": {"optim.lr": {"distribution": "log_uniform", "min": 1, "max": 100}}}, "exponents of e"),
        ({"parameters": {"optim.lr": {"min": 0.1}}}, "optim.lr (uniform) lacks max"),
        (
            {"parameters": {"optim.lr": LR}},
            "continuous range (log_uniform_values), of which method: grid cannot try every value",
        ),
        ({"method": "random", "parameters": {"norm": {"min": 0.0, "max": 1.0}}}, "norm takes no numbers"),
        ({"parameters": {"train.epochs": {"distribution": "int_uniform", "min": 1, "max": 2.5}}}, "needs whole numbers"),
        (
            {"parameters": {"optim.lr": {"distribution": "normal", "sigma": 0}}},
            "sigma of optim.lr is 0: allowed is a number above 0",
        ),
        ({"parameters": {"norm": {"values": ["none", "batch"], "probabilities": [1]}}}, "one probability of at least 0"),
        ({"parameters": {"norm": {"distribution": "categorical"}}}, "norm (categorical) lacks values"),
        ({"parameters": {"norm": {"value": "batch", "min": 1}}}, "norm (constant) has no key 'min': allowed are value"),
        (
            {"method": "random", "parameters": {"train.batch_size": LR | {"min": 8, "max": 64}}},
            "train.batch_size is a whole number",
        ),
        ({"method": "random", "parameters": {"optim.momentum": {"min": 0.5, "max": 2.0}}}, "optim.momentum=2 is out of range"),
        ({"parameters": {"optim.lr": {"values": [0.1, -1.0]}}}, "optim.lr=-1.0: optim.lr=-1 is out of range"),
        ({"parameters": {"norm": {"value": "batch"}}}, "has nothing to search"),
        (
            {"parameters": {"norm": NORMS, "track.predictions": {"value": 3}}},
            "track.predictions changes nothing that a run learns",
        ),
        ({"parameters": {"optim": {"parameters": {"lr": {"value": 1}}}}}, "write the dotted key, such as optim.lr"),
        (
            {"metric": {"name": "val/acuracy", "goal": "maximize"}},
            "recorded by no run of this sweep. Did you mean val/accuracy?",
        ),
        ({"metric": {"name": "val/accuracy"}}, "is minimize (W&B's default is minimize), but it is better if it is larger"),
        ({"metric": {"name": "val/loss", "gaol": "minimize"}}, "metric has no key 'gaol'. Did you mean goal?"),
        ({"metric": {"goal": "minimize"}}, "metric has no name"),
        ({"method": "bayes"}, "method: bayes needs a metric"),
        ({"run_cap": 0}, "run_cap is 0: allowed is a whole number of at least 1"),
        ({"run_cap": "1e3"}, "run_cap is '1e3'"),
        ({"command": "bnexp train"}, "command is no list of words; write command: [bnexp, train, ${args_no_hyphens}]"),
        ({"command": ["bnexp", {"a": 1}]}, "command is no list of words"),
        ({"metric": {"name": "val/loss", "target": math.nan}}, "metric.target is nan, not a number"),
        (
            {"parameters": {"optim.lr": {"distribution": "log_normal", "mu": 800}}},
            "optim.lr (log_normal) has values beyond the largest number",
        ),
        ({"parameters": {"train.epochs": {"min": 1, "max": "1e400"}}}, "max of train.epochs is '1e400', not a number."),
        ({"early_terminate": {"type": "hyperband", "min_iter": 2}}, "early_terminate needs a metric"),
    ],
)
def test_a_mistake_ends_in_one_sentence(content: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        planned(tmp_path, content)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"type": "envelope"}, "type 'envelope' is not possible: allowed are hyperband, median"),
        ({"type": "hyperband"}, "needs min_iter, or max_iter with s"),
        ({"type": "hyperband", "max_iter": 27}, "needs s, the number of brackets"),
        ({"type": "hyperband", "min_iter": 3, "eat": 3}, "has no key 'eat'. Did you mean eta?"),
        ({"type": "hyperband", "min_iter": 3, "eta": 1}, "eta is 1: allowed is a number of at least 1.1"),
        ({"type": "hyperband", "min_iter": 3, "strict": "yes"}, "strict is 'yes': allowed are true, false"),
        ({"type": "hyperband", "max_iter": 2, "s": 2}, "has no bracket of at least 1 epoch"),
        ({"type": "median", "min_iter": -1}, "min_iter is -1"),
    ],
)
def test_a_mistake_in_early_termination_ends_in_one_sentence(given: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        planned(tmp_path, {"metric": {"name": "val/loss"}, "early_terminate": given})
    assert told in str(raised.value)


def test_runs_cannot_be_stopped_by_what_is_recorded_once(tmp_path: Path) -> None:
    content = {"metric": {"name": "test/loss"}, "early_terminate": {"type": "hyperband", "min_iter": 2}}
    with pytest.raises(ConfigError, match="test/loss is recorded once, at the end"):
        planned(tmp_path, content)


def test_what_is_no_mapping_or_no_yaml_is_said_so(tmp_path: Path) -> None:
    for text, told in (("- a", "is no sweep file"), ("a: [", "is not valid YAML")):
        (tmp_path / "mine.yaml").write_text(text)
        with pytest.raises(ConfigError, match=told):
            load_file(str(tmp_path / "mine.yaml"))
    with pytest.raises(ConfigError, match="there is no sweep file"):
        load_file(str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match="Did you mean lr_norm"):
        load_file("lr_nrom")


@pytest.mark.parametrize(
    ("given", "brackets"),
    [  # the examples of W&B's documentation
        ({"min_iter": 3}, (3, 9, 27, 81)),
        ({"max_iter": 27, "s": 2}, (3, 9)),
        ({"max_iter": 30, "s": 3, "eta": 2}, (3, 7, 15)),
    ],
)
def test_the_brackets_of_hyperband(given: dict[str, Any], brackets: tuple[int, ...], tmp_path: Path) -> None:
    content = {"metric": {"name": "val/loss"}, "early_terminate": {"type": "hyperband", **given}}
    stops = planned(tmp_path, content).file.early_terminate
    assert stops is not None
    assert stops.brackets[: len(brackets)] == brackets


UNIFORM, NORMAL = {"min": -2.0, "max": 3.0}, {"mu": 1.0, "sigma": 2.0}
ORACLES = {
    "uniform": (UNIFORM, stats.uniform(-2, 5)),
    "log_uniform": (UNIFORM, stats.loguniform(math.exp(-2), math.exp(3))),
    "log_uniform_values": ({"min": 0.01, "max": 10.0}, stats.loguniform(0.01, 10)),
    "inv_log_uniform_values": ({"min": 0.01, "max": 10.0}, stats.loguniform(0.01, 10)),
    "inv_log_uniform": (UNIFORM, stats.loguniform(math.exp(-3), math.exp(2))),  # log(1/x) lies between -2 and 3
    "normal": (NORMAL, stats.norm(1, 2)),
    "log_normal": (NORMAL, stats.lognorm(2, scale=math.e)),
    "beta": ({"a": 2.0, "b": 3.0}, stats.beta(2, 3)),
}


@pytest.mark.parametrize("kind", ORACLES)
def test_a_distribution_has_the_quantiles_that_scipy_gives_it(kind: str) -> None:
    numbers, oracle = ORACLES[kind]
    item = parameter("optim.lr", {"distribution": kind, **numbers}, "file")
    for u in (0.05, 0.31, 0.5, 0.77, 0.95):
        assert item.at(u) == pytest.approx(oracle.ppf(u), rel=2e-5)
        if f"q_{kind}" in KINDS:
            rounded = parameter("optim.lr", {"distribution": f"q_{kind}", **numbers, "q": 0.5}, "file").at(u)
            assert rounded == pytest.approx(np.round(oracle.ppf(u) / 0.5) * 0.5)


def test_lists_and_whole_numbers_have_their_shares() -> None:
    shares = parameter("norm", {"values": ["a", "b", "c"], "probabilities": [0.2, 0.0, 0.8]}, "file")
    assert [shares.at(u) for u in (0.0, 0.19, 0.21, 0.999, 1.0)] == ["a", "a", "c", "c", "c"]
    whole = parameter("train.epochs", {"min": 1, "max": 3}, "file")
    assert whole.kind == "int_uniform"
    assert [whole.at(u) for u in (0.0, 0.32, 0.34, 0.66, 0.67, 1.0)] == [1, 1, 2, 2, 3, 3]
    assert whole.grid() == [1, 2, 3]
    assert isinstance(whole.at(0.5), int)
    normal = parameter("optim.lr", {"distribution": "normal"}, "file")
    assert [normal.at(u) for u in (0.5, 0.841344746)] == pytest.approx([0, 1], abs=1e-6)
    assert parameter("optim.momentum", {"distribution": "beta"}, "file").at(0.3) == pytest.approx(0.3)
    eights = parameter("train.batch_size", {"distribution": "q_uniform", "min": 8, "max": 64, "q": 8}, "file")
    assert [(eights.at(u), type(eights.at(u))) for u in (0.1, 0.9)] == [(16, int), (56, int)]
    steps = parameter("optim.lr", {"distribution": "q_uniform", "min": 0.1, "max": 0.5, "q": 0.2}, "file")
    assert steps.grid() == [0.2, 0.4]


def test_a_grid_is_every_combination_and_norm_means_the_config_group(tmp_path: Path) -> None:
    content = {"parameters": {"norm": NORMS, "optim.lr": {"values": ["1e-2", 0.1]}, "train.epochs": {"value": 1}}}
    plan = planned(tmp_path, content)
    points = list(plan.points())
    assert [(p["norm"], p["optim.lr"]) for p in points] == [("none", 0.01), ("none", 0.1), ("batch", 0.01), ("batch", 0.1)]
    (spec,) = plan.specs(points[-1])
    assert (spec.config.norm.kind, spec.config.optim.lr, spec.config.train.epochs) == ("batch", 0.1, 1)
    assert spec.study == "mine"
    assert spec.label == "batch lr=0.1 seed=0"


def test_random_points_follow_the_seed_and_come_once(tmp_path: Path) -> None:
    content = {"method": "random", "run_cap": 9, "parameters": {"norm": NORMS, "optim.lr": LR}}
    first, again, other = (
        list(itertools.islice(planned(tmp_path, content, search_seed=seed).points(), 9)) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert all(0.001 <= point["optim.lr"] <= 1 for point in first)  # type: ignore[operator]
    few = planned(tmp_path, {"method": "random", "parameters": {"norm": NORMS}})
    assert sorted(point["norm"] for point in few.points()) == ["batch", "none"]  # type: ignore[type-var]


def test_overrides_fix_a_parameter_or_list_its_values(tmp_path: Path) -> None:
    content = {"parameters": {"norm": NORMS, "optim.lr": {"values": [0.01, 0.1]}}}
    plan = planned(tmp_path, content, "optim.lr=0.3,1.0", "norm=layer", "train.epochs=2")
    assert list(plan.points()) == [{"optim.lr": 0.3}, {"optim.lr": 1.0}]
    assert plan.overrides == ["data=digits", "norm=layer", "train.epochs=2"]
    with pytest.raises(ConfigError, match="has no effect in a sweep"):
        planned(tmp_path, content, "study=batchnorm")


def test_seeds_of_the_file_are_the_seeds_of_each_point(tmp_path: Path) -> None:
    content = {"parameters": {"norm": NORMS, "seed": {"values": [3, 5]}}}
    plan = planned(tmp_path, content)
    assert list(plan.points()) == [{"norm": "none"}, {"norm": "batch"}]
    assert [spec.seed for spec in plan.specs({"norm": "batch"})] == [3, 5]
    assert planned(tmp_path, {}, "seed=7", seeds=2).seeds == [7, 8]
    with pytest.raises(ConfigError, match="exclude each other"):
        planned(tmp_path, content, seeds=2)
    with pytest.raises(ConfigError, match="seed is no setting to search"):
        planned(tmp_path, {"method": "random", "parameters": {"norm": NORMS, "seed": {"min": 1, "max": 9}}})


def test_the_id_says_what_trains_and_not_how_many_or_where(tmp_path: Path) -> None:
    content = {"method": "random", "parameters": {"norm": NORMS, "optim.lr": LR}}
    known = planned(tmp_path, content).sweep_id
    same = [planned(tmp_path, content | {"run_cap": 5}), planned(tmp_path, content, "executor=inline", "train.device=cpu")]
    assert {plan.sweep_id for plan in same} == {known}
    other = [planned(tmp_path, content, "train.epochs=3"), planned(tmp_path, content, search_seed=1)]
    other += [
        planned(tmp_path, content, seeds=2),
        planned(tmp_path, content | {"method": "random", "metric": {"name": "val/loss"}}),
    ]
    assert len({known, *(plan.sweep_id for plan in other)}) == 5


@pytest.mark.parametrize("name", sorted(sweep_files()))
def test_a_sweep_of_ours_is_whole_and_is_one_that_an_agent_of_wandb_can_run(name: str) -> None:
    file = load_file(name)
    assert file.raw["name"] == name
    assert file.raw["command"] == ["bnexp", "train", "${args_no_hyphens}"]
    assert file.description
    assert not {*file.raw} - {"name", "description", "method", "run_cap", "metric", "early_terminate", "parameters", "command"}
    with session(["data=digits"]) as hydra:
        plan = plan_sweep(hydra, file, None, 0)
        for point in itertools.islice(plan.points(), 4):
            assert plan.specs(point)
