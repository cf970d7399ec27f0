"""Decides which runs train together and in which order: cohorts for a GPU, single runs for a CPU, the longest first.

A cohort is as large as memory allows: until the GPU is full, its steps cost little more than those of a single run. In a cohort
the runs of one seed, which see the same batches, are neighbours. If every seed has the same number of runs, the engine gathers
each seed's batches once, and the first convolution reads one input for several runs. If not, as after an interruption, each run
gathers its own batches. Splitting such a cohort would cost more than sharing inputs gains.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from bnexp.config.schema import DataConfig
from bnexp.data.amount import num_available
from bnexp.plan.spec import RunSpec

Cohort = tuple[RunSpec, ...]

# Fixed cost of one step, in image-equivalents (measured with LeNet on a CPU: 65 µs per image and 1.4 ms per step).
STEP_IMAGES = 21


def num_train_images(data: DataConfig) -> int | None:
    """Number of training images of a run, without those held out for validation; None if only the user's files tell."""
    if data.train_size is not None:
        return data.train_size
    return None if data.name.own_files else num_available(data)


def relative_cost(batch_size: int) -> float:
    """The time per image in batches of this size, divided by the time per image in large batches."""
    return 1 + STEP_IMAGES / batch_size


def cost(cohort: Cohort) -> float:
    """The work of one run of a cohort, in images of large batches. All networks count the same."""
    train, images = cohort[0].config.train, num_train_images(cohort[0].config.data)
    return train.epochs * train.images_per_epoch(images or 1) * relative_cost(train.batch_size)


def workload(cohort: Cohort) -> tuple[object, ...]:
    """What the time of a run depends on most. Cohorts with equal workloads take about the same time."""
    model = cohort[0].config.model
    return cost(cohort), model.name, model.depth, model.width


def cohorts(specs: Sequence[RunSpec]) -> list[Cohort]:
    """Group specs by fuse key, with the runs of a seed as neighbours. The longest cohort comes first."""
    groups: dict[str, list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault(spec.fuse_key, []).append(spec)
    return _longest_first([_by_seed(group) for group in groups.values()])


def singles(specs: Sequence[RunSpec]) -> list[Cohort]:
    """One cohort per run, the longest first."""
    return _longest_first([(spec,) for spec in specs])


def split(cohort: Cohort, max_runs: int) -> list[Cohort]:
    """Split a cohort into parts of nearly equal size. If the runs of one seed fit into a part, they stay together.

    Args:
        cohort: the runs, those of a seed as neighbours.
        max_runs: largest number of runs in a part, at least 1.
    """
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
    """The cohorts by cost; those of equal cost stay in their order."""
    return sorted(groups, key=cost, reverse=True)
