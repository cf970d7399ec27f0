"""What is read from the course of a training: time to a target accuracy, and validation loss at equal training loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from bnexp.compare.contrast import Contrast, Inputs, Questions, Test
from bnexp.compare.pairing import Pairs, place, seed_text
from bnexp.compare.stats import Array
from bnexp.compare.text import RATIO, number
from bnexp.config.options import Direction
from bnexp.config.schema import ConfigError

History = list[dict[str, float]]
Course = TypeVar("Course")


@dataclass(frozen=True)
class Validations:
    """The validations of one run in order: updates before each ``steps``, ``accuracy`` and training ``seconds``, all (V,).

    Seconds are those of whole epochs, spread evenly over their updates; NaN where they are not recorded.
    """

    steps: Array
    accuracy: Array
    seconds: Array

    @classmethod
    def of(cls, history: History) -> Validations | None:
        """None where a run has no validation with a finite accuracy."""
        found = {int(row["step"]): row["val/accuracy"] for row in history if _finite(row, "val/accuracy")}
        if not found:
            return None
        steps = np.array(sorted(found), float)
        epochs = [row for row in history if "epoch" in row]
        timed = all(_finite(row, "time/epoch_seconds") for row in epochs)
        ends = np.cumsum([0.0, *(row["time/epoch_seconds"] if timed else math.nan for row in epochs)])
        seconds = np.interp(steps, [0.0, *(row["step"] for row in epochs)], ends)
        return cls(steps, np.array([found[int(step)] for step in steps], float), seconds)

    @property
    def target(self) -> float:
        """The accuracy that the run ends with."""
        return float(self.accuracy[-1])

    @property
    def interval(self) -> float:
        """Updates between the last two validations."""
        return float(np.diff(self.steps, prepend=0.0)[-1])


@dataclass(frozen=True)
class Time:
    """Updates and seconds until a target; ``censored`` where it was not reached: the values are then lower bounds."""

    updates: float
    seconds: float
    censored: bool


def time_to(target: float, run: Validations | None, other: Validations) -> Time:
    """Updates and seconds until the first validation of ``run`` at or above ``target``.

    A run that does not reach it counts as reaching it one validation after the end, its own or that of the ``other`` run of
    its pair: later than any that does. None stands for a run that diverged before its first validation.
    """
    if run is None:
        return Time(float(other.steps[-1]) + other.interval, math.nan, True)
    hits = np.flatnonzero(run.accuracy >= target)
    if hits.size:
        return Time(float(run.steps[hits[0]]), float(run.seconds[hits[0]]), False)
    updates = max(float(run.steps[-1]), float(other.steps[-1])) + run.interval
    return Time(updates, float(run.seconds[-1] * updates / run.steps[-1]), True)


def time_to_target(asked: Inputs) -> Questions:
    """``analysis: time_to_target``: updates, and seconds, until the validation accuracy that the baseline ends with.

    For each seed the target is the last validation accuracy of the baseline's run; the time of either run is that of its
    first validation at or above it, so that times are known to one validation. Compared is the base-2 logarithm of arm over
    baseline, by the sign-flip test, for censored times have no normal distribution. ``study.margin`` is a ratio. A baseline
    that diverged sets no target: its pair is listed as not compared.
    """
    results, contrasts, notes, unpaired = asked.results, [], [], []
    margin = _ratio_margin(asked.study.margin)
    read = _Reader(asked, Validations.of)
    for arm, baseline in asked.pairs:
        for level in results.levels:
            ours, theirs = read(arm, level), read(baseline, level)
            diverged = results.diverged(baseline, level)
            targets = {s: run for s, run in theirs.items() if run is not None and s in ours and s not in diverged}
            times = {
                seed: (time_to(run.target, ours[seed], run), time_to(run.target, run, run)) for seed, run in targets.items()
            }
            notes += _time_notes(arm, baseline, level, targets, times)
            if lost := sorted(ours.keys() & theirs.keys() - targets.keys()):
                unpaired.append(f"{place(f'{arm} against {baseline}', level)}: {seed_text(lost)} without a target to reach.")
            contrasts += _time_contrasts((arm, baseline, level), times, margin, asked.direction(level))
    return Questions(contrasts, notes, unpaired)


def _time_contrasts(
    where: tuple[str, str, str], times: Mapping[int, tuple[Time, Time]], margin: float, direction: Direction
) -> list[Contrast]:
    """One of updates, and one of seconds where they are recorded."""
    found = []
    for name in ("updates", "seconds"):
        logs = {s: (math.log2(getattr(a, name)), math.log2(getattr(b, name))) for s, (a, b) in times.items()}
        pairs = Pairs.of({seed: pair for seed, pair in logs.items() if all(map(math.isfinite, pair))})
        if pairs.seeds or name == "updates":
            found.append(Contrast(*where, f"{name} to target", RATIO, margin, direction, pairs, test=Test.sign_flip))
    return found


def _ratio_margin(margin: float | None) -> float:
    if margin is None:
        return math.nan
    if margin <= 1:
        raise ConfigError(
            f"study.margin={margin:g} is no ratio of times: study.analysis=time_to_target allows numbers above 1; "
            "study.margin=1.25 calls a quarter more updates too few to matter."
        )
    return math.log2(margin)


def _time_notes(
    arm: str, baseline: str, level: str, targets: Mapping[int, Validations], times: Mapping[int, tuple[Time, Time]]
) -> list[str]:
    if not times:
        return []
    about = place(f"{arm} against {baseline}", level)
    goal = 100 * float(np.mean([run.target for run in targets.values()]))
    updates = [2 ** float(np.mean([math.log2(pair[k].updates) for pair in times.values()])) for k in (0, 1)]
    found = [
        f"{about}: the target is the last validation accuracy of {baseline}, {number(goal, 'pp')} % in the mean over seeds; "
        f"{arm} takes {updates[0]:,.0f} updates, {baseline} {updates[1]:,.0f} (geometric means), by validations every "
        f"{next(iter(targets.values())).interval:,.0f}."
    ]
    if late := [seed for seed, pair in times.items() if pair[0].censored]:
        found.append(
            f"{about}: {arm} does not reach the target with {seed_text(late)}; it counts there as reaching it one validation "
            "after the end, so the ratio is a lower bound."
        )
    return found


MATCHED = "gap at matched training loss"


@dataclass(frozen=True)
class Losses:
    """Training and validation loss of one run, epoch by epoch, (E,) each, in nats."""

    train: Array
    validation: Array

    @classmethod
    def of(cls, history: History, key: str) -> Losses | None:
        rows = [(row[key], row["val/loss"]) for row in history if _finite(row, key) and _finite(row, "val/loss")]
        return cls(*np.array(rows, float).T) if rows else None

    def gap_at(self, level: float) -> float | None:
        """Validation minus training loss where training loss first falls to ``level``, interpolated between epochs.

        None for a run that is below it from its first record on: nothing is extrapolated.
        """
        i = int(np.flatnonzero(self.train <= level)[0])
        if i == 0:
            return float(self.validation[0] - level) if self.train[0] == level else None
        part = (self.train[i - 1] - level) / (self.train[i - 1] - self.train[i])
        return float(self.validation[i - 1] + part * (self.validation[i] - self.validation[i - 1]) - level)


def matched_loss(asked: Inputs) -> Questions:
    """``analysis: matched_loss``: validation minus training loss where both runs of a pair have the same training loss.

    That loss is, seed by seed, the larger of their smallest ones: the lowest that both reach. Training loss is that of
    ``probe.gap``, in evaluation mode, where every run has it, else the running one of training mode. ``study.margin`` is in
    nats. Diverged runs reach no such loss and are listed as not compared.
    """
    results, contrasts, notes, unpaired = asked.results, [], [], []
    key = _training_loss(asked)
    read = _Reader(asked, lambda history: Losses.of(history, key))
    for arm, baseline in asked.pairs:
        for level in results.levels:
            ours, theirs = (_finished(read(name, level), results.diverged(name, level)) for name in (arm, baseline))
            gaps, matched, early = {}, [], []
            for seed in sorted(ours.keys() & theirs.keys()):
                lowest = max(float(run.train.min()) for run in (ours[seed], theirs[seed]))
                ours_gap, theirs_gap = ours[seed].gap_at(lowest), theirs[seed].gap_at(lowest)
                if ours_gap is None or theirs_gap is None:
                    early.append(seed)
                    continue
                gaps[seed] = (ours_gap, theirs_gap)
                matched.append(lowest)
            about = place(f"{arm} against {baseline}", level)
            if gaps:
                notes.append(f"{about}: matched at a training loss ({key}) of {np.mean(matched):.4f} nats, mean over seeds.")
            if early:
                unpaired.append(
                    f"{about}: {seed_text(early)} not compared, for one run is already at its first record below the lowest "
                    "training loss of the other; train longer."
                )
            if lost := sorted(set(read(arm, level)) & set(read(baseline, level)) - gaps.keys() - set(early)):
                unpaired.append(f"{about}: {seed_text(lost)} diverged or without losses; not compared.")
            margin = math.nan if asked.study.margin is None else asked.study.margin
            contrasts.append(Contrast(arm, baseline, level, MATCHED, "nats", margin, asked.direction(level), Pairs.of(gaps)))
    return Questions(contrasts, notes, unpaired)


def _training_loss(asked: Inputs) -> str:
    """The training loss that every run has recorded."""
    results = asked.results
    ids = {i for arm in results.arms for level in results.levels for i in results.run_ids(arm, level).values()}
    evaluated = ids and all(any("train_eval/loss" in row for row in asked.history(i)) for i in ids)
    return "train_eval/loss" if evaluated else "train/loss"


def _finished(courses: Mapping[int, Losses | None], diverged: list[int]) -> dict[int, Losses]:
    return {seed: course for seed, course in courses.items() if course is not None and seed not in diverged}


class _Reader(Generic[Course]):
    """The courses of the runs of an arm at a level, by seed, each read once; None for a run without one."""

    def __init__(self, asked: Inputs, parse: Callable[[History], Course | None]) -> None:
        self._asked, self._parse = asked, parse
        self._read: dict[tuple[str, str], dict[int, Course | None]] = {}

    def __call__(self, arm: str, level: str) -> dict[int, Course | None]:
        if (arm, level) not in self._read:
            ids = self._asked.results.run_ids(arm, level)
            self._read[arm, level] = {seed: self._parse(self._asked.history(i)) for seed, i in ids.items()}
        return self._read[arm, level]


def _finite(row: Mapping[str, float | None], key: str) -> bool:
    value = row.get(key)
    return value is not None and math.isfinite(value)
