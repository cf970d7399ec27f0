"""What a sweep found: the best setting, said with the uncertainty that fresh seeds give it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from bnexp.comparison import stats
from bnexp.comparison.differing import short_names
from bnexp.comparison.frame import MOST_ARMS, RunComparison, compare
from bnexp.comparison.loading import runs_frame
from bnexp.comparison.result import Comparison, Verdict
from bnexp.comparison.sweep.record import SweepRecord, Trial, state_counts
from bnexp.comparison.text import effect, interval, level_unit, number
from bnexp.config.keys import metric_unit
from bnexp.config.schema import ConfigError
from bnexp.plan.study import overrides_of
from bnexp.tracking.store import Store

TEST = "test/accuracy"
# How another point stands -> what is said of the best one. It has the best mean, but may lack a seed that another one has.
_OF_THE_BEST = {
    "worse": "better than",
    "as good": "as good as",
    "not told apart": "not told apart from",
    "better": "worse than",
}
POINT = "arm"  # the column of the comparison; its arms stay in their order


@dataclass(frozen=True)
class Fresh:
    """One of the best points, trained again with seeds that the sweep had not used.

    Args:
        trial: the point.
        n: number of runs.
        metric: the mean of the sweep's metric over them, as recorded. Of several points the best is chosen once more, so their
            intervals hold together with 95 % (Bonferroni).
        test: the same of the test accuracy.
        diverged: number of runs that diverged; they count at chance accuracy.
    """

    trial: Trial
    n: int
    metric: stats.Interval
    test: stats.Interval
    diverged: int


@dataclass(frozen=True)
class SweepResult:
    """What a sweep found.

    Args:
        record: the sweep.
        answer: one sentence.
        fresh: the best points, trained again, the best of them first; empty if none were.
        comparison: each of them against each, paired by seed; None if there is nothing to compare. The best was chosen by the
            same runs, so Holm's correction counts all pairs, also those without it.
    """

    record: SweepRecord
    answer: str
    fresh: list[Fresh]
    comparison: RunComparison | None

    @property
    def best(self) -> Trial | None:
        """The best point: by its fresh runs if there are any, else by those of the sweep; None if none has a result."""
        if self.fresh:
            return self.fresh[0].trial
        return next(iter(self.record.ranked()), None)

    @property
    def against_best(self) -> dict[int, Comparison]:
        """Number of a point -> how it compares with the best, of those that were trained again."""
        if not self.fresh or self.comparison is None:
            return {}
        best, numbers = label(self.fresh[0].trial), {label(item.trial): item.trial.number for item in self.fresh}
        return {numbers[c.arm]: c for c in self.comparison.comparisons if c.baseline == best}

    def standing(self, c: Comparison) -> str:
        """How the point of a comparison with the best one stands, in words: one of ``_OF_THE_BEST``."""
        if c.verdict is Verdict.EQUIVALENT:
            return "as good"
        if c.verdict not in (Verdict.SUPPORTED, Verdict.REFUTED):
            return "not told apart"
        return "better" if self.record.objective.is_better(c.difference, 0.0) else "worse"

    @property
    def train_command(self) -> str:
        """The command that trains the best point; empty without one."""
        if self.best is None:
            return ""
        return shlex.join(
            ["bnexp", "train", *self.record.overrides, *overrides_of(self.best.params), f"seed={self.record.seeds[0]}"]
        )

    @property
    def compare_command(self) -> str:
        """The command that compares the points that were trained again; empty if fewer than two were."""
        confirmed = self.record.confirmed
        if confirmed is None or self.comparison is None:
            return ""
        run_ids = [run_id for number in confirmed.numbers for run_id in confirmed.run_ids[str(number)]]
        columns = ",".join(column(axis.name) for axis in self.record.axes)
        return shlex.join(["bnexp", "compare", *_shortened(run_ids), "--metric", self.record.metric, "--group-by", columns])


def column(name: str) -> str:
    """The column of recorded runs that a parameter sets: ``norm.kind`` for the config group ``norm``."""
    return {"norm": "norm.kind"}.get(name, name if "." in name else f"{name}.name")


def point_name(trial: Trial) -> str:
    """``norm=batch lr=0.1``: a point for people."""
    names = short_names(list(trial.params))
    return " ".join(f"{names[name]}={'null' if v is None else v}" for name, v in trial.params.items())


def shown(value: float, metric: str) -> str:
    """A value of a metric with its unit: ``97.35 %``."""
    unit = metric_unit(metric)
    return f"{number(100 * value if unit == 'pp' else value, unit)} {level_unit(metric, unit)}".rstrip()


def shown_interval(found: stats.Interval, metric: str) -> str:
    """``97.35 % [96.80, 97.90]``; that of an accuracy ends at 0 and 100 %."""
    unit = metric_unit(metric)
    low, high = found.low, found.high
    if unit == "pp":
        low, high = (100 * min(max(end, 0.0), 1.0) for end in (low, high))
    return f"{shown(found.estimate, metric)} {interval(low, high, unit)}".rstrip()


def conclude(record: SweepRecord, store: Store) -> SweepResult:
    """Say what a sweep found, from its records.

    Args:
        record: the sweep.
        store: where its runs are recorded.
    """
    fresh, comparison = _fresh(record, store)
    result = SweepResult(record, "", fresh, comparison)
    return replace(result, answer=_answer(result))


def _fresh(record: SweepRecord, store: Store) -> tuple[list[Fresh], RunComparison | None]:
    """The points that were trained again, the best first, and their comparison."""
    if record.confirmed is None:
        return [], None
    ids = {number: record.confirmed.run_ids.get(str(number), []) for number in record.confirmed.numbers}
    records = store.finished([run_id for own in ids.values() for run_id in own])
    found, level = [], 1 - 0.05 / max(1, len(ids))
    for number_, own in ids.items():
        summaries = [records[run_id].summary for run_id in own if run_id in records]
        metric, test = (stats.mean_interval([s.metric(name) for s in summaries], level) for name in (record.metric, TEST))
        diverged = sum(summary.status == "diverged" for summary in summaries)
        if summaries:
            found.append(Fresh(record.trial(number_), len(summaries), metric, test, diverged))
    found.sort(key=lambda item: (math.isnan(item.metric.estimate), record.objective.cost(item.metric.estimate)))
    if len(found) < 2:
        return found, None
    names = {run_id: label(item.trial) for item in found for run_id in ids[item.trial.number]}
    frame = runs_frame([records[run_id] for run_id in names if run_id in records], store)  # later arms against earlier ones
    frame = frame.with_columns(pl.Series(POINT, [names[run_id] for run_id in frame["run"]]))
    try:
        return found, compare(frame, arm=POINT, metric=record.metric)
    except ConfigError:  # no run has the metric, because all have diverged
        return found, None


def label(trial: Trial) -> str:
    """``#3 norm=batch lr=0.1``: a point and its number, as the comparison names it."""
    return f"#{trial.number} {point_name(trial)}"


