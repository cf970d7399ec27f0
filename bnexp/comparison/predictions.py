"""What two arms say of the same test images, against what two seeds of one arm say: flips, churn, McNemar's test."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
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
    """``analysis: predictions``: share of test images that arm and baseline predict differently, against the seeds' own.

    For each seed: flips, the images that the two arms put into different classes at that seed; and churn, those that the
    baseline puts into different classes at this seed and at its next one, the last with the first. Compared is flips minus
    churn, in pp of the images. Neighbouring churns share a run, and so do a churn and the next seed's flips, with opposite
    sign: without an effect the two cancel, and pairs stay uncorrelated. McNemar's test says, seed by seed, whether one arm is
    right more often on the same images. It goes into the notes, because seeds share their images and cannot be pooled.
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
        return f"{_who(c)} disagree on as many test images as two seeds of {c.baseline} do, {within}"

    def different(self, c: Comparison) -> str:
        more = f"{magnitude(c)} {'more' if c.difference > 0 else 'fewer'} of the test images"
        return f"{_who(c)} disagree on {more} than two seeds of {c.baseline} do"


def _who(c: Comparison) -> str:
    return f"{c.arm} and {c.baseline}{at_level(c)}"


def churn(classes: Mapping[int, NDArray[Any]]) -> dict[int, float]:
    """Share of test images that two seeds of one arm put into different classes: what the seed alone changes.

    Args:
        classes: seed -> (N,) the predicted class of each test image.

    Returns:
        For each seed the share at which it and the next one differ, the last and the first. Empty below two seeds.
    """
    seeds = sorted(classes)
    if len(seeds) < 2:
        return {}
    return {seed: float(np.mean(classes[seed] != classes[seeds[(k + 1) % len(seeds)]])) for k, seed in enumerate(seeds)}


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
    between = churn({seed: guesses[:, 0] for seed, guesses in theirs.items()}) if len(theirs) >= MIN_VALUES else {}
    both = {
        seed: (100 * float(np.mean(ours[seed][:, 0] != theirs[seed][:, 0])), 100 * between[seed])
        for seed in sorted(ours.keys() & between.keys())
    }
    notes = [_flips_note(about, baseline, both), _mcnemar_note(about, arm, baseline, ours, theirs, list(both))] if both else []
    planned = asked.results.run_ids(arm, level).keys() & asked.results.run_ids(baseline, level).keys()
    unpaired = []
    if lost := sorted(planned - both.keys()):
        unpaired.append(f"{about}: {seed_text(lost)} without predictions of both arms and of two seeds; not compared.")
    untrained = asked.results.both_untrained(arm, baseline, level) & both.keys()
    contrast = Contrast(*where, MEASURE, "pp", asked.margin, Pairs.of(both, len(untrained)))
    return Questions([contrast], notes, unpaired)


def _flips_note(about: str, baseline: str, both: dict[int, tuple[float, float]]) -> str:
    flips, seeds = np.mean(list(both.values()), axis=0)
    return (
        f"{about}: {flips:.2f} % of the test images change class between the arms, {seeds:.2f} % between seeds of {baseline}."
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
