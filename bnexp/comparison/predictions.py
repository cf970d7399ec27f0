"""What two arms say of the same test images, against what two seeds of one arm say: flips, churn, McNemar's test."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnexp.comparison import stats
from bnexp.comparison.contrast import Contrast, Inputs, Questions
from bnexp.comparison.method import Method
from bnexp.comparison.pairing import Cell, Pairs, place, seed_text
from bnexp.comparison.result import Comparison
from bnexp.comparison.stats import ALPHA, MIN_VALUES
from bnexp.comparison.text import difference, magnitude, margin, p_equals
from bnexp.comparison.words import at_level

MEASURE = "flips beyond seed-to-seed churn"
Guesses = NDArray[Any]  # (N, 2) predicted and true class of each test image


class Predictions(Method):
    """``analysis: predictions``: share of test images that arm and baseline predict differently, beyond the seeds' own.

    Each seed is compared with the next one, the last with the first. Flips: the images that the arm at one of the two seeds and
    the baseline at the other put into different classes, mean of both ways. Churn: those that one arm at both seeds puts into
    different classes, mean of both arms. So flips and churn differ in the arm alone, never in the number of seeds. Compared is
    flips minus churn, in pp of the images. Neighbouring pairs of seeds share a run of each arm. Without an effect the arms of a
    seed could be exchanged, which turns the sign of both pairs, so that they stay uncorrelated. McNemar's test says, seed by
    seed, whether one arm is right more often on the same images. It goes into the notes, because seeds share their images and
    cannot be pooled.
    """

    def ask(self, asked: Inputs) -> Questions:
        runs = _complete(asked.read(asked.guesses))
        return Questions.joined(
            _at(asked, runs[arm, level], runs[baseline, level], (arm, baseline, level))
            for arm, baseline in asked.pairs
            for level in asked.results.levels
        )

    def equivalent(self, c: Comparison) -> str:
        within = f"within {margin(c)} ({difference(c)})"
        return f"{_who(c)} disagree on as many test images as two seeds of one arm do, {within}"

    def different(self, c: Comparison) -> str:
        more = f"{magnitude(c)} {'more' if c.difference > 0 else 'fewer'} of the test images"
        return f"{_who(c)} disagree on {more} than two seeds of one arm do"


def _who(c: Comparison) -> str:
    return f"{c.arm} and {c.baseline}{at_level(c)}"


def churn(classes: Mapping[int, NDArray[Any]]) -> dict[int, float]:
    """Share of test images that two seeds of one arm put into different classes: what the seed alone changes.

    Args:
        classes: seed -> (N,) the predicted class of each test image.

    Returns:
        For each seed the share at which it and the next one differ, the last and the first. Empty below two seeds.
    """
    return {s: _differing(classes[s], classes[following]) for s, following in _neighbours(classes)}


def flips(ours: Mapping[int, NDArray[Any]], theirs: Mapping[int, NDArray[Any]]) -> dict[int, float]:
    """Share of test images that two arms put into different classes, one at a seed and the other at the next one.

    Args:
        ours: seed -> (N,) the predicted class of each test image.
        theirs: the same of the other arm, with the same seeds.

    Returns:
        For each seed, paired as in ``churn``, the mean of both ways.
    """
    return {
        s: (_differing(ours[s], theirs[following]) + _differing(ours[following], theirs[s])) / 2
        for s, following in _neighbours(ours)
    }


def _neighbours(seeds: Iterable[int]) -> list[tuple[int, int]]:
    """Each seed with the next one, the last with the first; empty below two seeds."""
    ordered = sorted(seeds)
    return list(zip(ordered, ordered[1:] + ordered[:1], strict=True)) if len(ordered) > 1 else []


def _differing(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.mean(one != other))


def _complete(read: Mapping[Cell, Mapping[int, Guesses | None]]) -> dict[Cell, dict[int, Guesses]]:
    """What was read of the runs that have, at their level, as many test images as most."""
    sizes: dict[str, Counter[int]] = {}
    for (_, level), runs in read.items():
        sizes.setdefault(level, Counter()).update(len(guesses) for guesses in runs.values() if guesses is not None)
    usual = {level: counts.most_common(1)[0][0] if counts else 0 for level, counts in sizes.items()}
    return {
        (arm, level): {s: guesses for s, guesses in runs.items() if guesses is not None and len(guesses) == usual[level]}
        for (arm, level), runs in read.items()
    }


def _at(asked: Inputs, ours: Mapping[int, Guesses], theirs: Mapping[int, Guesses], where: tuple[str, str, str]) -> Questions:
    """The question about one arm and its baseline at one level; ``ours`` and ``theirs``: seed -> guesses."""
    arm, baseline, level = where
    about = place(f"{arm} against {baseline}", level)
    shared = sorted(ours.keys() & theirs.keys())
    shared = shared if len(shared) >= MIN_VALUES else []
    a, b = ({seed: guesses[seed][:, 0] for seed in shared} for guesses in (ours, theirs))
    between, of_arm, of_baseline = flips(a, b), churn(a), churn(b)
    both = {seed: (100 * between[seed], 50 * (of_arm[seed] + of_baseline[seed])) for seed in between}
    notes = [_flips_note(about, both), _mcnemar_note(about, arm, baseline, ours, theirs, list(both))] if both else []
    planned = asked.results.run_ids(arm, level).keys() & asked.results.run_ids(baseline, level).keys()
    unpaired = []
    if lost := sorted(planned - both.keys()):
        unpaired.append(f"{about}: {seed_text(lost)} without predictions of both arms and of two seeds; not compared.")
    untrained = asked.results.both_untrained(arm, baseline, level) & both.keys()
    contrast = Contrast(*where, MEASURE, "pp", asked.margin, Pairs.of(both, len(untrained)))
    return Questions([contrast], notes, unpaired)


def _flips_note(about: str, both: dict[int, tuple[float, float]]) -> str:
    arms, seeds = np.mean(list(both.values()), axis=0)
    return (
        f"{about}: {arms:.2f} % of the test images change class between the two arms at different seeds, {seeds:.2f} % between "
        "seeds of one arm."
    )


def _mcnemar_note(
    about: str, arm: str, baseline: str, ours: Mapping[int, Guesses], theirs: Mapping[int, Guesses], seeds: list[int]
) -> str:
    counts = []
    for seed in seeds:
        a, b = (guesses[:, 0] == guesses[:, 1] for guesses in (ours[seed], theirs[seed]))
        counts.append((int(np.sum(a & ~b)), int(np.sum(b & ~a))))
    adjusted = stats.holm([stats.mcnemar(*count) for count in counts])
    better = [sum(p < ALPHA and sign * (a - b) > 0 for p, (a, b) in zip(adjusted, counts, strict=True)) for sign in (1, -1)]
    only_arm, only_baseline = np.mean(counts, axis=0)
    smallest = min((p for p in adjusted if not math.isnan(p)), default=math.nan)
    return (
        f"{about}, McNemar's exact test seed by seed: only {arm} is right on {only_arm:.1f} images, only {baseline} on "
        f"{only_baseline:.1f} (means); after Holm {arm} is right more often with {better[0]} of {len(seeds)} seeds, {baseline} "
        f"with {better[1]} (smallest {p_equals(smallest)})."
    )
