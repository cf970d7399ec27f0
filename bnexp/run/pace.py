"""How fast this machine trains, compared with the one that the constants of ``cost.py`` were measured on."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from functools import lru_cache

from bnexp.config.schema import RunConfig
from bnexp.run.cost import epoch_images, epoch_seconds
from bnexp.tracking.reading import DamagedRecord, as_type
from bnexp.tracking.records import CONFIG, RecordedRun
from bnexp.tracking.store import Store

LATEST = 50  # runs that tell
LEAST_SECONDS = 0.1  # of an epoch by the model; shorter ones tell how long the first step takes
TOLD_BY = ("data", "model", "norm", "optim", "train")  # parts of the configuration that decide the time of a step


@dataclass(frozen=True)
class Pace:
    """Recorded time divided by expected time: 2 is a machine of half the speed.

    Args:
        cpu: of a single core; 1 if no run is recorded.
        accelerator: of a GPU; None if no run is recorded, because nothing else tells.
    """

    cpu: float = 1.0
    accelerator: float | None = None

    def of(self, accelerated: bool) -> float | None:
        """That of the GPU or of the CPU."""
        return self.accelerator if accelerated else self.cpu


def recorded_pace(store: Store) -> Pace:
    """The median over the latest runs, of whatever network: what slows one down slows all."""
    found: dict[bool, list[float]] = {False: [], True: []}
    for run in store.latest(LATEST):
        ratio = _ratio(run)
        if ratio is not None:
            found[run.summary.device != "cpu"].append(ratio)
    cpu, accelerator = (statistics.median(ratios) if ratios else None for ratios in found.values())
    return Pace(1.0 if cpu is None else cpu, accelerator)


@lru_cache(4 * LATEST)
def _ratio(run: RecordedRun) -> float | None:
    """Recorded time of a run's last epoch divided by the expected one; None if its record does not tell.

    A record that is finished no longer changes, and a book of many studies asks for the same ones before each of them.
    """
    speed = run.summary.metric("time/images_per_second")
    if not 0 < speed < math.inf:
        return None
    try:
        parts = {name: run.config[name] for name in TOLD_BY}
        config: RunConfig = as_type(RunConfig, parts, run.path / CONFIG)
    except (DamagedRecord, FileNotFoundError, KeyError):
        return None
    expected = epoch_seconds(config)
    if expected < LEAST_SECONDS:
        return None
    return epoch_images(config) / speed / expected
