"""Which executor trains which cohorts, by configuration and device."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from bnexp.config.options import Device, ExecutorName
from bnexp.plan.spec import RunSpec
from bnexp.run.cohorts import Cohort, cohorts, singles
from bnexp.run.local import num_cores, start_pool_server


@dataclass(frozen=True)
class Arrangement:
    """What trains together, in order, and where: ``place`` (an executor, never ``auto``), on so many ``workers`` at a time."""

    place: ExecutorName
    cohorts: list[Cohort]
    workers: int
    accelerated: bool


def arrange(specs: Sequence[RunSpec]) -> Arrangement:
    """How runs that share a data set are trained: cohorts on a GPU, single runs on a CPU.

    A cohort adds its numbers up in another order than a single run, so its last bits differ. On a CPU it is no faster either.
    So there a run has the same bits in this process, in a pool, alone, and after an interruption.
    """
    executor = specs[0].config.executor
    on_ray = executor.name is ExecutorName.ray
    on_gpu, on_cpu = list[RunSpec](), list[RunSpec]()
    for spec in specs:  # all are looked at: a device may not exist
        accelerated = spec.config.train.device is Device.cuda if on_ray else _on_accelerator(spec)
        (on_gpu if accelerated else on_cpu).append(spec)
    num_workers = executor.workers or num_cores()
    if executor.name is ExecutorName.local or (executor.name is ExecutorName.auto and len(specs) > 1 and not on_gpu):
        return Arrangement(ExecutorName.local, singles(specs), num_workers, bool(on_gpu))
    place = ExecutorName.ray if on_ray else ExecutorName.inline
    return Arrangement(place, [*cohorts(on_gpu), *singles(on_cpu)], num_workers if on_ray else 1, bool(on_gpu))


def _on_accelerator(spec: RunSpec) -> bool:
    """Whether the run goes to a GPU. A look at the driver first spares the seconds that importing torch takes."""
    if spec.config.train.device is Device.cpu or (spec.config.train.device is Device.auto and not _has_driver()):
        return False
    from bnexp.training.precision import resolve_device

    return resolve_device(spec.config.train).type != "cpu"


def prepare_workers() -> None:
    """Have torch loaded for worker processes while the caller goes on, where a CPU is going to train."""
    if not _has_driver():
        start_pool_server()


def _has_driver() -> bool:
    if sys.platform == "darwin":
        return os.uname().machine == "arm64"
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except OSError:
        return False
