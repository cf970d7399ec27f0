"""Runs that never trained: their training accuracy stays at what guessing gives. They are called *stuck*.

A network that always says the most frequent class guesses, too. So guessing gives the better of 1/K and the share of that
class, which is taken from the labels of the test images, because records hold no labels of training images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress

import numpy as np
from scipy import special

from bnexp.comparison.stats import ALPHA
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.records import RecordedRun

# Runs that end above this multiple of guessing are not looked at more closely. The limit of ten images is as high.
SUSPECT = 4
Data = tuple[str, str]  # name and fingerprint


def guessing_limit(chance: float, num_images: int, num_epochs: int) -> float:
    """The accuracy that a network which guesses exceeds in no epoch, with a probability of 95 %.

    It is a quantile of the binomial distribution. With E epochs each may exceed it with a probability of 5 % / E (Bonferroni).

    Args:
        chance: expected accuracy of guessing, a fraction.
        num_images: number of training images per epoch.
        num_epochs: number of epochs, E.

    Returns:
        A fraction.
    """
    return math.ceil(float(special.bdtrik(1 - ALPHA / num_epochs, num_images, chance))) / num_images


def why_stuck(run: RecordedRun, chance: float) -> str:
    """Why a finished run counts as stuck: ``training accuracy 11.3 % after 10 epochs, guessing gives up to 11.6 %``.

    It does if its training accuracy exceeds what guessing can give in none of its epochs. A single epoch tells nothing: its
    accuracy is a mean that begins with the untrained network. Images that are repeated within a batch (``data.duplicates``)
    count as often as they are seen.

    Args:
        run: the run.
        chance: expected accuracy of guessing, a fraction; NaN if it is not known.

    Returns:
        Empty if the run has trained, or if its records do not tell.
    """
    if not run.summary.metric("train/accuracy") <= SUSPECT * chance:
        return ""
    try:
        rows = [
            row
            for row in run.metrics(step_losses=False)
            if "epoch" in row and math.isfinite(row.get("train/accuracy", math.nan))
        ]
        batch = run.summary.batch_size or int(run.settings["train.batch_size"])
    except (DamagedRecord, FileNotFoundError, KeyError):
        return ""
    if len(rows) < 2:
        return ""
    last, epochs = rows[-1], len(rows)
    limit = guessing_limit(chance, max(1, round(last["step"] / last["epoch"])) * batch, epochs)
    if max(row["train/accuracy"] for row in rows) > limit:
        return ""
    after = f"{epochs} epoch{'s' * (epochs > 1)}"
    return f"training accuracy {100 * last['train/accuracy']:.1f} % after {after}, guessing gives up to {100 * limit:.1f} %"


def guessing_accuracy(runs: Iterable[RecordedRun]) -> Mapping[Data, float]:
    """What guessing gives on each data set of finished runs, a fraction; without those of which no run tells.

    The labels of a data set are read from the first run that has predictions. So this is quick for any number of runs.
    """
    found: dict[Data, float] = {}
    exact: set[Data] = set()
    for run in runs:
        key = data_of(run)
        if key in exact or not (facts := run.facts):
            continue
        found.setdefault(key, facts.chance)
        with suppress(DamagedRecord):
            frame = run.predictions()
            if frame is not None:
                found[key] = max(found[key], int(np.bincount(frame["label"]).max()) / len(frame))
                exact.add(key)
    return found


def data_of(run: RecordedRun) -> Data:
    """What tells the data set of a finished run from others."""
    return run.summary.data, run.summary.data_fingerprint
