"""What a searching sweeper is told, and what its launches come to: the metric that it optimises, the direction, its seed.

Hydra's sweeper of this kind is Optuna's. It minimises unless it is told otherwise, and draws other trials each time. Both would
be wrong here without a word: an accuracy would be minimised, and an interrupted search could not go on.
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

GRIDS = ("BasicSweeper", "StudySweeper")  # classes of the sweepers that do not choose by results

OPTUNA = "optuna"
DIRECTION, SIDES = "hydra.sweeper.direction", ("minimize", "maximize")  # of Optuna's sweeper
SEED = "hydra.sweeper.sampler.seed"  # of its random numbers; null draws other trials each time
SPACES = ("search_space", "custom_search_space")  # other ways to tell it what to vary
JUDGED = ("/accuracy", "/loss", "/ece")  # nobody wants the worst of these


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
        ConfigError: it has several directions, or no trials.
    """
    sweeper = master.hydra.sweeper
    if _makes_grid(str(sweeper.get("_target_"))):
        return None
    name = str(master.hydra.runtime.choices["hydra/sweeper"])
    metric = master.optimized_metric or ("val/accuracy" if master.data.val_fraction > 0 else "test/accuracy")
    maximize, settings = larger_is_better(metric), list[str]()
    if name == OPTUNA:
        if (typed := _typed_direction(sweeper.get("direction"), metric)) is None:
            settings.append(f"{DIRECTION}={SIDES[maximize]}")
        else:
            maximize = typed
        settings += [f"{SEED}=0"] if _lacks_seed(sweeper) else []
    num_trials = sweeper.get("n_trials")
    if isinstance(num_trials, int) and num_trials < 1:
        raise ConfigError(f"hydra.sweeper.n_trials={num_trials} is not possible: allowed is an integer at least 1.")
    return Search(name, metric, maximize, num_trials if isinstance(num_trials, int) else None, settings)


def _makes_grid(target: str) -> bool:
    """Whether a sweeper is one of ``GRIDS``, or made from one."""
    from hydra.core.plugins import Plugins

    sweeper = Plugins.instance().class_name_to_class.get(target)
    return bool(set(GRIDS) & {base.__name__ for base in sweeper.__mro__}) if sweeper else target.rsplit(".", 1)[-1] in GRIDS


def _typed_direction(direction: object, metric: str) -> bool | None:
    """Whether the user lets Optuna maximise; None if the user says nothing: Optuna's default is no text.

    Raises:
        ConfigError: there are several directions, or one that looks for the worst value.
    """
    from omegaconf import ListConfig

    if isinstance(direction, ListConfig):
        raise ConfigError(
            f"{DIRECTION}=[{','.join(map(str, direction))}] has several directions, but one metric is optimised ({metric}); "
            "give one direction, or leave it out."
        )
    if not isinstance(direction, str):
        return None
    if direction not in SIDES:
        raise ConfigError(f"{DIRECTION}={direction} is not possible: allowed are {', '.join(SIDES)}.")
    natural = larger_is_better(metric)
    if direction != SIDES[natural] and metric.endswith(JUDGED):
        raise ConfigError(f"{DIRECTION}={direction} would look for the worst {metric}; give {DIRECTION}={SIDES[natural]}.")
    return direction == SIDES[True]


def _lacks_seed(sweeper: DictConfig) -> bool:
    """Whether Optuna's random numbers have no seed, and no storage remembers the trials of earlier searches."""
    sampler = sweeper.get("sampler") or {}
    return "seed" in sampler and sampler["seed"] is None and sweeper.get("storage") is None


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
