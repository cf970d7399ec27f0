"""Estimates before training which runs will train together, for how long, and in how much memory."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bnexp.config.options import ExecutorName, ModelName
from bnexp.data.catalogue import CATALOGUE
from bnexp.plan.spec import RunSpec
from bnexp.plan.study import Job
from bnexp.run.arrange import Arrangement, arrange
from bnexp.run.cohorts import Cohort, cost, num_train_images, relative_cost, split
from bnexp.run.local import num_cores
from bnexp.run.runner import by_data
from bnexp.tracking.store import Store

if TYPE_CHECKING:
    from bnexp.training.memory import MemoryLine

# Images per second that one process trains in large batches; used if no run is recorded yet.
IMAGES_PER_SECOND = 11_000

# (data set, network, whether on an accelerator) -> images per second, converted to large batches.
Speeds = dict[tuple[str, str, bool], float]

# Keys on which the time of a run depends most, apart from the network.
TIMED = ("data.train_size", "train.batch_size", "train.epochs", "train.steps_per_epoch")

# Memory of Python and torch: shared by all processes, and added by each process (measured with 1, 2 and 4 workers).
SHARED_BYTES = 280 * 2**20
PROCESS_BYTES = 95 * 2**20

# What is assumed about the user's own images.
OWN_CHANNELS = 3
OWN_CLASSES = 10


@dataclass(frozen=True)
class Part:
    """Runs that train together: a cohort, or one run by itself.

    Args:
        runs: its runs.
        place: where they train, in words: ``GPU``, ``this process`` or ``processes``.
        at_once: how many parts train at the same time.
        seconds: expected time of the whole part; None if no recorded run tells.
        bytes: expected peak of memory. On a GPU: without the data and CUDA itself. Elsewhere: of the whole process, with the
            libraries that it shares with other processes.
    """

    runs: Cohort
    place: str
    at_once: int
    seconds: float | None
    bytes: float


def forecast(specs: Sequence[RunSpec], store: Store) -> list[Part]:
    """What training the runs will take.

    Args:
        specs: the runs that are going to train.
        store: recorded runs, from which speeds are taken.

    Returns:
        The parts, in the order of training.
    """
    lines: dict[str, MemoryLine] = {}
    speeds = _speeds(store)
    return [part for group in by_data(specs) for part in _parts(arrange(group), speeds, lines)]


def _parts(plan: Arrangement, speeds: Speeds, lines: dict[str, MemoryLine]) -> Iterator[Part]:
    place = "GPU" if plan.accelerated else "this process" if plan.place is ExecutorName.inline else "processes"
    for cohort in plan.cohorts:
        key = cohort[0].fuse_key
        if key not in lines:
            lines[key] = _memory_line(cohort[0])
        for runs in _fitting(cohort, lines[key]):
            seconds = _run_seconds(runs[0], plan.accelerated, speeds)
            own = 0 if plan.accelerated else SHARED_BYTES + PROCESS_BYTES
            yield Part(runs, place, plan.workers, seconds, own + lines[key].bytes(len(runs)))


def _speeds(store: Store) -> Speeds:
    """The median speeds of the latest recorded runs."""
    recorded: dict[tuple[str, str, bool], list[float]] = {}
    for run in store.latest(50):
        summary = run.summary
        speed, batch_size = summary.metric("time/images_per_second"), summary.batch_size or 64
        if 0 < speed < math.inf and batch_size > 0:
            key = summary.data, summary.model or ModelName.lenet, summary.device != "cpu"
            recorded.setdefault(key, []).append(speed * relative_cost(batch_size))
    return {key: statistics.median(values) for key, values in recorded.items()}


def _run_seconds(spec: RunSpec, accelerated: bool, speeds: Speeds) -> float | None:
    """The training time of one run; None if its number of images is not known or, on an accelerator, its speed is not."""
    config = spec.config
    speed = speeds.get((config.data.name, config.model.name, accelerated), None if accelerated else IMAGES_PER_SECOND)
    known = config.train.steps_per_epoch is not None or num_train_images(config.data) is not None
    return cost((spec,)) / speed if known and speed is not None else None


def _memory_line(spec: RunSpec) -> MemoryLine:
    from bnexp.training.memory import estimate

    data = spec.config.data
    known = CATALOGUE[data.name]
    channels = data.channels or known.channels or OWN_CHANNELS
    return estimate(spec.config, channels, data.size, known.num_classes or OWN_CLASSES)


def _fitting(cohort: Cohort, line: MemoryLine) -> list[Cohort]:
    import torch

    from bnexp.training.memory import USABLE

    if not torch.cuda.is_available():
        return [cohort]
    return split(cohort, line.max_runs(USABLE * torch.cuda.mem_get_info()[0]))


def part_columns(parts: Sequence[Part]) -> dict[str, dict[str, Any]]:
    """Run id -> ``cohort`` (the number of its part, from 1), ``cohort_seconds`` and ``cohort_bytes`` (of the whole part)."""
    columns = {}
    for number, part in enumerate(parts, start=1):
        for spec in part.runs:
            seconds = None if part.seconds is None else round(part.seconds, 1)
            columns[spec.run_id] = {"cohort": number, "cohort_seconds": seconds, "cohort_bytes": round(part.bytes)}
    return columns


def part_rows(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """One row per cohort on a GPU. Runs that train by themselves share one row per kind of network."""
    groups: dict[object, list[tuple[int, Part]]] = {}
    for number, part in enumerate(parts, start=1):
        groups.setdefault(number if part.place == "GPU" else part.runs[0].fuse_key, []).append((number, part))
    return [_row([number for number, _ in group], [part for _, part in group]) for group in groups.values()]


def _row(numbers: Sequence[int], parts: Sequence[Part]) -> dict[str, Any]:
    first, specs = parts[0], [spec for part in parts for spec in part.runs]
    at_once = min(first.at_once, len(parts))
    known = [part.seconds for part in parts if part.seconds is not None]
    seconds = math.ceil(len(parts) / at_once) * statistics.mean(known) if known else None
    each = max(part.bytes for part in parts)
    together = SHARED_BYTES + at_once * (each - SHARED_BYTES)
    return {
        "cohort": numbers[0] if first.place == "GPU" else None,
        "runs": len(specs),
        "where": first.place if first.place != "processes" else "1 process" if at_once == 1 else f"{at_once} processes",
        "arms": ", ".join(dict.fromkeys(spec.arm for spec in specs)),
        "seeds": len({spec.seed for spec in specs}),
        "time": "unknown" if seconds is None else duration_text(seconds),
        "memory": f"{together / 2**20:,.0f} MiB",
    }


def changed(spec: RunSpec, job: Job) -> RunSpec:
    """A run that takes about as long as ``spec`` with the overrides of ``job``, made without the time that composing takes."""
    config = spec.config
    for name, value in job.items():
        if name in TIMED and (value == "null" or value.isdecimal()):
            group, key = name.split(".")
            part = replace(getattr(config, group), **{key: None if value == "null" else int(value)})
            config = replace(config, **{group: part})
    return RunSpec(config)


def estimate_seconds(specs: Sequence[RunSpec], store: Store) -> float | None:
    """Expected wall time of training the specs on this machine's CPU; None if the size of a data set is not known."""
    speeds = _speeds(store)
    times = [_run_seconds(spec, False, speeds) for spec in specs]
    known = [seconds for seconds in times if seconds is not None]
    return sum(known) / min(num_cores(), max(len(specs), 1)) if len(known) == len(times) else None


def estimate_text(specs: Sequence[RunSpec], store: Store) -> str:
    """``estimate_seconds`` as the end of a sentence: ``, about 12 min``. Empty if it is not known."""
    seconds = estimate_seconds(specs, store)
    return "" if seconds is None else f", about {duration_text(seconds)}"


def duration_text(seconds: float) -> str:
    """A duration for people: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
