"""What a searching sweeper is told: the metric that it optimises, the direction, and where its random numbers start.

Hydra's own sweepers of this kind, such as Optuna's, minimise unless they are told otherwise, and draw other trials each time.
Both would be wrong here without a word: an accuracy would be minimised, and an interrupted search could not go on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnexp.config.keys import larger_is_better
from bnexp.config.schema import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

GRIDS = ("BasicSweeper", "StudySweeper")  # classes of the sweepers whose runs are known beforehand

# Sweeper -> the key of its direction, and the value of that key that means maximising. By default all of them minimise.
DIRECTIONS: dict[str, tuple[str, str | bool]] = {
    "ax": ("hydra.sweeper.ax_config.experiment.minimize", False),
    "nevergrad": ("hydra.sweeper.optim.maximize", True),
    "optuna": ("hydra.sweeper.direction", "maximize"),
}
# Sweeper -> the key of the seed of its random numbers; null draws other trials each time.
SEEDS = {
    "ax": "hydra.sweeper.ax_config.client.random_seed",
    "nevergrad": "hydra.sweeper.optim.seed",
    "optuna": "hydra.sweeper.sampler.seed",
}


@dataclass(frozen=True)
class Search:
    """What a sweeper searches for.

    Args:
        sweeper: its name, such as ``optuna``.
        metric: what it optimises, at the last epoch of each run.
        maximize: whether it looks for the largest value.
        num_trials: how many jobs it will run; None if it does not say.
        settings: overrides of Hydra's own keys that make it so.
    """

    sweeper: str
    metric: str
    maximize: bool
    num_trials: int | None
    settings: list[str]

    @property
    def worst(self) -> float:
        """What a trial without a value counts as, such as one that diverged: a sampler then keeps away from it."""
        return -math.inf if self.maximize else math.inf

    def better(self, value: float, than: float) -> bool:
        """Whether a value is better than another one; one that is NaN never is."""
        return value > than if self.maximize else value < than


def search_of(master: DictConfig) -> Search | None:
    """What the sweeper of a multirun's composition searches for; None if it does not search but trains a known grid.

    Raises:
        ConfigError: it has several directions.
    """
    sweeper = master.hydra.sweeper
    if str(sweeper.get("_target_")).rsplit(".", 1)[-1] in GRIDS:
        return None
    name = str(master.hydra.runtime.choices["hydra/sweeper"])
    metric = master.optimized_metric or ("val/accuracy" if master.data.val_fraction > 0 else "test/accuracy")
    maximize, settings = _direction(master, name, metric)
    if _lacks_seed(master, name):
        settings.append(f"{SEEDS[name]}=0")
    num_trials = sweeper.get("n_trials")
    return Search(name, metric, maximize, num_trials if isinstance(num_trials, int) else None, settings)


def _direction(master: DictConfig, name: str, metric: str) -> tuple[bool, list[str]]:
    """Whether the sweeper maximises, and the override that makes it do so if the user has not said what it should do."""
    from omegaconf import OmegaConf

    natural = larger_is_better(metric)
    if name not in DIRECTIONS:
        return natural, []
    key, maximising = DIRECTIONS[name]
    value: Any = OmegaConf.select(master, key)
    if OmegaConf.is_list(value):
        raise ConfigError(
            f"{key}={list(value)} has several directions, but one metric is optimised ({metric}); give one direction, "
            "or leave it out."
        )
    value = value.lower() if isinstance(value, str) else value
    typed = any(str(text).lstrip("+").startswith(f"{key}=") for text in master.hydra.overrides.hydra)
    if typed or isinstance(value, str) or value == maximising:
        return value == maximising, []
    return natural, [f"{key}={maximising}"] if natural else []


def _lacks_seed(master: DictConfig, name: str) -> bool:
    """Whether the sweeper has random numbers without a seed, and no storage that remembers the trials of earlier searches."""
    from omegaconf import DictConfig, OmegaConf

    parent, _, key = SEEDS.get(name, "").rpartition(".")
    node = OmegaConf.select(master, parent) if parent else None
    return isinstance(node, DictConfig) and key in node and node[key] is None and master.hydra.sweeper.get("storage") is None
