"""Estimates before training which runs will train together, for how long, and in how much memory."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from bnexp.config.options import ExecutorName
from bnexp.config.schema import ConfigError, StudyConfig
from bnexp.config.validate import resolve_seeds
from bnexp.plan.grid import most_added
from bnexp.plan.spec import RunSpec
from bnexp.run import timed
from bnexp.run.arrange import Arrangement, arrange, by_data, cpu_workers
from bnexp.run.cohorts import Cohort, split
from bnexp.run.cost import BETWEEN, LOAD, START, STUDY, image_channels, is_counted, num_classes
from bnexp.run.pace import Pace, recorded_pace
from bnexp.run.pool_server import has_driver
from bnexp.tracking.outlook import Outlook, wall_seconds
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
    plans = [arrange(group) for group in by_data(specs)]
    pace = _pace_with_torch(store, [cohort[0] for plan in plans for cohort in plan.cohorts if not plan.accelerated])
    return [part for plan in plans for part in _parts(plan, pace, lines)]


def _pace_with_torch(store: Store, on_cpu: Sequence[RunSpec]) -> Pace:
    """The pace in a process that loads torch anyway: what no record tells about runs on a CPU is timed."""
    pace = recorded_pace(store)
    if on_cpu and not pace.cpu.is_told:
        timed.time_machine()
        pace = recorded_pace(store)
    for spec in on_cpu:
        if not is_counted(spec.config) and pace.cpu.seconds(spec.config) is None:
            timed.time_network(spec.config)
    return pace


def _parts(plan: Arrangement, pace: Pace, lines: dict[str, MemoryLine]) -> Iterator[Part]:
    place = "GPU" if plan.accelerated else "this process" if plan.place is ExecutorName.inline else "processes"
    for cohort in plan.cohorts:
        key = cohort[0].fuse_key
        if key not in lines:
            lines[key] = _memory_line(cohort[0])
        for runs in _fitting(cohort, lines[key]):
            seconds = pace.on(plan.accelerated).seconds(runs[0].config)
            own = 0 if plan.accelerated else SHARED_BYTES + PROCESS_BYTES
            yield Part(runs, place, plan.workers, seconds, own + lines[key].bytes(len(runs)))


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


def with_added(specs: Sequence[RunSpec], study: StudyConfig, added: Sequence[float] = ()) -> list[RunSpec]:
    """The runs, and stand-ins for those at the levels that a refining study is going to add if the seeds of an arm agree.

    Args:
        specs: runs of the study that are going to train.
        study: the study.
        added: the levels that it has added before.
    """
    if study.refine.ratio is None:
        return list(specs)
    (levels,) = study.factors.values()
    usual, _ = most_added(study, sorted(map(float, levels)))
    count = max(0, usual - len(added)) * len(study.arms) * len(resolve_seeds(study.seeds))
    return [*specs, *islice(cycle(specs), count)]


def outlook(specs: Sequence[RunSpec], pace: Pace) -> Outlook:
    """How long runs will train: the forecast before they do, and the progress display meanwhile.

    Args:
        specs: the runs that are going to train, at least one.
        pace: how fast this machine is.

    Raises:
        ConfigError: the device of a run does not exist on this machine.
    """
    plans = [arrange(group) for group in by_data(specs)]
    parts = [
        ([spec.run_id for spec in cohort], _part_seconds(cohort[0], pace, plan.accelerated))
        for plan in plans
        for cohort in plan.cohorts
    ]
    return Outlook(parts, max(plan.workers for plan in plans))


def _part_seconds(spec: RunSpec, pace: Pace, accelerated: bool = False) -> float | None:
    """The time of a part with a run like this, and what lies between two parts; None if it is not known."""
    seconds = pace.on(accelerated).seconds(spec.config)
    return None if seconds is None else seconds + BETWEEN * pace.machine


def estimate_seconds(specs: Sequence[RunSpec], pace: Pace, num_studies: int = 1) -> float | None:
    """Expected wall time on this machine's CPU from the command to the reports, or 0 without runs.

    Of many studies this is quicker than ``outlook``, and says the same of a CPU.

    Args:
        specs: the runs that are going to train.
        pace: how fast this machine is.
        num_studies: how many verdicts and reports follow.

    Returns:
        Seconds; None if the time of a run is not known.
    """
    if not specs:
        return 0.0
    times = [_part_seconds(spec, pace) for spec in specs]
    known = [seconds for seconds in times if seconds is not None]
    if len(known) < len(times):
        return None
    return wall_seconds(known, cpu_workers(specs)) + pace.machine * (START + STUDY * num_studies)


def estimate_text(specs: Sequence[RunSpec], store: Store, num_studies: int = 1, *, begun: bool = False) -> str:
    """The time until the reports as the end of a sentence: ``, about 12 min until the report``. Empty if it is not known.

    Args:
        specs: the runs that are going to train.
        store: recorded runs, which tell how fast this machine is.
        num_studies: how many verdicts and reports follow.
        begun: whether the command that trains them is running. Then its start is nearly over, and a process of it that loads
            torch times a step if no run is recorded.
    """
    if not specs:
        return ""
    pace = recorded_pace(store)
    if begun and not pace.cpu.is_told and not has_driver():
        timed.time_machine_in_pool()
        pace = recorded_pace(store)
    seconds = None
    with suppress(ConfigError):  # a device does not exist here, as the runs will say
        seconds = outlook(specs, pace).seconds
    if seconds is None:
        return ""
    seconds += pace.machine * ((LOAD if begun else START) + STUDY * num_studies)
    return f", about {duration_text(seconds)} until the {'report' if num_studies == 1 else 'reports'}"


def duration_text(seconds: float) -> str:
    """A duration for people: ``1.6 s``, ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{max(0.1, round(seconds, 1 if seconds < 10 else None)):g} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
