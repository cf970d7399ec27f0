"""Which points a sweep tries next: a list of them, or those that Optuna chooses from the results so far."""

from __future__ import annotations

import importlib
import itertools
import math
import warnings
from typing import Any, Protocol

from bnexp.comparison.sweep.record import Trial
from bnexp.config.schema import ConfigError
from bnexp.plan.sweep.distribution import Parameter, Value
from bnexp.plan.sweep.points import Point, SweepPlan


class Search(Protocol):
    """Chooses points."""

    def ask(self, count: int) -> list[Point]:
        """The next points, at most ``count``; none if there are no more."""

    def tell(self, trial: Trial) -> None:
        """What came of a point. Points are told in the order in which they were asked for."""


class Listed:
    """The points of ``grid`` and ``random``, which do not depend on results."""

    def __init__(self, plan: SweepPlan) -> None:
        self._points = plan.points()

    def ask(self, count: int) -> list[Point]:
        return list(itertools.islice(self._points, count))

    def tell(self, trial: Trial) -> None:
        """Nothing is learnt."""


class Bayes:
    """Optuna's tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for hyper-parameter optimization").

    Points that are asked for together are kept apart by its constant liar: each counts as a bad result until it is told. With
    the same seed, number at once and results, the same points are chosen; so an interrupted sweep goes on where it stopped.

    Args:
        plan: the sweep.

    Raises:
        ConfigError: Optuna is not installed.
    """

    def __init__(self, plan: SweepPlan) -> None:
        with warnings.catch_warnings():  # old versions use what SQLAlchemy has moved; options of the sampler are experimental
            warnings.simplefilter("ignore")
            optuna = _import_optuna()
            sampler = optuna.samplers.TPESampler(seed=plan.search_seed, multivariate=True, constant_liar=True)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = optuna.create_study(sampler=sampler, direction=plan.metric.goal)
        self._states, self._plan, self._open = optuna.trial.TrialState, plan, list[Any]()

    def ask(self, count: int) -> list[Point]:
        asked = []
        for _ in range(count):
            trial = self._study.ask()
            self._open.append(trial)
            asked.append({name: _suggested(trial, item) for name, item in self._plan.varied.items()})
        return asked

    def tell(self, trial: Trial) -> None:
        """A stopped run counts with its last value and the epoch of that; a failed one not at all; NaN as the worst value."""
        asked = self._open.pop(0)
        if trial.state in ("failed", "missing"):
            self._study.tell(asked, state=self._states.FAIL)
            return
        worst = -math.inf if self._plan.metric.goal == "maximize" else math.inf
        value = worst if math.isnan(trial.value) else trial.value
        if trial.state == "stopped":
            asked.report(value, max(trial.epochs))
            self._study.tell(asked, state=self._states.PRUNED)
        else:
            self._study.tell(asked, value)


def _import_optuna() -> Any:
    try:
        return importlib.import_module("optuna")
    except ImportError as error:
        raise ConfigError(
            "method: bayes needs Optuna, which is not installed here; install it: pip install 'bnexp[optuna]', or use "
            "method: random."
        ) from error


def _suggested(trial: Any, item: Parameter) -> Value:
    """A value that Optuna chooses. Distributions that it does not have are chosen by their cumulative probability."""
    if item.values:
        place = int(trial.suggest_categorical(item.name, list(range(len(item.values)))))
        return item.values[place]
    numbers = item.numbers
    assert numbers is not None  # it is a range
    if item.kind == "int_uniform":
        return int(trial.suggest_int(item.name, int(numbers["min"]), int(numbers["max"])))
    if item.kind in ("uniform", "log_uniform_values"):
        value = trial.suggest_float(item.name, numbers["min"], numbers["max"], log=item.is_log)
        return float(f"{value:.6g}")
    return item.at(trial.suggest_float(item.name, 0.0, 1.0))


def search_of(plan: SweepPlan) -> Search:
    """How the points of a sweep are chosen."""
    return Bayes(plan) if plan.file.method == "bayes" else Listed(plan)
