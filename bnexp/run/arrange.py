"""Decides which executor trains which cohorts, by configuration and device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bnexp.config.options import Device, ExecutorName
from bnexp.plan.spec import RunSpec
from bnexp.run.cohorts import Cohort, cohorts, singles
from bnexp.run.local import num_cores
from bnexp.run.pool_server import has_driver


@dataclass(frozen=True)
class Arrangement:
    """What trains together, in which order, and where.

    Args:
        place: the executor; never ``auto``.
        cohorts: in the order of training.
        workers: how many cohorts train at the same time.
        accelerated: whether a GPU trains.
    """

    place: ExecutorName
    cohorts: list[Cohort]
    workers: int
    accelerated: bool


def arrange(specs: Sequence[RunSpec]) -> Arrangement:
    """Arrange the training of runs that share a data set: cohorts on a GPU, single runs on a CPU.

    A cohort sums in another order than a single run, so the last bits of its results differ. On a CPU a cohort is no faster
    either. There each run trains by itself, so it has the same bits in this process, in a pool, and after an interruption.

    Args:
        specs: the runs, at least one. The first one's ``executor`` is used for all.

    Raises:
        ConfigError: the device of a run does not exist on this machine.
    """
    on_ray = specs[0].config.executor.name is ExecutorName.ray
    on_gpu, on_cpu = list[RunSpec](), list[RunSpec]()
    for spec in specs:  # every spec is looked at, because its device may not exist
        accelerated = spec.config.train.device is Device.cuda if on_ray else _on_accelerator(spec)
        (on_gpu if accelerated else on_cpu).append(spec)
    place = _place(specs, bool(on_gpu))
    parts = singles(specs) if place is ExecutorName.local else [*cohorts(on_gpu), *singles(on_cpu)]
    return Arrangement(place, parts, _workers(specs, place), bool(on_gpu))


def by_data(specs: Sequence[RunSpec]) -> list[list[RunSpec]]:
    """The specs in groups with equal ``data`` settings, which share one prepared data set."""
    groups: dict[str, list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault(repr(spec.config.data), []).append(spec)
    return list(groups.values())


def cpu_workers(specs: Sequence[RunSpec]) -> int:
    """How many of the runs, at least one, train at the same time if a CPU trains them."""
    return min(_workers(specs, _place(specs, False)), len(specs))


def _place(specs: Sequence[RunSpec], on_gpu: bool) -> ExecutorName:
    name = specs[0].config.executor.name
    if name is not ExecutorName.auto:
        return name
    return ExecutorName.local if len(specs) > 1 and not on_gpu else ExecutorName.inline


def _workers(specs: Sequence[RunSpec], place: ExecutorName) -> int:
    return 1 if place is ExecutorName.inline else specs[0].config.executor.workers or num_cores()


def _on_accelerator(spec: RunSpec) -> bool:
    """Whether the run goes to a GPU. The driver is asked first: if there is no GPU, torch need not be imported for seconds."""
    if spec.config.train.device is Device.cpu or (spec.config.train.device is Device.auto and not has_driver()):
        return False
    from bnexp.training.precision import resolve_device

    return resolve_device(spec.config.train).type != "cpu"
