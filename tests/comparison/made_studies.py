"""Made outcomes for any study: as its claim predicts, as the opposite, or with nothing clear.

Every run gets a *shift* against the baseline, in units of a clear effect. Each analysis turns shifts into what its runs would
have recorded. Comparisons that do not decide are shifted against the outcome, which shows that they have no weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
from made_outcomes import MadeRecords
from numpy.typing import NDArray

from bnexp.comparison.record import shared_settings
from bnexp.comparison.result import Outcome, Status, StudyResult
from bnexp.comparison.verdict import analyse
from bnexp.config.keys import COMPARED_BY_RATIO, grows_in_training, metric_unit
from bnexp.config.options import Analysis, Direction
from bnexp.config.schema import RunConfig, StudyConfig
from bnexp.config.validate import resolve_seeds
from bnexp.plan.budget import fitted
from bnexp.plan.compose import compose
from bnexp.plan.deciding import Compared, claims_unlike, expected
from bnexp.plan.study import cells, levels_text, varied_keys
from bnexp.rng import numpy_generator

OVERRIDES = ["data=mnist"]
CHANCE = 0.1
SIGN = {
    Direction.greater: 1.0,
    Direction.less: -1.0,
    Direction.different: 1.0,
    Direction.equivalent: 0.0,
    Direction.at_least: 0.0,
}
# If the claim is wrong: the other sign; no difference where one was claimed; a difference where none was.
CONTRARY = {
    Direction.greater: -1.0,
    Direction.less: 1.0,
    Direction.different: 0.0,
    Direction.equivalent: 1.0,
    Direction.at_least: -1.0,
}
CLEAR, UNCLEAR = 0.05, 1.0  # standard deviation of a shift over the seeds


class Made(StrEnum):
    """Which outcome is made. The value is its name in ``study_answers.md``."""

    textbook = "As claimed"
    opposite = "The opposite"
    unclear = "Nothing clear"


@dataclass(frozen=True)
class Run:
    """One run of a study to make: its cell, its seed and its shift against the baseline."""

    arm: str
    levels: dict[str, Any]
    seed: int
    shift: float

    @property
    def id(self) -> str:
        return f"{self.arm}-{levels_text(self.levels)}-{self.seed}"


@cache
def composed(name: str) -> RunConfig:
    """The configuration of a study, with the levels of its factors that fit the data. Its runs need not be composed."""
    config = compose([f"study={name}", *OVERRIDES])
    config.study, _ = fitted(config)
    return config


def _settings(config: RunConfig) -> dict[str, str]:
    """What the runs hold fixed. What is tuned is not; arms and levels that choose a config group vary all that is in it."""
    varied = varied_keys(config.study) | ({config.study.tune.setting} if config.study.tune.grid else set())
    return {key: text for key, text in shared_settings([config]).items() if not {key, key.split(".")[0]} & varied}


def made_result(name: str, made: Made) -> StudyResult:
    """What a study says of a made outcome at its planned number of seeds."""
    config = composed(name)
    study = config.study
    outcomes, records = MAKERS[study.analysis](study, _runs(study, made))
    return analyse(
        study,
        outcomes,
        study_id="made",
        margin=study.margin or config.data.margin,
        settings=_settings(config),
        chance=CHANCE,
        num_test=10_000,
        records=records,
        overrides=OVERRIDES,
    )


def _runs(study: StudyConfig, made: Made) -> list[Run]:
    two_parts = len({(part.expect or study.direction) is Direction.equivalent for part in study.decides}) > 1
    seeds = resolve_seeds(study.seeds)
    found = []
    for cell in chain.from_iterable(cells(study)):
        shifts = _shifts(study, cell.arm, cell.levels, made, two_parts, len(seeds))
        found += [Run(cell.arm, cell.levels, seed, shift) for seed, shift in zip(seeds, map(float, shifts), strict=True)]
    return found


def _shifts(
    study: StudyConfig, arm: str, levels: dict[str, Any], made: Made, two_parts: bool, num_seeds: int
) -> NDArray[np.float64]:
    """The shift of one cell with each seed. A claim of two parts is broken in the one that predicts equivalence."""
    draws = numpy_generator(0, f"{study.name}/{arm}/{levels_text(levels)}").standard_normal(num_seeds)
    noise = np.clip((draws - draws.mean()) / draws.std(), -1.5, 1.5)
    if arm == study.baseline or arm in {part.baseline for part in study.decides}:
        return CLEAR * noise
    if claims_unlike(vars(study)):
        place = list(study.arms).index(arm)
        return {Made.textbook: place + CLEAR * noise, Made.opposite: CLEAR * noise, Made.unclear: UNCLEAR * noise}[made]
    at = {} if study.analysis.needs_one_factor else levels
    claim = _claim(study, arm, at)
    if claim is None:
        against = CONTRARY if made is Made.textbook else SIGN
        return 2 * against[study.direction] + CLEAR * noise
    if made is Made.unclear:
        return (0.4 if SIGN[claim] else 0.1) + UNCLEAR * noise
    breaks = made is Made.opposite and (not two_parts or claim is Direction.equivalent)
    return (CONTRARY if breaks else SIGN)[claim] + CLEAR * noise


def _claim(study: StudyConfig, arm: str, at: dict[str, Any]) -> Direction | None:
    """What is expected of an arm against the baseline, or without one against any arm."""
    baselines = [study.baseline] if study.baseline else list(study.arms)
    found = [expected(study, Compared(study.analysis.measures[0], arm, baseline, at)) for baseline in baselines]
    return next((claim for claim in found if claim is not None), None)


def _outcome(run: Run, value: float) -> Outcome:
    return Outcome(run.arm, levels_text(run.levels), run.levels, run.seed, Status.finished, value, run.id)


def _common(run: Run) -> float:
    """What all arms have in common at a level and seed, about -1 to 1."""
    return float(np.clip(numpy_generator(0, f"{levels_text(run.levels)}/{run.seed}").standard_normal() / 2, -1, 1))


Result = tuple[list[Outcome], MadeRecords]


def _size(study: StudyConfig) -> tuple[float, float, float]:
    """A usual value of the metric, the size of a clear effect, and how much seeds differ. A margin is a third of an effect."""
    if metric_unit(study.metric) == "pp":
        return 0.93, 0.03 * study.margin if study.margin else 0.01, 0.002
    scale = study.margin or 0.1
    return 10 * scale, 3 * scale, scale / 2


def by_metric(study: StudyConfig, runs: list[Run]) -> Result:
    """``levels``: the metric itself."""
    usual, effect, spread = _size(study)
    return [_outcome(run, usual + effect * run.shift + spread * _common(run)) for run in runs], MadeRecords()


def by_change(study: StudyConfig, runs: list[Run]) -> Result:
    """``interaction``: the arms differ at the first level already; the shift comes on top at the others."""
    usual, effect, spread = _size(study)
    first = runs[0].levels
    outcomes = []
    for run in runs:
        gain = 0.0 if run.arm == study.baseline else 1 + (run.shift if run.levels != first else 0)
        outcomes.append(_outcome(run, usual + effect * gain + spread * _common(run)))
    return outcomes, MadeRecords()


def by_slope(study: StudyConfig, runs: list[Run]) -> Result:
    """``trend``: the difference grows by one shift, that of the seed at the first level, from each level to the next."""
    usual, effect, spread = _size(study)
    places = list(dict.fromkeys(levels_text(run.levels) for run in runs))
    slopes = {(run.arm, run.seed): run.shift for run in runs if levels_text(run.levels) == places[0]}
    outcomes = []
    for run in runs:
        place = places.index(levels_text(run.levels))
        gain = 0.0 if run.arm == study.baseline else place * slopes[run.arm, run.seed] - 2
        outcomes.append(_outcome(run, usual + effect * gain / 2 + spread * _common(run)))
    return outcomes, MadeRecords()


def by_largest_level(study: StudyConfig, runs: list[Run]) -> Result:
    """``sensitivity``: an arm trains two levels further for each shift, but is the less accurate the further it trains."""
    places = list(dict.fromkeys(levels_text(run.levels) for run in runs))
    last = {
        (run.arm, run.seed): len(places) // 2 + round(2 * run.shift) for run in runs if levels_text(run.levels) == places[0]
    }
    outcomes = []
    for run in runs:
        trains = places.index(levels_text(run.levels)) <= last[run.arm, run.seed]
        value = 0.75 - 0.15 * np.sign(last[run.arm, run.seed] - len(places) // 2) + 0.01 * _common(run)
        outcomes.append(_outcome(run, float(value) if trains else CHANCE))
    return outcomes, MadeRecords()


def by_updates(study: StudyConfig, runs: list[Run]) -> Result:
    """``time_to_target``: twice the updates for each shift; in seconds the order is the other way round."""
    records = MadeRecords()
    every, epochs, evals = 200, 15, 4
    for run in runs:
        reached = max(1, round(14 * 2**run.shift))
        rows: list[dict[str, float]] = []
        for k in range(1, epochs * evals + 1):
            rows.append({"step": every * k, "val/accuracy": 0.98 * min(1.0, 0.8 + 0.2 * k / reached)})
            if k % evals == 0:
                rows[-1] |= {"epoch": k // evals, "time/epoch_seconds": 5 * 4.0**-run.shift}
        records.histories[run.id] = rows
    return [_outcome(run, 0.98) for run in runs], records


def by_course(study: StudyConfig, runs: list[Run]) -> Result:
    """``matched``: an arm gets the further the larger its shift; the metric has the shift where all are equally far."""
    records = MadeRecords()
    for run in runs:
        left = 0.6 ** (np.arange(1, 11) * (2 + run.shift / 10))
        progress = 1 - 0.9 * left if grows_in_training(study.match) else 2.0 * left
        if study.metric in COMPARED_BY_RATIO:
            values = 2 ** (run.shift + 0.1 * _common(run)) * (1 + progress)
        else:
            values = 0.4 + 0.1 * run.shift + 0.03 * _common(run) + progress
        records.histories[run.id] = [
            {"step": 100 * k, study.match: float(x), study.metric: float(y)}
            for k, (x, y) in enumerate(zip(progress, values, strict=True), 1)
        ]
    return [_outcome(run, records.histories[run.id][-1][study.metric]) for run in runs], records


def by_flips(study: StudyConfig, runs: list[Run]) -> Result:
    """``predictions``: each run errs on images of its own; the arm, with all seeds, also on 5 % of all for each mean shift.

    If shifts differ much between seeds, runs err so often that nothing else is seen.
    """
    records, num_images = MadeRecords(), 10_000
    labels = np.arange(num_images) % 10
    shifts = np.array([run.shift for run in runs if run.arm != study.baseline])
    steady = shifts.std() < UNCLEAR / 2
    for run in runs:
        own = numpy_generator(run.seed, run.arm).random(num_images) < (0.01 if steady else 0.3)
        share = max(0.0, float(shifts.mean())) / 20 if steady and run.arm != study.baseline else 0.0
        changed = own | (np.arange(num_images) < share * num_images)
        records.predicted[run.id] = np.stack([np.where(changed, (labels + 1) % 10, labels), labels], axis=1)
    return [_outcome(run, float(np.mean(np.equal(*records.predicted[run.id].T)))) for run in runs], records


MAKERS: dict[Analysis, Callable[[StudyConfig, list[Run]], Result]] = {
    Analysis.levels: by_metric,
    Analysis.interaction: by_change,
    Analysis.trend: by_slope,
    Analysis.sensitivity: by_largest_level,
    Analysis.time_to_target: by_updates,
    Analysis.matched: by_course,
    Analysis.predictions: by_flips,
}
