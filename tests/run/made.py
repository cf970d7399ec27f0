"""Stands for recorded runs, so that their times can be chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bnexp.config.schema import RunConfig
from bnexp.plan.spec import RunSpec, flatten
from bnexp.run.cost import counted_time, epoch_images, epoch_seconds, is_counted, run_seconds, with_kernels
from bnexp.run.pace import BY_KERNELS
from bnexp.tracking.records import RecordedRun, Summary
from bnexp.tracking.store import Store


@dataclass(eq=False)
class _Made:
    summary: Summary
    settings: dict[str, Any]
    path: Path = Path()


def made_run(
    config: RunConfig,
    ratio: float,
    *,
    device: str = "cpu",
    status: str = "finished",
    execution: str = "eager",
    epoch_ratio: float | None = None,
    images_per_second: float | None = None,
) -> RecordedRun:
    """A recorded run that took ``ratio`` times as long as expected, and its epochs ``epoch_ratio`` times, or as long too."""
    if is_counted(config):
        executed = with_kernels(config, BY_KERNELS in execution)
        usual = epoch_images(config) / epoch_seconds(config, counted_time(executed))
        images_per_second, seconds = usual / (epoch_ratio or ratio), ratio * run_seconds(executed)
    else:
        seconds = ratio
    texts = dict.fromkeys(("run_id", "study", "arm", "finished_at"), "")
    facts: dict[str, Any] = {"data": config.data.name.value, "levels": {}, "seed": 0, "device": device, "execution": execution}
    metrics = {"time/images_per_second": images_per_second}
    summary = Summary(**texts, **facts, status=cast(Any, status), seconds=seconds, metrics=metrics)
    return cast(RecordedRun, _Made(summary, flatten(RunSpec(config).to_dict())))


class Recorded(Store):
    """A store that knows of these runs, the latest at the end."""

    def __init__(self, runs: Sequence[RecordedRun] = ()) -> None:
        self.made = list(runs)

    def latest(self, count: int) -> list[RecordedRun]:
        return self.made[-count:]
