"""Recorded runs divided into arms and levels, with what came of each run: what is then compared."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bnexp.comparison.columns import FACTS, metric_columns
from bnexp.comparison.differing import Grouping, Values, arm_name, arm_order, short_names, usual_grouping
from bnexp.comparison.pairing import Cell, listed, seed_text
from bnexp.comparison.result import Outcome, Status
from bnexp.comparison.untrained import SUSPECT, data_of, guessing_accuracy, why_stuck
from bnexp.comparison.varying import LEVELS, column_hint
from bnexp.config.keys import did_you_mean
from bnexp.config.schema import ConfigError
from bnexp.plan.study import levels_text
from bnexp.tracking.records import RecordedRun

if TYPE_CHECKING:
    import polars as pl

USUAL_METRIC = "test/accuracy"
MOST_NAMED = 12  # values that an error lists


@dataclass(frozen=True)
class Divided:
    """The runs that are compared, divided into arms and levels.

    Args:
        rows: their rows of ``load_runs``.
        grouping: how they are divided.
        settings: the deciding settings in which they differ.
        metric: what is compared.
        arms: the names of the arms, in order.
        outcomes: what came of each run.
        unseeded: (arm, level) -> why the seeds of its runs pair nothing.
        repeated: run id -> seed, of the runs there that have one: those of one seed are no independent runs.
        num_copies: number of runs left out because another run of their arm and level has the same seed, settings and metrics.
    """

    rows: pl.DataFrame
    grouping: Grouping
    settings: Values
    metric: str
    arms: list[str]
    outcomes: list[Outcome]
    unseeded: dict[Cell, str]
    repeated: dict[str, int]
    num_copies: int

    @classmethod
    def of(cls, rows: pl.DataFrame, grouping: Grouping, settings: Values, metric: str) -> Divided:
        """Divide runs. Raises ConfigError if they are fewer than two arms."""
        columns = [settings[name] if name in settings else rows[name].to_list() for name in grouping.arms]
        names, keys = short_names(grouping.arms), list(zip(*columns, strict=True))
        kept = list(dict.fromkeys(keys))
        if list(grouping.arms) != ["arm"]:  # a study's are in its own order
            kept.sort(key=lambda values: arm_order(grouping.arms, values))
        arms = list(dict.fromkeys(arm_name(names, values) for values in kept))
        if len(arms) < 2:
            what = ", ".join(grouping.arms)
            raise ConfigError(f"the runs have 1 value of {what}, and comparing takes two; choose other runs or columns.")
        outcomes = _outcomes(rows, [arm_name(names, key) for key in keys], grouping.by, settings, metric)
        whole = _without_copies(outcomes, rows, settings)
        unseeded = _unseeded(whole)
        repeated = {o.run_id: o.seed for o in whole if (o.arm, o.level) in unseeded and o.seed is not None}
        kept_seeds = [replace(o, seed=None) if (o.arm, o.level) in unseeded else o for o in whole]
        copies = len(outcomes) - len(whole)
        return cls(rows, grouping, settings, metric, arms, kept_seeds, unseeded, repeated, copies)

    @property
    def what(self) -> str:
        """What the arms differ in, in words."""
        return "arm" if self.grouping.arms == ("arm",) else " and ".join(self.grouping.arms)


def refuse_columns(runs: pl.DataFrame, named: Sequence[str]) -> None:
    """Raise ConfigError if these are no rows of runs, or lack a column."""
    if runs.is_empty():
        raise ConfigError("there are no runs to compare; filter less of load_runs, or train some.")
    for name in named:
        if name not in runs.columns:
            raise ConfigError(f"{name} is not a column of these runs.{column_hint(name, runs.columns)}")
    for name in ("run", "seed", "status"):
        if name not in runs.columns:
            raise ConfigError(f"{name} is not a column of these runs; give whole rows of load_runs.")


def metric_of(runs: pl.DataFrame, metric: str | None) -> str:
    """The metric that is compared. Raises ConfigError if it is none of these runs, or if they have several to choose from."""
    known = [name for name in metric_columns(runs) if runs[name].dtype.is_numeric() and runs[name].count()]
    if metric is None:
        if USUAL_METRIC in known:
            return USUAL_METRIC
        if len(known) == 1 or (likely := _likely(known)):
            return known[0] if len(known) == 1 else likely
        some = ", ".join(known[:MOST_NAMED]) + (", ..." if len(known) > MOST_NAMED else "")
        raise ConfigError(f"the runs have no {USUAL_METRIC}; name the metric to compare{f', one of {some}' if known else ''}.")
    if metric not in runs.columns:
        raise ConfigError(f"{metric} is not a column of these runs.{column_hint(metric, known or runs.columns)}")
    if metric in FACTS or not runs[metric].dtype.is_numeric():
        why = "it is a fact about the run" if metric in FACTS else "its values are not numbers"
        raise ConfigError(f"{metric} is no metric: {why}; give a column like {USUAL_METRIC}.")
    return metric


def _likely(known: Sequence[str]) -> str:
    """The accuracy that imported runs most likely mean: on test, else on validation images; empty unless it is a single one."""
    accuracies = [name for name in known if re.search(r"(^|[/_. ])(acc|accuracy)($|[/_. ])", name.lower())]
    for part in ("test", "val"):
        if fitting := [name for name in accuracies if part in name.lower()]:
            return fitting[0] if len(fitting) == 1 else ""
    return accuracies[0] if len(accuracies) == 1 else ""


def measured(runs: pl.DataFrame, metric: str) -> tuple[pl.DataFrame, list[str]]:
    """The runs that have the metric, and diverged ones, which count without it; a sentence on the others, if there are any."""
    import polars as pl

    kept = runs.filter(pl.col(metric).is_not_null() | (pl.col("status") == "diverged"))
    lacking = len(runs) - len(kept)
    if kept.is_empty():
        raise ConfigError(f"none of the {len(runs)} runs has recorded {metric}; choose another metric or other runs.")
    return kept, [f"{lacking} of {len(runs)} runs have not recorded {metric} and are left out."] if lacking else []


def grouping_of(runs: pl.DataFrame, settings: Values, by: tuple[str, ...]) -> Grouping:
    """The usual grouping, with more columns kept apart. Raises ConfigError if nothing differs."""
    apart = {name: values for name, values in settings.items() if name not in by}
    found = usual_grouping(runs, apart)
    if by and LEVELS in found.by and _told_twice(runs, by):
        found = replace(found, by=tuple(name for name in found.by if name != LEVELS))
    if not found.arms:
        rest = f" but {listed(found.left_out, 'settings')}, each run's own" if found.left_out else ""
        raise ConfigError(
            f"nothing differs between the settings of these {len(runs)} runs{' but the seed' * (not rest)}{rest}: choose more "
            "runs, or group them by a column such as study, arm or finished_at."
        )
    return replace(found, by=tuple(dict.fromkeys((*found.by, *by))))


def _told_twice(runs: pl.DataFrame, by: tuple[str, ...]) -> bool:
    """Whether the levels of a study say no more than the columns that are kept apart."""
    return runs.select(LEVELS, *by).n_unique() == runs.select(*by).n_unique()


def _outcomes(rows: pl.DataFrame, arms: Sequence[str], by: Sequence[str], settings: Values, metric: str) -> list[Outcome]:
    levels = [settings[name] if name in settings else rows[name].to_list() for name in by]
    stuck, names = _stuck(rows), short_names(by).values()
    found = []
    facts = rows.select("run", "seed", "status", metric).iter_rows()
    for number, ((run_id, seed, status, value), arm) in enumerate(zip(facts, arms, strict=True)):
        own = {name: values[number] for name, values in zip(by, levels, strict=True)}
        text = (
            str(own["study.levels"])
            if list(own) == ["study.levels"]
            else levels_text(dict(zip(names, own.values(), strict=True)))
        )
        found.append(Outcome(arm, text, own, seed, Status(status), value, run_id, stuck.get(run_id, "")))
    order = {level: n for n, level in enumerate(_in_order(found))}
    return sorted(found, key=lambda outcome: order[outcome.level])


def _in_order(outcomes: Sequence[Outcome]) -> list[str]:
    """The levels: sorted by their values, those of a study in their order of appearance."""
    levels = {outcome.level: outcome.levels for outcome in outcomes}
    if any("study.levels" in own for own in levels.values()):
        return list(levels)
    return sorted(levels, key=lambda level: arm_order(list(levels[level]), list(levels[level].values())))


def _stuck(rows: pl.DataFrame) -> dict[str, str]:
    """Run id -> why it is stuck, of the runs that are. Only those that can be are read."""
    if not {"path", "train/accuracy", "num_classes"} <= set(rows.columns):
        return {}
    import polars as pl

    suspects = rows.filter((pl.col("status") == "finished") & (pl.col("train/accuracy") * pl.col("num_classes") <= SUSPECT))
    records = [run for path in suspects["path"] if (run := RecordedRun(Path(path))).finished]
    chances = guessing_accuracy(records)
    return {run.run_id: why for run in records if (why := why_stuck(run, chances.get(data_of(run), math.nan)))}


def _without_copies(outcomes: Sequence[Outcome], rows: pl.DataFrame, settings: Values) -> list[Outcome]:
    """The outcomes without copies of a run, such as one that was imported from two files: they are no further evidence."""
    alike: dict[tuple[str, str, int, float | None], list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.seed is not None:
            alike.setdefault((outcome.arm, outcome.level, outcome.seed, outcome.value), []).append(outcome)
    suspects = {outcome.run_id for group in alike.values() if len(group) > 1 for outcome in group}
    if not suspects:
        return list(outcomes)
    metrics, contents = rows.select(metric_columns(rows)), {}
    for number, run_id in enumerate(rows["run"]):
        if run_id in suspects:
            contents[run_id] = repr(([values[number] for values in settings.values()], metrics.row(number)))
    seen, kept = set(), []
    for o in outcomes:
        content = (o.arm, o.level, o.seed, contents.get(o.run_id, o.run_id))
        kept += [] if content in seen else [o]
        seen.add(content)
    return kept


def _unseeded(outcomes: Sequence[Outcome]) -> dict[Cell, str]:
    """(arm, level) -> why the seeds of its runs pair nothing, as a clause."""
    seeds: dict[Cell, list[int | None]] = {}
    for outcome in outcomes:
        seeds.setdefault((outcome.arm, outcome.level), []).append(outcome.seed)
    found: dict[Cell, str] = {}
    for (arm, level), own in seeds.items():
        known = [seed for seed in own if seed is not None]
        twice = sorted({seed for seed in known if known.count(seed) > 1})
        if len(known) < len(own):
            found[arm, level] = f"{'no seed is' if not known else 'not all seeds are'} recorded for {arm}"
        elif twice:
            found[arm, level] = f"several runs of {arm} have {seed_text(twice[:3])}"
    return found


def arm_meant(chosen: Divided, baseline: str | None) -> str | None:
    """The arm that a user means: by its name, or by a value that it alone has. Raises ConfigError if there is none."""
    if baseline is None or baseline in chosen.arms:
        return baseline
    fitting = [arm for arm in chosen.arms if any(_same(baseline, part) for part in (arm, *arm.split(" ")))]
    if len(fitting) == 1:
        return fitting[0]
    some = ", ".join(chosen.arms[:MOST_NAMED]) + (", ..." if len(chosen.arms) > MOST_NAMED else "")
    if fitting:
        raise ConfigError(f"{baseline} fits several arms: {', '.join(fitting[:MOST_NAMED])}; name one of them in full.")
    hint = did_you_mean(baseline, chosen.arms)
    raise ConfigError(f"{baseline} is not a value of {chosen.what}: allowed are {some}.{hint}")


def _same(wanted: str, part: str) -> bool:
    value = part.rpartition("=")[2]
    if wanted in (part, value):
        return True
    try:
        return float(wanted) == float(value)
    except ValueError:
        return False
