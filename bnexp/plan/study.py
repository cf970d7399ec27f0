"""The overrides that make the runs of a study, their pretrainings and the runs that tune."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bnexp.config.keys import PROBE_METRICS, in_args, with_plus
from bnexp.config.schema import StudyConfig
from bnexp.config.validate import resolve_seeds

BATCH_SIZE = "train.batch_size"
PROBES_OFF = {f"probe.{name}": "false" for name in PROBE_METRICS}
PRETRAINING = "pretraining"  # in place of an arm's name, for runs that others start from
CellKey = tuple[str, str]  # arm, levels as text
Level = str | int | float | bool | None  # the value of one factor
Job = dict[str, str]  # the overrides of a run: key -> value as text, in order


def as_job(overrides: Iterable[str]) -> Job:
    """Overrides ``KEY=VALUE``, each with one value, as a job. Plus signs before ``ARGS`` are left out."""
    pairs = (item.partition("=") for item in overrides)
    return {bare if in_args(bare := key.lstrip("+")) else key: value for key, _, value in pairs}


def texts_of(job: Job) -> list[str]:
    """A job in the form that Hydra reads: ``KEY=VALUE``."""
    return [with_plus(f"{key}={value}") for key, value in job.items()]


@dataclass(frozen=True)
class Cell:
    """One arm at one combination of levels, and the overrides that make it."""

    arm: str
    levels: dict[str, Any]
    overrides: Job

    @property
    def key(self) -> CellKey:
        return self.arm, levels_text(self.levels)

    def job(self, seed: int, setting: str = "", value: float | None = None, *, as_level: bool = False) -> Job:
        """The overrides of one run of this cell.

        Args:
            seed: of the run.
            setting: the key that is tuned.
            value: of ``setting``; None leaves it as it is.
            as_level: whether ``setting`` is recorded as one more factor with ``value`` as its level.
        """
        chosen = {} if value is None else {setting: f"{value:g}"}
        levels = self.levels | (chosen if as_level else {})
        marks = ",".join(f"{name}:{literal(level)}" for name, level in levels.items())
        own = {"seed": str(seed), "study.arm": f"'{self.arm}'", "+study.levels": f"{{{marks}}}"}
        return merge(merge(self.overrides, chosen), own)


@dataclass(frozen=True)
class Choice:
    """The best value of the tuned key for one cell.

    Args:
        arm: of the cell.
        levels: of the cell.
        setting: the key that was tuned.
        value: the best value.
        accuracies: value -> mean validation accuracy of the last epoch over the tuning seeds, a fraction. A diverged run counts
            at chance.
        at_edge: whether the best value is the smallest or the largest that was tried.
        rule: how the value came about if it was not tried; ``accuracies`` is empty then.
    """

    arm: str
    levels: dict[str, Level]
    setting: str
    value: float
    accuracies: dict[float, float]
    at_edge: bool
    rule: str = ""

    @property
    def key(self) -> CellKey:
        return self.arm, levels_text(self.levels)

    @property
    def accuracy(self) -> float:
        """That of the value; NaN if it was not tried."""
        return self.accuracies.get(self.value, math.nan)


def cells(study: StudyConfig) -> list[list[Cell]]:
    """The cells of a study: for each combination of levels, the arms side by side."""
    choices = []
    for name, levels in study.factors.items():
        if isinstance(levels, dict):
            choices.append([(name, level, as_job(changes)) for level, changes in levels.items()])
        else:
            choices.append([(name, level, {name: literal(level)}) for level in levels])
    found = []
    for combination in itertools.product(*choices):
        levels = {name: level for name, level, _ in combination}
        changes: Job = {}
        for _, _, level_changes in combination:
            changes = merge(changes, level_changes)
        found.append([Cell(arm, levels, merge(as_job(own), changes)) for arm, own in study.arms.items()])
    return found


def jobs(study: StudyConfig, choices: Sequence[Choice] = ()) -> Iterator[Job]:
    """The overrides of each run of a study: level by level, seed by seed, arms side by side.

    Args:
        study: its definition.
        choices: the tuned values; a cell without one keeps the value that it has.
    """
    best = {choice.key: choice.value for choice in choices}
    for arms in cells(study):
        for seed in resolve_seeds(study.seeds):
            for cell in arms:
                yield cell.job(seed, study.tune.setting, best.get(cell.key))


def tuned_cells(study: StudyConfig) -> list[Cell]:
    """The cells of a study that are tuned: all but those of the arm that follows the linear rule."""
    return [cell for arms in cells(study) for cell in arms if cell.arm != study.tune.linear.arm]


def with_linear_rule(study: StudyConfig, choices: Sequence[Choice]) -> list[Choice]:
    """The choices, and those of the arm that follows the linear rule: the value at the rule's batch size, times the ratio."""
    rule, found = study.tune.linear, {choice.key: choice for choice in choices}
    for arms in cells(study):
        for cell in arms if rule.arm else ():
            if cell.arm == rule.arm:
                source = found[rule.of, levels_text(cell.levels | {BATCH_SIZE: rule.batch_size})]
                value = source.value * cell.levels[BATCH_SIZE] / rule.batch_size
                text = f"{source.value:g} × {cell.levels[BATCH_SIZE]}/{rule.batch_size}"
                found[cell.key] = Choice(cell.arm, cell.levels, source.setting, value, {}, at_edge=False, rule=text)
    return [found[cell.key] for arms in cells(study) for cell in arms]


