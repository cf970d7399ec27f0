"""What two arms say of the same test images, against what two seeds of one arm say: flips, churn, McNemar's test."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnexp.compare import stats
from bnexp.compare.contrast import Contrast, Inputs, Questions
from bnexp.compare.pairing import Pairs, place, seed_text
from bnexp.compare.stats import MIN_VALUES
from bnexp.compare.text import ALPHA, FLIPS, p_equals

Guesses = NDArray[Any]  # (N, 2) predicted and true class of each test image


def predictions(asked: Inputs) -> Questions:
    """``analysis: predictions``: share of test images that arm and baseline predict differently, against the seeds' own.

    For each seed: flips, the images that the two arms, at that seed, put into different classes; and churn, those that the
    baseline puts into different classes at this seed and at its next one, the last with the first. Compared is flips minus
    churn, in pp of the images. Neighbouring churns share a run, and so do a churn and the next seed's flips, with opposite
    sign: without an effect the two cancel, and pairs stay uncorrelated. McNemar's test says, seed by seed, whether one arm is
    right more often on the same images; it goes into the notes, for seeds share their images and so cannot be pooled.
    """
    results, contrasts, notes, unpaired = asked.results, [], [], []
    known = {(arm, level): runs for level in results.levels for arm, runs in _at_level(asked, level).items()}
    for arm, baseline in asked.pairs:
        for level in results.levels:
            ours, theirs = known[arm, level], known[baseline, level]
            about = place(f"{arm} against {baseline}", level)
            churn = _churn(theirs)
            both = {
                seed: (100 * _differing(ours[seed], theirs[seed]), 100 * churn[seed])
                for seed in sorted(ours.keys() & churn.keys())
            }
            if both:
                notes += [_flips_note(about, baseline, both), _mcnemar_note(about, arm, baseline, ours, theirs, list(both))]
            planned = results.run_ids(arm, level).keys() & results.run_ids(baseline, level).keys()
            if lost := sorted(planned - both.keys()):
                unpaired.append(f"{about}: {seed_text(lost)} without predictions of both arms and of two seeds; not compared.")
            direction = asked.direction(level)
            contrasts.append(Contrast(arm, baseline, level, FLIPS, "pp", asked.margin, direction, Pairs.of(both)))
    return Questions(contrasts, notes, unpaired)


def _at_level(asked: Inputs, level: str) -> dict[str, dict[int, Guesses]]:
    """Arm -> seed -> what the run says of the test images; only of runs with as many of them as most have."""
    results = asked.results
    found = {arm: {s: asked.guesses(run_id) for s, run_id in results.run_ids(arm, level).items()} for arm in results.arms}
    sizes = Counter(len(guesses) for runs in found.values() for guesses in runs.values() if guesses is not None)
    size = sizes.most_common(1)[0][0] if sizes else 0
    return {
        arm: {seed: guesses for seed, guesses in runs.items() if guesses is not None and len(guesses) == size}
        for arm, runs in found.items()
    }


def _differing(one: Guesses, other: Guesses) -> float:
    return float(np.mean(one[:, 0] != other[:, 0]))


def _churn(runs: dict[int, Guesses]) -> dict[int, float]:
    """Share of images that each seed and the next put into different classes; empty below three seeds."""
    seeds = sorted(runs)
    if len(seeds) < MIN_VALUES:
        return {}
    return {seed: _differing(runs[seed], runs[seeds[(k + 1) % len(seeds)]]) for k, seed in enumerate(seeds)}


def _flips_note(about: str, baseline: str, both: dict[int, tuple[float, float]]) -> str:
    flips, churn = np.mean(list(both.values()), axis=0)
    return (
        f"{about}: {flips:.2f} % of the test images change class between the arms, {churn:.2f} % between seeds of {baseline}."
    )


def _mcnemar_note(
    about: str, arm: str, baseline: str, ours: dict[int, Guesses], theirs: dict[int, Guesses], seeds: list[int]
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
