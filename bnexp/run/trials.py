"""What the jobs of a multirun came to, as they come, and the best of them if a sweeper searched for it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bnexp.config.keys import is_accuracy
from bnexp.config.overrides import unescaped
from bnexp.plan.compose import compose, to_config
from bnexp.plan.search import Search, search_of
from bnexp.plan.session import Session
from bnexp.plan.spec import RunSpec, identity
from bnexp.plan.study import Job, as_job, literal, texts_of

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from hydra.core.utils import JobReturn

FRESH_SEEDS = 5  # with which the best trial is to be trained again


@dataclass(frozen=True)
class Trial:
    """One job of a multirun.

    Args:
        number: its place among the jobs, from 1.
        chosen: the values that the sweeper chose: key -> value as text.
        spec: its run.
        value: of the metric that is optimised; NaN if the run failed or diverged.
    """

    number: int
    chosen: Job
    spec: RunSpec
    value: float


@dataclass
class Trials:
    """The jobs of a multirun that have ended.

    Args:
        tell: is called with a sentence on each trial of a search; None if nobody is told.
        search: what the sweeper searches for; None if it trains a known grid.
        ended: the jobs, in order.
    """

    tell: Callable[[str], None] | None = None
    search: Search | None = None
    ended: list[Trial] = field(default_factory=list)
    _shared: list[Override] = field(default_factory=list)

    def begin(self, hydra: Session) -> None:
        """Remember what the command line asks for, before the first job starts."""
        self.search = search_of(hydra.master)
        self._shared = [item for item in hydra.overrides if not item.is_sweep_override()]

    def hear(self, jobs: Sequence[JobReturn]) -> None:
        """Add jobs that have ended, and tell the user of them if they are trials of a search."""
        from hydra.core.utils import JobStatus

        shared = {item.get_key_element() for item in self._shared}
        for job in jobs:
            if job.cfg is None:
                continue
            given = as_job(job.overrides or [])
            chosen = {key: unescaped(value) for key, value in given.items() if key not in shared}
            value = float(job.return_value) if job.status is JobStatus.COMPLETED else math.nan
            self.ended.append(Trial(len(self.ended) + 1, chosen, RunSpec(to_config(job.cfg)), value))
            if self.search and self.tell:
                self.tell(self._line(self.search, self.ended[-1]))

    @property
    def best(self) -> Trial | None:
        """The best trial of a search, the first of equal ones; None without a search, or if no trial has a value."""
        best = None
        for trial in self.ended if self.search else ():
            if self.search and (self.search.better(trial.value, best.value) if best else not math.isnan(trial.value)):
                best = trial
        return best

    def _line(self, search: Search, trial: Trial) -> str:
        of = f"/{search.num_trials}" if search.num_trials else ""
        mark = "  best so far" if trial is self.best and trial.number > 1 else ""
        return f"trial {trial.number}{of}: {chosen_text(trial)}  {search.metric} {value_text(search, trial)}{mark}"

    def summary(self) -> list[str]:
        """The best trial of a search in sentences, and how to train it again; empty without trials."""
        search, best = self.search, self.best
        if search is None:
            return []
        if best is None:
            return [f"None of {len(self.ended)} trials has a {search.metric}: all failed or diverged."] if self.ended else []
        how = "largest" if search.maximize else "smallest"
        lines = [
            f"Best of {len(self.ended)} trials ({how} {search.metric}): trial {best.number}, "
            f"{value_text(search, best)} with {chosen_text(best)}."
        ]
        if len(self.ended) > 1 and "seed" not in best.chosen:
            lines.append("The best of many looks better than it is: measure it again with fresh seeds.")
            lines.append(f"  {self._again(best)}")
        return lines

    def _again(self, best: Trial) -> str:
        """The command that trains the best trial with seeds that the search has not used."""
        shared = as_job(str(item.input_line) for item in self._shared if not _steers_sweeper(item.key_or_group))
        job = {**shared, **best.chosen}
        wanted = identity(best.spec.config)
        found = identity(compose(texts_of(job)))
        job |= {key: literal(value) for key, value in wanted.items() if found.get(key, wanted) != value and key in found}
        seeds = {trial.spec.seed for trial in self.ended}
        job["seed"] = f"range({max(seeds) + 1},{max(seeds) + 1 + FRESH_SEEDS})"
        return shlex.join(["bnexp", "train", "-m", *(f"{key}={value}" for key, value in job.items())])


def _steers_sweeper(key: str) -> bool:
    return key.startswith("hydra") or key in ("hparams_search", "optimized_metric")


def chosen_text(trial: Trial) -> str:
    """The values that the sweeper chose, as overrides: ``optim.lr=0.01 norm=batch``."""
    return " ".join(f"{key}={short(value)}" for key, value in trial.chosen.items())


def short(value: str) -> str:
    """A value as a table shows it: a number with four digits, and other text as it is."""
    try:
        return f"{float(value):.4g}" if "." in value or "e" in value else value
    except ValueError:
        return value


def typed(value: str) -> str | int | float:
    """A value as it is in JSON: a number if it is one."""
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def value_text(search: Search, trial: Trial) -> str:
    """The value of a trial with its unit."""
    if math.isnan(trial.value):
        return "none (failed or diverged)"
    return f"{100 * trial.value:.2f} %" if is_accuracy(search.metric) else f"{trial.value:.4g}"
