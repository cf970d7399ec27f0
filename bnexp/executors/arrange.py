"""Which executor trains which cohorts, by configuration and device."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from bnexp.cohorts import Cohort, cohorts, singles
from bnexp.executors.local import num_cores, start_pool_server
from bnexp.options import Device, ExecutorName
from bnexp.plan import RunSpec


@dataclass(frozen=True)
class Arrangement:
    """What trains together, in order, and where: ``place`` (an executor, never ``auto``), on so many ``workers`` at a time."""

    place: ExecutorName
    cohorts: list[Cohort]
    workers: int
    accelerated: bool


def arrange(specs: Sequence[RunSpec]) -> Arrangement:
    """How runs that share a data set are trained: cohorts on a GPU and in this process, single runs in other processes."""
    executor = specs[0].config.executor
    if executor.name is ExecutorName.ray:
        fused = specs[0].config.train.device is Device.cuda
        return Arrangement(executor.name, cohorts(specs) if fused else singles(specs), executor.workers or num_cores(), fused)
    devices = [_on_accelerator(spec) for spec in specs]  # all are looked at: a device may not exist
    accelerated = any(devices)
    pooled = executor.name is ExecutorName.local or (len(specs) > 1 and not accelerated)
    if executor.name is ExecutorName.inline or not pooled:
        return Arrangement(ExecutorName.inline, cohorts(specs), 1, accelerated)
    return Arrangement(ExecutorName.local, singles(specs), executor.workers or num_cores(), accelerated)


def _on_accelerator(spec: RunSpec) -> bool:
    """Whether the run goes to a GPU. A look at the driver first spares the seconds that importing torch takes."""
    if spec.config.train.device is Device.cpu or (spec.config.train.device is Device.auto and not _has_driver()):
        return False
    from bnexp.train.precision import resolve_device

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
