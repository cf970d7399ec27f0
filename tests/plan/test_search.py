"""A searching sweeper is told what to look for, in which direction, and with which seed, unless the user has said so."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from bnexp.config.schema import ConfigError
from bnexp.plan.search import search_of


class Direction(Enum):
    """As in Optuna's plugin, whose default is no text."""

    minimize = 1


def master(
    sweeper: dict[str, Any], *typed: str, name: str = "optuna", metric: str | None = None, val: float = 0.1
) -> DictConfig:
    """A multirun's composition, as far as a search reads it."""
    hydra = {
        "sweeper": {"_target_": "elsewhere.Sweeper", **sweeper},
        "runtime": {"choices": {"hydra/sweeper": name}},
        "overrides": {"hydra": list(typed)},
    }
    return OmegaConf.create({"optimized_metric": metric, "data": {"val_fraction": val}, "hydra": hydra})


OPTUNA = {"direction": Direction.minimize, "sampler": {"seed": None}, "storage": None, "n_trials": 7}
SEED = "hydra.sweeper.sampler.seed=0"
UP = "hydra.sweeper.direction=maximize"


@pytest.mark.parametrize(
    ("changes", "metric", "maximize", "settings"),
    [
        ({}, None, True, [UP, SEED]),
        ({}, "val/loss", False, [SEED]),
        ({"direction": "maximize"}, None, True, [SEED]),
        ({"direction": "MAXIMIZE"}, None, True, [SEED]),
        ({"direction": "maximize"}, "time/epoch_seconds", True, [SEED]),  # which may be wanted
        ({"direction": "minimize"}, "val/loss", False, [SEED]),
        ({"sampler": {"seed": 3}}, None, True, [UP]),
        ({"sampler": {}}, None, True, [UP]),
        ({"storage": "sqlite:///x.db"}, None, True, [UP]),  # it remembers; the same draws again would teach it nothing
    ],
)
def test_optuna_is_told_what_the_user_has_not(
    changes: dict[str, Any], metric: str | None, maximize: bool, settings: list[str]
) -> None:
    search = search_of(master(OPTUNA | changes, metric=metric))
    assert search is not None
    assert (search.maximize, search.settings, search.num_trials) == (maximize, settings, 7)
    assert search.metric == (metric or "val/accuracy")
    assert search.better(2.0, 1.0) == maximize
    assert search.better(search.worst, 0.0) is False


def test_without_validation_images_test_images_are_looked_at() -> None:
    search = search_of(master(OPTUNA, val=0.0))
    assert search is not None
    assert search.metric == "test/accuracy"


@pytest.mark.parametrize(
    ("direction", "metric", "sentence"),
    [
        ("minimize", None, "direction=minimize would look for the worst val/accuracy; give hydra.sweeper.direction=maximize."),
        ("maximize", "val/ece", "direction=maximize would look for the worst val/ece; give hydra.sweeper.direction=minimize."),
        ("up", None, "hydra.sweeper.direction=up is not possible: allowed are minimize, maximize."),
        (["minimize", "maximize"], None, "has several directions, but one metric is optimised (val/accuracy); give one"),
    ],
)
def test_a_wrong_direction_is_refused(direction: object, metric: str | None, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        search_of(master(OPTUNA | {"direction": direction}, metric=metric))
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("name", "sweeper", "settings"),
    [
        (
            "nevergrad",
            {"optim": {"maximize": False, "seed": None}},
            ["hydra.sweeper.optim.maximize=True", "hydra.sweeper.optim.seed=0"],
        ),
        ("ax", {"ax_config": {"experiment": {"minimize": True}}}, ["hydra.sweeper.ax_config.experiment.minimize=False"]),
        ("mine", {"n_trials": "many"}, []),
    ],
)
def test_other_sweepers_are_told_in_their_own_keys(name: str, sweeper: dict[str, Any], settings: list[str]) -> None:
    search = search_of(master(sweeper, name=name))
    assert search is not None
    assert (search.sweeper, search.maximize, search.settings, search.num_trials) == (name, True, settings, None)


def test_a_direction_that_was_typed_counts_although_it_is_the_default() -> None:
    key = "hydra.sweeper.optim.maximize"
    search = search_of(master({"optim": {"maximize": False}}, f"{key}=false", name="nevergrad", metric="learning_rate"))
    assert search is not None
    assert (search.maximize, search.settings) == (False, [])
    with pytest.raises(ConfigError, match=f"{key}=False would look for the worst val/accuracy; give {key}=True"):
        search_of(master({"optim": {"maximize": False}}, f"{key}=false", name="nevergrad"))


@pytest.mark.parametrize("target", ["hydra._internal.core_plugins.basic_sweeper.BasicSweeper", "x.StudySweeper"])
def test_a_sweeper_of_a_known_grid_searches_for_nothing(target: str) -> None:
    assert search_of(master({"_target_": target}, name="basic")) is None
