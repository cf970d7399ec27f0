"""Run specs -> executor -> engine -> sinks: skip what is finished, isolate what fails, keep what is done."""

from __future__ import annotations

import ctypes
import math
import os
import shlex
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from bnexp.config import DataConfig, Device, ExecutorName
from bnexp.executors.local import Pool, num_cores, run_inline
from bnexp.metrics import Record, RunFailed
from bnexp.plan import RunSpec, cohorts, digest, plain, unique
from bnexp.tracking.progress import ProgressSink
from bnexp.tracking.sink import Fanout
from bnexp.tracking.store import RecordedRun, Store, StoreSink
from bnexp.tracking.wandb import WandbSink

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from bnexp.data.resident import Resident


class RunError(Exception):
    """A run that failed; the message says why."""


def run(specs: Sequence[RunSpec], store: Store | None = None) -> dict[str, RecordedRun | RunError]:
    """Train every spec that has no finished record; run id -> its record, or why it failed.

    Results are written as they come, so an interruption loses only what is training. A run that another process is training
    is left to it and waited for.
    """
    store = store or Store()
    errors: dict[str, RunError] = {}
    console = Console(stderr=True)
    with ProgressSink(console) as progress:
        while todo := [spec for spec in unique(specs) if spec.run_id not in errors and store.find(spec.run_id) is None]:
            with store.claim([spec.run_id for spec in todo]) as claimed:
                mine = [spec for spec in todo if spec.run_id in claimed and store.find(spec.run_id) is None]
                for group in _by_data(mine):
                    errors |= _run_group(group, store, progress, console)
            if not claimed:
                console.print(f"{len(todo)} runs are training in another process; waiting for them.", highlight=False)
                store.wait_for(todo[0].run_id)
    found = {spec.run_id: store.find(spec.run_id) for spec in unique(specs)}
    return {run_id: record or errors[run_id] for run_id, record in found.items()}


def run_job(tree: DictConfig) -> float:
    """Hydra's task function: train one configuration; its objective."""
    from bnexp.compose import to_config

    spec = RunSpec(to_config(tree))
    return objective(run([spec])[spec.run_id])


def objective(result: RecordedRun | RunError) -> float:
    """What a sweeper maximises: validation accuracy of the last epoch, test accuracy where no part is held out.

    NaN for a run that failed: Hydra's sweepers would end with the first exception and lose the other jobs' results.
    """
    if isinstance(result, RunError):
        return math.nan
    metrics = result.summary["metrics"]
    return float(metrics.get("val/accuracy", metrics["test/accuracy"]))


def command_line() -> str:
    """The command that is running, as one would type it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


# Training images of each data set, and images that one process trains a second where nothing is recorded yet.
NUM_IMAGES = {
    "digits": 1437,
    "mnist": 60_000,
    "fashion_mnist": 60_000,
    "kmnist": 60_000,
    "cifar10": 50_000,
    "cifar100": 50_000,
    "svhn": 73_257,
}
IMAGES_PER_SECOND = 8_000


def estimate_seconds(specs: Sequence[RunSpec], store: Store) -> float | None:
    """Expected wall time of training the specs on this machine's CPU; None where a data set's size is not known.

    The speed is the median of the latest recorded runs on the same data set, where there are any.
    """
    speeds: dict[str, list[float]] = {}
    for path in sorted(store.root.glob("*/*/summary.json"), key=lambda path: path.stat().st_mtime)[-50:]:
        summary = RecordedRun(path.parent).summary
        speeds.setdefault(summary["data"], []).append(summary["metrics"]["time/images_per_second"])
    seconds = 0.0
    for spec in specs:
        data = spec.config.data
        if data.train_size is None and data.name not in NUM_IMAGES:
            return None
        images = data.train_size or NUM_IMAGES[data.name] * (1 - data.val_fraction)
        seconds += images * spec.config.train.epochs / statistics.median(speeds.get(data.name, [IMAGES_PER_SECOND]))
    return seconds / min(num_cores(), max(len(specs), 1))


def duration_text(seconds: float) -> str:
    """A duration for people: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _by_data(specs: Sequence[RunSpec]) -> list[list[RunSpec]]:
    groups: dict[str, list[RunSpec]] = {}
    for spec in specs:
        groups.setdefault(digest(plain(vars(spec.config.data))), []).append(spec)
    return list(groups.values())


def _run_group(specs: list[RunSpec], store: Store, progress: ProgressSink, console: Console) -> dict[str, RunError]:
    """Train runs that share a data set; run id -> why it failed, for those that did."""
    resident = prepare_data(specs[0].config.data, console)
    by_id = {spec.run_id: spec for spec in specs}
    errors = {}
    wandb = wandb_sink(specs[0], resident)
    progress.begin(specs)
    with Fanout([StoreSink(store, command_line()), wandb]) as fanout:
        fanout.begin(specs)
        for record in _execute(specs, resident):
            spec = by_id[record.run_id]
            fanout.record(spec, record)
            progress.record(spec, record)
            if isinstance(record, RunFailed):
                errors[record.run_id] = RunError(record.error)
    for line in wandb.messages:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return errors


def _execute(specs: Sequence[RunSpec], resident: Resident) -> Iterator[Record]:
    executor = specs[0].config.executor
    accelerated = [_on_accelerator(spec) for spec in specs]  # all are looked at: a device may not exist
    pooled = executor.name is ExecutorName.local or (len(specs) > 1 and not any(accelerated))
    if executor.name is ExecutorName.inline or not pooled:
        return run_inline(cohorts(specs), resident)
    return Pool(resident, executor.workers or num_cores()).run([(spec,) for spec in specs])


def _on_accelerator(spec: RunSpec) -> bool:
    """Whether the run goes to a GPU. A look at the driver first spares the seconds that importing torch takes."""
    if spec.config.train.device is Device.cpu or (spec.config.train.device is Device.auto and not _has_driver()):
        return False
    from bnexp.train.precision import resolve_device

    return resolve_device(spec.config.train).type != "cpu"


def _has_driver() -> bool:
    if sys.platform == "darwin":
        return os.uname().machine == "arm64"
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count = ctypes.c_int(0)
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except OSError:
        return False


def prepare_data(config: DataConfig, console: Console) -> Resident:
    """The data set, downloaded, packed and verified where that has not been done, with a progress bar."""
    from rich.progress import Progress

    from bnexp.data.resident import prepare

    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total or None)
                if not console.is_terminal:
                    console.print(f"{what} ...", highlight=False, markup=False)
            bar.update(tasks[what], completed=done, total=total or None)

        return prepare(config, show)


def wandb_sink(spec: RunSpec, resident: Resident) -> WandbSink:
    """The W&B sink for runs on this data set, as the first of them asks for it."""
    from bnexp.data.resident import images_for_display

    track = spec.config.track

    def images(ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        return images_for_display(resident, "test", ids)

    return WandbSink(
        track.wandb,
        study_id=spec.config.study.id,
        class_names=resident.class_names,
        images=images,
        num_predictions=track.predictions,
    )