def _answer(result: SweepResult) -> str:
    record, fresh = result.record, result.fresh
    ranked = record.ranked()
    counts = state_counts(record)
    tried = len({tuple(trial.run_ids) for trial in record.trials if trial.run_ids and trial.state != "missing"})
    if not ranked:
        return f"No point of the sweep has a result yet: {_counted(counts)}."
    of = f"the best of {tried} points" if tried > 1 else "the only point"
    if not fresh:
        best = ranked[0]
        luck = "; the best of many is better by luck, so train it again with fresh seeds (--confirm 3)" if tried > 1 else ""
        return f"{point_name(best)} is {of}: {record.metric} {shown(best.value, record.metric)} in the sweep{luck}."
    best_again = fresh[0]
    known = not math.isnan(best_again.metric.estimate)
    value = shown_interval(best_again.metric, record.metric) if known else "has no mean"
    sentence = (
        f"{point_name(best_again.trial)} is {of}: {record.metric} {value} with {_seeds(record, best_again)} "
        f"({_in_the_sweep(record, best_again)})"
    )
    if not math.isnan(best_again.test.estimate) and record.metric != TEST:
        sentence += f", {TEST} {shown_interval(best_again.test, TEST)}"
    return f"{sentence}.{_against(result)}"


def _seeds(record: SweepRecord, again: Fresh) -> str:
    """How many fresh seeds a point has, and what became of the others: a run that diverged counts, one that failed does not."""
    asked = len(record.confirmed.run_ids[str(again.trial.number)]) if record.confirmed else again.n
    count = f"{again.n} of {asked}" if again.n < asked else f"{again.n}"
    diverged = f", of which {again.diverged} diverged" if again.diverged else ""
    return f"{count} fresh seed{'s' * (asked != 1)}{diverged}"


def _in_the_sweep(record: SweepRecord, again: Fresh) -> str:
    """What the point had in the sweep: a value that is chosen as the best of many is better by luck."""
    before = shown(again.trial.value, record.metric)
    if not math.isnan(again.metric.estimate) and record.objective.is_better(again.trial.value, again.metric.estimate):
        return f"in the sweep {before}: chosen as one of the best, it was lucky"
    return f"in the sweep {before}"


def _against(result: SweepResult) -> str:
    """How the best point compares with the others that were trained again."""
    if not result.against_best:
        many = len(result.fresh) > MOST_ARMS
        return f" More than {MOST_ARMS} points are not tested against each other." if many else ""
    others: dict[str, list[str]] = {}
    for c in result.against_best.values():
        others.setdefault(result.standing(c), []).append(_named(c))
    parts = [f"{said} {' and '.join(others[word])}" for word, said in _OF_THE_BEST.items() if word in others]
    return f" It is {'; '.join(parts)} (exploratory)."


def _named(c: Comparison) -> str:
    """The other point, and by how much the best one is ahead of it."""
    ahead = effect(-c.difference, c.unit, -c.high, -c.low)
    return f"{c.arm.partition(' ')[2]} ({ahead})"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "nothing was tried"


def _shortened(run_ids: Sequence[str]) -> list[str]:
    """The shortest beginnings that tell these runs from one another, with two characters to spare for others."""
    for length in range(4, 13):
        if len({run_id[:length] for run_id in run_ids}) == len(set(run_ids)):
            return [run_id[: length + 2] for run_id in run_ids]
    return list(run_ids)


def best_so_far(record: SweepRecord) -> list[float]:
    """The best value among the points up to each one, in their order; NaN before the first value."""
    values = np.array([trial.value if trial.whole else math.nan for trial in record.trials], dtype=float)
    pick = np.fmax if record.goal == "maximize" else np.fmin
    return [float(value) for value in pick.accumulate(values)]
