"""What a study is made of: the overrides of its runs, of those that they start from, and of those that tune."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bnexp.config.schema import ConfigError, DataConfig, StudyConfig
from bnexp.config.validate import resolve_seeds
from bnexp.data.amount import num_available

TRAIN_SIZE = "data.train_size"
PRETRAINING = "pretraining"  # what the runs that others start from are called, where runs have an arm's name
CellKey = tuple[str, str]  # arm, levels as text
Level = str | int | float | bool | None  # the value of one factor


@dataclass(frozen=True)
class Cell:
    """One arm at one combination of levels, and the overrides that make it."""

    arm: str
    levels: dict[str, Any]
    overrides: list[str]

    @property
    def key(self) -> CellKey:
        return self.arm, levels_text(self.levels)

    def job(self, seed: int, setting: str = "", value: float | None = None, *, as_level: bool = False) -> list[str]:
        """The overrides of a run; ``setting`` has ``value`` in it, and with ``as_level`` that is one more of its levels."""
        chosen = [] if value is None else [f"{setting}={value:g}"]
        levels = self.levels | ({setting: f"{value:g}"} if as_level else {})
        marks = ",".join(f"{name}:{literal(level)}" for name, level in levels.items())
        return [*self.overrides, *chosen, f"seed={seed}", f"study.arm='{self.arm}'", f"+study.levels={{{marks}}}"]


@dataclass(frozen=True)
class Choice:
    """The best value of the tuned key for one cell.

    ``accuracies``: value -> mean validation accuracy of the last epoch over the tuning seeds, a fraction; a diverged run counts
    at chance. ``at_edge``: no lower, or no higher, value was tried than the best one.
    """

    arm: str
    levels: dict[str, Level]
    setting: str
    value: float
    accuracies: dict[float, float]
    at_edge: bool

    @property
    def key(self) -> CellKey:
        return self.arm, levels_text(self.levels)

    @property
    def accuracy(self) -> float:
        return self.accuracies[self.value]


def cells(study: StudyConfig) -> list[list[Cell]]:
    """The cells of a study: for each combination of levels, the arms side by side."""
    choices = []
    for name, levels in study.factors.items():
        named = levels.items() if isinstance(levels, dict) else [(level, [f"{name}={literal(level)}"]) for level in levels]
        choices.append([(name, level, list(changes)) for level, changes in named])
    found = []
    for combination in itertools.product(*choices):
        levels = {name: level for name, level, _ in combination}
        changes = [change for _, _, level_changes in combination for change in level_changes]
        found.append([Cell(arm, levels, [*arm_changes, *changes]) for arm, arm_changes in study.arms.items()])
    return found


def jobs(study: StudyConfig, choices: Sequence[Choice] = ()) -> Iterator[list[str]]:
    """The overrides that make each run of a study: level by level, seed by seed, arms side by side."""
    best = {choice.key: choice.value for choice in choices}
    for arms in cells(study):
        for seed in resolve_seeds(study.seeds):
            for cell in arms:
                yield cell.job(seed, study.tune.setting, best.get(cell.key))


def tuning_jobs(study: StudyConfig, grid: Sequence[float]) -> list[list[str]]:
    """The overrides of the runs that tune: cell by cell, value by value of the grid, seed by seed."""
    tune = study.tune
    return [
        cell.job(seed, tune.setting, value, as_level=True)
        for arms in cells(study)
        for cell in arms
        for value in grid
        for seed in tune.seeds
    ]


def pretraining_job(study: StudyConfig, job: Sequence[str]) -> list[str]:
    """The overrides of the run that the run of ``job`` starts from: its own, but for how it is trained further.

    The tuned key keeps the value that it has without tuning, so that one pretraining serves every value tried.
    """
    own = ["train.init_from=null", "train.trainable=all", "train.norm_statistics=live"]
    marks = [f"study.arm='{PRETRAINING}'", "+study.levels={}"]
    untuned = [item for item in job if not study.tune.grid or key_of(item) != study.tune.setting]
    return merge(merge(untuned, [*own, *marks]), study.pretrain)


def trained(jobs: Iterable[list[str]]) -> list[list[str]]:
    """The overrides of the runs behind ``jobs``, each run once: arms may be readings of the same runs."""
    runs = dict.fromkeys(tuple(item for item in job if not item.startswith(("study.", "+study."))) for job in jobs)
    return [list(run) for run in runs]


def key_of(override: str) -> str:
    """The key that an override sets."""
    return override.split("=", 1)[0]


def merge(first: Sequence[str], then: Sequence[str]) -> list[str]:
    """Both override lists, without the entries of the first whose key the second sets again."""
    taken = {key_of(item) for item in then}
    return [item for item in first if key_of(item) not in taken] + list(then)


def varied_keys(study: StudyConfig) -> set[str]:
    """The keys, and groups, that arms and factors set."""
    levels = [changes for named in study.factors.values() if isinstance(named, dict) for changes in named.values()]
    changes = itertools.chain.from_iterable([*study.arms.values(), *levels])
    return {key_of(change) for change in changes} | set(study.factors)


def budgeted(study: StudyConfig, available: int | None = None) -> dict[str, Any]:
    """The study's factors with the levels that its budget allows and its data can give.

    A level above ``study.limits`` is left out. So is, of ``data.train_size``, one above ``available``, the number of training
    images; null stands for all of them. Of more than ``study.max_levels`` so many are kept, evenly spaced, the first and the
    last among them.
    """
    factors = dict(study.factors)
    for name, levels in study.factors.items():
        if isinstance(levels, list | dict) and levels:
            there = available if name == TRAIN_SIZE else None
            within = [level for level in levels if _within(level, study.limits.get(name), there)]
            kept = _spread([level for level in within if not _beyond(level, there)], study.max_levels)
            factors[name] = kept if isinstance(levels, list) else {level: levels[level] for level in kept}
    return factors


def fitting(study: StudyConfig, data: DataConfig) -> tuple[dict[str, Any], str]:
    """``budgeted`` for these data, and a note on the levels left out because there are not so many images.

    Raises ConfigError where none is left.
    """
    if TRAIN_SIZE not in study.factors:
        return budgeted(study), ""
    available = num_available(data)
    factors, limit = budgeted(study, available), study.limits.get(TRAIN_SIZE)
    allowed = [level for level in study.factors[TRAIN_SIZE] if _within(level, limit, available)]
    left_out = ", ".join(str(level) for level in allowed if _beyond(level, available))
    there = f"{data.name} has {available:,} training images"
    if left_out and not factors[TRAIN_SIZE]:
        raise ConfigError(
            f"study {study.name} varies {TRAIN_SIZE} over {left_out}, but {there}; give its levels, like "
            f"{TRAIN_SIZE}={max(10, available // 2)},{available}."
        )
    return factors, f"{there}, so that {TRAIN_SIZE}={left_out} is left out." if left_out else ""


def _within(level: Any, limit: float | None, available: int | None) -> bool:
    """Whether a budget allows a level; null, which stands for all there is, only where that is known not to be too many."""
    number = available if level is None else level
    return limit is None or (number is not None and not (isinstance(number, int | float) and number > limit))


def _beyond(level: Any, available: int | None) -> bool:
    """Whether a number of training images is more than there are."""
    return available is not None and isinstance(level, int) and level > available


def _spread(levels: list[Any], count: int | None) -> list[Any]:
    if count is None or len(levels) <= count:
        return levels
    return [levels[round(i * (len(levels) - 1) / (count - 1))] for i in range(count)]


def value_text(value: Any) -> str:
    """A factor level as a configuration file writes it: ``0.01``, ``true``, ``null``."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def levels_text(levels: Mapping[str, Any]) -> str:
    """Factor levels as one text, keys by their last component: ``lr=0.01, batch_size=64``; empty without factors."""
    return ", ".join(f"{key.rsplit('.', 1)[-1]}={value_text(value)}" for key, value in levels.items())


def literal(value: Any) -> str:
    """A value as Hydra's override grammar reads it back."""
    text = "null" if value is None else str(value)
    if re.fullmatch(r"[\w.+-]+", text, re.ASCII):
        return text
    return "'" + re.sub(r"(\\+)(?='|\Z)", r"\1\1", text).replace("'", "\\'") + "'"  # before a quote a backslash counts double
