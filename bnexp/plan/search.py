"""What a searching sweeper is told, and what its launches come to: the metric that it optimises, the direction, its seed.

Hydra's own sweepers of this kind, such as Optuna's, minimise unless they are told otherwise, and draw other trials each time.
Both would be wrong here without a word: an accuracy would be minimised, and an interrupted search could not go on.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from bnexp.config.keys import larger_is_better
from bnexp.config.schema import ConfigError

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from hydra.plugins.launcher import Launcher
    from omegaconf import DictConfig

GRIDS = ("BasicSweeper", "StudySweeper")  # classes of the sweepers whose runs are known beforehand

# Sweeper -> the key of its direction, and its values for minimising, which is the default, and for maximising.
DIRECTIONS: dict[str, tuple[str, tuple[str | bool, str | bool]]] = {
    "ax": ("hydra.sweeper.ax_config.experiment.minimize", (True, False)),
    "nevergrad": ("hydra.sweeper.optim.maximize", (False, True)),
    "optuna": ("hydra.sweeper.direction", ("minimize", "maximize")),
}
JUDGED = ("/accuracy", "/loss", "/ece")  # nobody wants the worst of these
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
    key, sides = DIRECTIONS[name]
    value: Any = OmegaConf.select(master, key)
    if OmegaConf.is_list(value):
        raise ConfigError(
            f"{key}={list(value)} has several directions, but one metric is optimised ({metric}); give one direction, "
            "or leave it out."
        )
    value = value.lower() if isinstance(value, str) else value
    typed = any(str(text).lstrip("+").startswith(f"{key}=") for text in master.hydra.overrides.hydra)
    if not (typed or isinstance(value, str) or value == sides[True]):  # a file's word is text, Optuna's default is not
        return natural, [f"{key}={sides[True]}"] if natural else []
    if value not in sides:
        raise ConfigError(f"{key}={value} is not possible: allowed are {sides[False]}, {sides[True]}.")
    if value == sides[not natural] and metric.endswith(JUDGED):
        raise ConfigError(f"{key}={value} would look for the worst {metric}; give {key}={sides[natural]}.")
    return value == sides[True], []


def _lacks_seed(master: DictConfig, name: str) -> bool:
    """Whether the sweeper has random numbers without a seed, and no storage that remembers the trials of earlier searches."""
    from omegaconf import DictConfig, OmegaConf

    parent, _, key = SEEDS.get(name, "").rpartition(".")
    node = OmegaConf.select(master, parent) if parent else None
    return isinstance(node, DictConfig) and key in node and node[key] is None and master.hydra.sweeper.get("storage") is None


@contextmanager
def hearing(heard: Callable[[Sequence[JobReturn]], None]) -> Iterator[list[Exception]]:
    """Inside, ``heard`` is called with what each launch returns, whatever the sweeper does with it; what launches raise.

    A launcher itself stays as it is, because some are pickled for each job.
    """
    from hydra.core.plugins import Plugins

    failed, plugins = list[Exception](), Plugins.instance()
    original = type(plugins).instantiate_launcher

    def instantiate_launcher(self: Plugins, **arguments: Any) -> _Heard:
        return _Heard(original(self, **arguments), heard, failed)

    changed: Any = type(plugins)
    changed.instantiate_launcher = instantiate_launcher
    try:
        yield failed
    finally:
        changed.instantiate_launcher = original


@dataclass(frozen=True)
class _Heard:
    """A launcher as a sweeper sees it.

    Args:
        launcher: that does the work.
        heard: is called with the jobs of each launch.
        failed: gets what a launch raises.
    """

    launcher: Launcher
    heard: Callable[[Sequence[JobReturn]], None]
    failed: list[Exception]

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        try:
            jobs = self.launcher.launch(job_overrides, initial_job_idx=initial_job_idx)
            self.heard(jobs)
        except Exception as error:
            self.failed.append(error)
            raise
        return jobs

    def __getattr__(self, name: str) -> Any:
        return getattr(self.launcher, name)


def prepare_optuna(storage: object) -> None:
    """Let Optuna print no line about each of its studies, only warnings. Raise ConfigError if its storage cannot work."""
    logging = importlib.import_module("optuna.logging")
    logging.set_verbosity(logging.WARNING)
    old, new = (int(metadata.version(name).split(".")[0]) for name in ("optuna", "sqlalchemy"))
    if storage is not None and old < 3 and new >= 2:
        raise ConfigError(
            f"hydra.sweeper.storage={storage} needs an older SQLAlchemy: pip install 'sqlalchemy<2', or leave it out."
        )


def said(error: Exception) -> str:
    """What an error says, on one line; its kind if it says nothing."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
