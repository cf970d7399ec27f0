"""How long two arms take to reach the validation accuracy that the baseline ends with, in the mean over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bnexp.comparison.contrast import Contrast, History, Inputs, Questions, is_finite, ratio_margin
from bnexp.comparison.method import Method
from bnexp.comparison.pairing import Pairs, place, seed_text
from bnexp.comparison.result import Comparison
from bnexp.comparison.stats import Array
from bnexp.comparison.text import RATIO, factor, number, times
from bnexp.comparison.words import at_level

ROUNDING = 1e-9  # far less than one image


@dataclass(frozen=True)
class Validations:
    """The V validations of one run, in order.

    Args:
        steps: (V,) number of updates before each.
        accuracy: (V,) its accuracy, a fraction.
        seconds: (V,) training time before it: that of whole epochs, spread evenly over their updates. NaN if not recorded.
    """

    steps: Array
    accuracy: Array
    seconds: Array

    @classmethod
    def of(cls, history: History) -> Validations | None:
        """Read from the lines of a run; None if no validation has a finite accuracy."""
        found = {int(row["step"]): row["val/accuracy"] for row in history if is_finite(row, "val/accuracy")}
        if not found:
            return None
        steps = np.array(sorted(found), float)
        epochs = [row for row in history if "epoch" in row]
        timed = all(is_finite(row, "time/epoch_seconds") for row in epochs)
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
    """Updates and seconds until a target. ``censored``: it was not reached, so the values are lower bounds."""

    updates: float
    seconds: float
    censored: bool


def time_to(target: float, run: Validations | None, other: Validations) -> Time:
    """Updates and seconds until the first validation at or above a target.

    A run that does not reach the target counts as reaching it one validation after the end, its own or that of the other run
    of its pair: later than any run that does reach it.

    Args:
        target: an accuracy, a fraction.
        run: the run; None if it diverged before its first validation.
        other: the other run of the pair.
    """
    if run is None:
        return Time(float(other.steps[-1]) + other.interval, math.nan, True)
    hits = np.flatnonzero(run.accuracy >= target)
    if hits.size:
        return Time(float(run.steps[hits[0]]), float(run.seconds[hits[0]]), False)
    updates = max(float(run.steps[-1]), float(other.steps[-1])) + run.interval
    return Time(updates, float(run.seconds[-1] * updates / run.steps[-1]), True)


class TimeToTarget(Method):
    """``analysis: time_to_target``: updates, and seconds, until the validation accuracy that the baseline ends with.

    The target is the last validation accuracy of the baseline's runs, in the mean over seeds. It is the same for all runs: a
    baseline always reaches the end of its own run, and an arm that is as fast may just not, which would look slower. The time
    of either run is that of its first validation at or above the target, so times are known to one validation. Compared is the
    base-2 logarithm of arm over baseline, by the sign-flip test, because censored times have no normal distribution.
    ``study.margin`` is a ratio; equivalence is not tested if some run does not reach the target. A baseline that diverged or
    is stuck sets no target: its pair is listed as not compared.
    """

    follows_training = True

    def ask(self, asked: Inputs) -> Questions:
        margin = ratio_margin(asked.study)
        runs = asked.read(lambda run_id: Validations.of(asked.history(run_id)))
        return Questions.joined(
            self._at(asked, margin, runs[arm, level], runs[baseline, level], (arm, baseline, level))
            for arm, baseline in asked.pairs
            for level in asked.results.levels
        )

    def _at(
        self,
        asked: Inputs,
        margin: float,
        ours: Mapping[int, Validations | None],
        theirs: Mapping[int, Validations | None],
        where: tuple[str, str, str],
    ) -> Questions:
        """The questions about one arm and its baseline at one level; ``ours`` and ``theirs``: seed -> run."""
        arm, baseline, level = where
        untrained = asked.results.untrained(baseline, level)
        targets = {s: run for s, run in theirs.items() if run is not None and s in ours and s not in untrained}
        goal = _common_target(list(targets.values()))
        times = {s: (time_to(goal, ours[s], run), time_to(goal, run, ours[s] or run)) for s, run in targets.items()}
        unpaired = []
        if lost := sorted(ours.keys() & theirs.keys() - targets.keys()):
            unpaired.append(f"{place(f'{arm} against {baseline}', level)}: {seed_text(lost)} without a target to reach.")
        contrasts = _contrasts(where, times, margin)
        return Questions(contrasts, _notes(where, targets, times), unpaired)

    def equivalent(self, c: Comparison) -> str:
        within = f"within a factor of {factor(c.margin)} ({times(c, c.low90, c.high90)})"
        return f"{c.arm} needs as many {_what(c)} as {c.baseline}{at_level(c)} {_goal(c)}, {within}"

    def different(self, c: Comparison) -> str:
        return f"{c.arm} needs {times(c, c.low, c.high)} as many {_what(c)} as {c.baseline}{at_level(c)} {_goal(c)}"


def _what(c: Comparison) -> str:
    """``updates`` or ``seconds``."""
    return c.measure.split(" ")[0]


def _goal(c: Comparison) -> str:
    return f"to reach the accuracy that {c.baseline} ends with"


def _common_target(runs: Sequence[Validations]) -> float:
    """The accuracy that runs end with in the mean, less what rounding may add to it; NaN without a run."""
    return float(np.mean([run.target for run in runs])) - ROUNDING if runs else math.nan


def _contrasts(where: tuple[str, str, str], times: Mapping[int, tuple[Time, Time]], margin: float) -> list[Contrast]:
    """One of updates, and one of seconds if they are recorded."""
    found = []
    late = sum(any(time.censored for time in pair) for pair in times.values())
    unresolved = f"the target is not reached in {late} of {len(times)} seeds" if late else ""
    for name in ("updates", "seconds"):
        logs = {s: (math.log2(getattr(a, name)), math.log2(getattr(b, name))) for s, (a, b) in times.items()}
        pairs = Pairs.of({seed: pair for seed, pair in logs.items() if all(map(math.isfinite, pair))})
        if pairs.seeds or name == "updates":
            found.append(Contrast(*where, f"{name} to target", RATIO, margin, pairs, key=name, unresolved=unresolved))
    return found


def _notes(
    where: tuple[str, str, str], targets: Mapping[int, Validations], times: Mapping[int, tuple[Time, Time]]
) -> list[str]:
    """What the target is, how long both arms take, and which seeds do not reach it."""
    if not times:
        return []
    arm, baseline, level = where
    about = place(f"{arm} against {baseline}", level)
    goal = 100 * float(np.mean([run.target for run in targets.values()]))
    updates = [2 ** float(np.mean([math.log2(pair[k].updates) for pair in times.values()])) for k in (0, 1)]
    found = [
        f"{about}: the target is the last validation accuracy of {baseline}, {number(goal, 'pp')} % in the mean over seeds; "
        f"{arm} takes {updates[0]:,.0f} updates, {baseline} {updates[1]:,.0f} (geometric means), by validations every "
        f"{next(iter(targets.values())).interval:,.0f}."
    ]
    for name, k, bound in ((arm, 0, "a lower"), (baseline, 1, "an upper")):
        if late := [seed for seed, pair in times.items() if pair[k].censored]:
            found.append(
                f"{about}: {name} does not reach the target with {seed_text(late)}; it counts there as reaching it one "
                f"validation after the end, which makes the ratio {bound} bound."
            )
    return found
