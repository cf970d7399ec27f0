"""Which runs train together, and in what order: cohorts for a GPU, single runs for a CPU, the longest first.

A cohort is as large as memory allows, since its steps cost little more than those of a single run until the GPU is full.
Inside it, the runs of a seed, which see the same batches, stand side by side. Where every seed has as many runs, the engine
gathers the batches of each seed once for all of them and the first convolution reads one input for several runs; where that is
not so, as after an interruption, each run gathers its own: a second cohort would cost more than the first convolution gains.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from bnexp.config.schema import DataConfig
from bnexp.data.amount import num_available
from bnexp.plan.spec import RunSpec

Cohort = tuple[RunSpec, ...]

# A step takes the time of so many more images (measured with LeNet on a CPU: 65 µs an image and 1.4 ms a step).
STEP_IMAGES = 21


def num_train_images(data: DataConfig) -> int | None:
    """Images that a run trains on, without those held out for validation; None if only the user's files tell."""
    if data.train_size is not None:
        return data.train_size
    return None if data.name.own_files else num_available(data)


def relative_cost(batch_size: int) -> float:
    """The time of an image in batches of this size, over that in large batches."""
    return 1 + STEP_IMAGES / batch_size


def cost(cohort: Cohort) -> float:
    """What a run takes, in images of large batches; the runs of a cohort train at once. Networks are not told apart."""
    train, images = cohort[0].config.train, num_train_images(cohort[0].config.data)
    return train.epochs * (images or 1) * relative_cost(train.batch_size)


def workload(cohort: Cohort) -> tuple[object, ...]:
    """What the time of a run depends on most; cohorts with the same take about as long."""
    model = cohort[0].config.model
    return cost(cohort), model.name, model.depth, model.width


def cohorts(specs: Sequence[RunSpec]) -> list[Cohort]:
    """Group specs by fuse key, runs with the same seed side by side; the longest cohort first."""
    groups: dict[str, list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault(spec.fuse_key, []).append(spec)
    return _longest_first([_by_seed(group) for group in groups.values()])


def singles(specs: Sequence[RunSpec]) -> list[Cohort]:
    """Every run by itself, the longest first."""
    return _longest_first([(spec,) for spec in specs])


def split(cohort: Cohort, max_runs: int) -> list[Cohort]:
    """Parts of at most ``max_runs`` runs (at least 1), nearly equal; no seed is cut in two where that can be avoided."""
    blocks: dict[int, list[RunSpec]] = {}
    for spec in cohort:
        blocks.setdefault(spec.seed, []).append(spec)
    longest = max(len(block) for block in blocks.values())
    whole = longest <= max_runs
    units = list(blocks.values()) if whole else [[spec] for spec in cohort]
    num_parts = math.ceil(len(units) / (max_runs // longest if whole else max_runs))
    bounds = [round(part * len(units) / num_parts) for part in range(num_parts + 1)]
    return [tuple(spec for unit in units[a:b] for spec in unit) for a, b in pairwise(bounds)]


def _by_seed(group: Sequence[RunSpec]) -> Cohort:
    first_seen = {seed: i for i, seed in enumerate(dict.fromkeys(spec.seed for spec in group))}
    return tuple(sorted(group, key=lambda spec: first_seen[spec.seed]))


def _longest_first(groups: list[Cohort]) -> list[Cohort]:
    """Equal ones stay in their order."""
    return sorted(groups, key=cost, reverse=True)
