"""Validation minus training loss at the same training loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bnexp.comparison.contrast import Contrast, History, Inputs, Questions, is_finite
from bnexp.comparison.method import Method
from bnexp.comparison.pairing import Pairs, place, seed_text
from bnexp.comparison.stats import Array

MEASURE = "gap between validation and training loss at matched training loss"


@dataclass(frozen=True)
class Losses:
    """Training and validation loss of one run, epoch by epoch, (E,) each, in nats."""

    train: Array
    validation: Array

    @classmethod
    def of(cls, history: History, key: str) -> Losses | None:
        """Read from the lines of a run, training loss from ``key``; None if no line has both."""
        rows = [(row[key], row["val/loss"]) for row in history if is_finite(row, key) and is_finite(row, "val/loss")]
        return cls(*np.array(rows, float).T) if rows else None

    def gap_at(self, level: float) -> float | None:
        """Validation minus training loss when training loss first falls to ``level``, interpolated linearly between epochs.

        None if the run is below it from its first record on: nothing is extrapolated.
        """
        i = int(np.flatnonzero(self.train <= level)[0])
        if i == 0:
            return float(self.validation[0] - level) if self.train[0] == level else None
        part = (self.train[i - 1] - level) / (self.train[i - 1] - self.train[i])
        return float(self.validation[i - 1] + part * (self.validation[i] - self.validation[i - 1]) - level)


class MatchedLoss(Method):
    """``analysis: matched_loss``: validation minus training loss, at a training loss that both runs of a pair reach.

    That loss is, seed by seed, the larger of their smallest ones: the lowest that both reach. Training loss is that of
    ``probe.gap``, in evaluation mode, if every run has it, else the running one of training mode. ``study.margin`` is in
    nats. Diverged and stuck runs reach no such loss, or only that of
    guessing, and are listed as not compared.
    """

    def ask(self, asked: Inputs) -> Questions:
        key = _training_loss(asked)
        runs = asked.read(lambda run_id: Losses.of(asked.history(run_id), key))
        return Questions.joined(
            _at(asked, key, runs[arm, level], runs[baseline, level], (arm, baseline, level))
            for arm, baseline in asked.pairs
            for level in asked.results.levels
        )


def _at(
    asked: Inputs,
    key: str,
    ours: Mapping[int, Losses | None],
    theirs: Mapping[int, Losses | None],
    where: tuple[str, str, str],
) -> Questions:
    """The question about one arm and its baseline at one level; ``ours`` and ``theirs``: seed -> run."""
    arm, baseline, level = where
    about = place(f"{arm} against {baseline}", level)
    both = sorted(ours.keys() & theirs.keys())
    untrained = {*asked.results.untrained(arm, level), *asked.results.untrained(baseline, level)}
    runs = {s: (a, b) for s in both if (a := ours[s]) and (b := theirs[s]) and s not in untrained}
    lowest = {s: max(float(a.train.min()), float(b.train.min())) for s, (a, b) in runs.items()}
    known = {s: (a.gap_at(lowest[s]), b.gap_at(lowest[s])) for s, (a, b) in runs.items()}
    gaps = {s: (a, b) for s, (a, b) in known.items() if a is not None and b is not None}
    notes, unpaired = [], []
    if gaps:
        mean = np.mean([lowest[s] for s in gaps])
        notes.append(f"{about}: matched at a training loss ({key}) of {mean:.4f} nats, mean over seeds.")
    if early := sorted(known.keys() - gaps.keys()):
        unpaired.append(
            f"{about}: {seed_text(early)} not compared, for one run is already at its first record below the lowest "
            "training loss of the other; train longer."
        )
    if lost := [s for s in both if s not in known]:
        unpaired.append(f"{about}: {seed_text(lost)} untrained or without losses; not compared.")
    margin = math.nan if asked.study.margin is None else asked.study.margin
    contrast = Contrast(*where, MEASURE, "nats", margin, Pairs.of(gaps))
    return Questions([contrast], notes, unpaired)


def _training_loss(asked: Inputs) -> str:
    """The training loss that every run has recorded."""
    results = asked.results
    ids = {i for arm in results.arms for level in results.levels for i in results.run_ids(arm, level).values()}
    evaluated = ids and all(any("train_eval/loss" in row for row in asked.history(i)) for i in ids)
    return "train_eval/loss" if evaluated else "train/loss"
