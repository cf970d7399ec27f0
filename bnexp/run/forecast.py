"""Estimates before training which runs will train together, for how long, and in how much memory."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnexp.config.options import ExecutorName
from bnexp.plan.spec import RunSpec
from bnexp.run.arrange import Arrangement, arrange, cpu_workers
from bnexp.run.cohorts import Cohort, split
from bnexp.run.cost import START, STUDY, has_known_length, image_channels, num_classes, run_seconds
from bnexp.run.pace import Pace, recorded_pace
from bnexp.run.runner import by_data
from bnexp.tracking.store import Store

if TYPE_CHECKING:
    from bnexp.training.memory import MemoryLine

# Memory of Python and torch: shared by all processes, and added by each process (measured with 1, 2 and 4 workers).
SHARED_BYTES = 280 * 2**20
PROCESS_BYTES = 95 * 2**20


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
        store: recorded runs, which tell how fast this machine is.

    Returns:
        The parts, in the order of training.
    """
    lines: dict[str, MemoryLine] = {}
    pace = recorded_pace(store)
    return [part for group in by_data(specs) for part in _parts(arrange(group), pace, lines)]


def _parts(plan: Arrangement, pace: Pace, lines: dict[str, MemoryLine]) -> Iterator[Part]:
    place = "GPU" if plan.accelerated else "this process" if plan.place is ExecutorName.inline else "processes"
    for cohort in plan.cohorts:
        key = cohort[0].fuse_key
        if key not in lines:
            lines[key] = _memory_line(cohort[0])
        for runs in _fitting(cohort, lines[key]):
            seconds = _run_seconds(runs[0], pace.of(plan.accelerated))
            own = 0 if plan.accelerated else SHARED_BYTES + PROCESS_BYTES
            yield Part(runs, place, plan.workers, seconds, own + lines[key].bytes(len(runs)))


def _run_seconds(spec: RunSpec, pace: float | None) -> float | None:
    """The time of one run; None if its number of images is not known, or how fast its device is."""
    return run_seconds(spec.config) * pace if pace is not None and has_known_length(spec.config) else None


def _memory_line(spec: RunSpec) -> MemoryLine:
    from bnexp.training.memory import estimate

    data = spec.config.data
    return estimate(spec.config, image_channels(data), data.size, num_classes(data))


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


def estimate_seconds(specs: Sequence[RunSpec], pace: Pace, num_studies: int = 1) -> float | None:
    """Expected wall time on this machine's CPU from the command to the reports, or 0 without runs.

    Args:
        specs: the runs that are going to train.
        pace: how fast this machine is.
        num_studies: how many verdicts and reports follow.

    Returns:
        Seconds; None if the size of a data set is not known.
    """
    if not specs:
        return 0.0
    times = [_run_seconds(spec, pace.cpu) for spec in specs]
    known = [seconds for seconds in times if seconds is not None]
    if len(known) < len(times):
        return None
    return max(sum(known) / cpu_workers(specs), *known) + pace.cpu * (START + STUDY * num_studies)


def estimate_text(specs: Sequence[RunSpec], store: Store, num_studies: int = 1) -> str:
    """``estimate_seconds`` as the end of a sentence: ``, about 12 min until the report``. Empty if it is not known."""
    seconds = estimate_seconds(specs, recorded_pace(store), num_studies)
    report = "report" if num_studies == 1 else "reports"
    return "" if seconds is None or not specs else f", about {duration_text(seconds)} until the {report}"


def duration_text(seconds: float) -> str:
    """A duration for people: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
