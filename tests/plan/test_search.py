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


def master(sweeper: dict[str, Any], name: str = "optuna", metric: str | None = None, val: float = 0.1) -> DictConfig:
    """A multirun's composition, as far as a search reads it."""
    hydra = {
        "sweeper": {"_target_": "elsewhere.Sweeper", **sweeper},
        "runtime": {"choices": {"hydra/sweeper": name}},
    }
    return OmegaConf.create({"optimized_metric": metric, "data": {"val_fraction": val}, "hydra": hydra})


OPTUNA = {"direction": Direction.minimize, "sampler": {"seed": None}, "storage": None, "n_trials": 7}
SEED = "hydra.sweeper.sampler.seed=0"
UP, DOWN = "hydra.sweeper.direction=maximize", "hydra.sweeper.direction=minimize"


@pytest.mark.parametrize(
    ("changes", "metric", "maximize", "settings"),
    [
        ({}, None, True, [UP, SEED]),
        ({}, "val/loss", False, [DOWN, SEED]),
        ({"direction": "maximize"}, None, True, [SEED]),
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


@pytest.mark.parametrize(("metric", "maximize"), [(None, True), ("test/loss", False), ("time/images_per_second", True)])
def test_of_another_sweeper_we_know_no_keys_and_take_the_better_side_of_the_metric(metric: str | None, maximize: bool) -> None:
    search = search_of(master({"n_trials": "many", "direction": "up"}, name="mine", metric=metric))
    assert search is not None
    assert (search.sweeper, search.maximize, search.settings, search.num_trials) == ("mine", maximize, [], None)


def test_a_search_without_trials_is_refused() -> None:
    with pytest.raises(ConfigError, match="n_trials=0 is not possible: allowed is an integer at least 1"):
        search_of(master(OPTUNA | {"n_trials": 0}))


@pytest.mark.parametrize("target", ["hydra._internal.core_plugins.basic_sweeper.BasicSweeper", "x.StudySweeper"])
def test_a_sweeper_of_a_known_grid_searches_for_nothing(target: str) -> None:
    assert search_of(master({"_target_": target}, name="basic")) is None
