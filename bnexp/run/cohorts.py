"""Decides which runs train together and in which order: cohorts for a GPU, single runs for a CPU, the longest first.

A cohort is as large as memory allows: until the GPU is full, its steps cost little more than those of a single run. In a cohort
the runs of one seed, which see the same batches, are neighbours. If every seed has the same number of runs, the engine gathers
each seed's batches once, and the first convolution reads one input for several runs. If not, as after an interruption, each run
gathers its own batches. Splitting such a cohort would cost more than sharing inputs gains.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from bnexp.config.options import NormKind
from bnexp.plan.spec import RunSpec
from bnexp.run.cost import is_counted, measured_time, run_seconds

Cohort = tuple[RunSpec, ...]


def workload(cohort: Cohort) -> float:
    """The expected time of one run of a cohort as it would be without norm layers.

    Cohorts with equal workloads take about the same time: norms add a part of it. They are left out so that the arms of a seed
    train one after another, and an interrupted study can compare the seeds that it has. If the layers of a network are not
    counted, all of its steps count as equally long.
    """
    config = cohort[0].config
    plain = replace(config, norm=replace(config.norm, kind=NormKind.none))
    return run_seconds(plain, None if is_counted(plain) else measured_time(plain, 1.0))


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
    """The cohorts by workload; those of equal workload stay in their order."""
    return sorted(groups, key=workload, reverse=True)