def tuning_jobs(study: StudyConfig, grid: Sequence[float]) -> list[Job]:
    """The overrides of the runs that tune: cell by cell, value by value of the grid, seed by seed.

    Probes are off: only the validation accuracy is read, and probes change no training.
    """
    tune = study.tune
    return [
        merge(cell.job(seed, tune.setting, value, as_level=True), PROBES_OFF)
        for cell in tuned_cells(study)
        for value in grid
        for seed in tune.seeds
    ]


def pretraining_job(study: StudyConfig, job: Job) -> Job:
    """The overrides of the run that the run of ``job`` starts from.

    They are the overrides of the run itself, without those on how its training goes on, and with ``study.pretrain``. The tuned
    key keeps the value that it has without tuning, so that one pretraining serves every value tried.
    """
    own = {"train.init_from": "null", "train.trainable": "all", "train.norm_statistics": "live"}
    marks = {"study.arm": f"'{PRETRAINING}'", "+study.levels": "{}"}
    untuned = {key: value for key, value in job.items() if not study.tune.grid or key != study.tune.setting}
    return merge(merge(untuned, own | marks), as_job(study.pretrain))


def trained(jobs: Iterable[Job]) -> list[Job]:
    """The overrides of the runs behind ``jobs``, each run once, because arms may be readings of the same run."""
    runs = [{key: value for key, value in job.items() if not key.startswith(("study.", "+study."))} for job in jobs]
    return list({tuple(run.items()): run for run in runs}.values())


def merge(first: Job, then: Job) -> Job:
    """Both jobs as one; a key that both set has the value of ``then``."""
    return {key: value for key, value in first.items() if key not in then} | then


def varied_keys(study: StudyConfig) -> set[str]:
    """The keys and config groups that arms and factors set."""
    levels = [changes for named in study.factors.values() if isinstance(named, dict) for changes in named.values()]
    return set().union(*map(as_job, [*study.arms.values(), *levels]), study.factors)


def value_text(value: Any) -> str:
    """A factor level as a configuration file writes it: ``0.01``, ``true``, ``null``."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def levels_text(levels: Mapping[str, Any]) -> str:
    """Factor levels as one text, keys by their last component: ``lr=0.01, batch_size=64``; empty without factors."""
    return ", ".join(f"{key.rsplit('.', 1)[-1]}={value_text(value)}" for key, value in levels.items())


def reason_of(name: str, error: Exception) -> str:
    """What an error says, for a sentence that has named the study already: ``it needs at least two arms``.

    Args:
        name: of the study.
        error: what is wrong with it, or what went wrong in it.
    """
    text = str(error) or type(error).__name__
    told = text.removeprefix(f"study {name} ")
    return text if told == text else f"it {told}"


def overrides_of(values: Mapping[str, Any]) -> list[str]:
    """Values as overrides: ``norm=batch``, ``optim.lr=0.1``."""
    return [f"{name}={literal(value)}" for name, value in values.items()]


def literal(value: Any) -> str:
    """A value, quoted if it has to be, so that Hydra's override grammar reads the same value back."""
    text = "null" if value is None else str(value)
    if re.fullmatch(r"[\w.+-]+", text, re.ASCII):
        return text
    return "'" + re.sub(r"(\\+)(?='|\Z)", r"\1\1", text).replace("'", "\\'") + "'"  # before a quote a backslash counts double
