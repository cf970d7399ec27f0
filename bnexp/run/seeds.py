"""How many seeds a study trains next, and when it stops: settled, futile, at its limit, or out of time."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bnexp.comparison.looks import Look
from bnexp.comparison.prospects import futile, is_open
from bnexp.comparison.result import StudyResult
from bnexp.comparison.stats import MIN_PAIRS
from bnexp.config.schema import ConfigError

DEFAULT_MOST = 40  # seeds of a study that is run until it is settled
GROWTH = 6  # a step adds at least this fraction of the seeds so far, because each look takes a second or two
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


@dataclass
class Clock:
    """How much time there is, and how long a seed takes.

    Args:
        limit: seconds from now on; None: any time.
    """

    limit: float | None = None
    _start: float = field(default_factory=time.monotonic)
    _spent: float = 0.0
    _seeds: int = 0

    @property
    def left(self) -> float:
        """Seconds until the limit; infinite without one."""
        return math.inf if self.limit is None else self.limit - (time.monotonic() - self._start)

    def trained(self, seconds: float, num_seeds: int) -> None:
        """Note that ``num_seeds`` more seeds took ``seconds``."""
        self._spent += seconds
        self._seeds += num_seeds

    def allows(self, num_seeds: int) -> bool:
        """Whether so many more seeds are expected to fit. Before anything has trained, only whether there is time left."""
        return (num_seeds * self._spent / self._seeds if self._seeds else 0.0) <= self.left


def parse_time(text: str) -> float:
    """Seconds of ``90s``, ``30m``, ``8h`` or ``1h30m``. Raises ConfigError for anything else."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)", text)
    if not parts or "".join(f"{number}{unit}" for number, unit in parts) != re.sub(r"\s", "", text):
        raise ConfigError(f"time={text} is no duration: allowed are numbers with a unit, like 90s, 30m, 8h or 1h30m.")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds <= 0:
        raise ConfigError(f"time={text} leaves no time: give a duration above 0, like 30m.")
    return seconds


def growing(overrides: Sequence[str], until_settled: bool, max_seeds: int | None) -> list[str]:
    """The override that lets a study add seeds until it is settled; none if it is not to, or is told so already."""
    if max_seeds is not None:
        return [f"study.max_seeds={max_seeds}"]
    told = any(override.startswith("study.max_seeds=") for override in overrides)
    return [f"study.max_seeds={DEFAULT_MOST}"] if until_settled and not told else []


def next_number(now: int, most: int, fill: int) -> int:
    """The number of seeds to have next: six first, then steps that fill the machine.

    Args:
        now: how many there are.
        most: the largest number.
        fill: how many seeds keep the machine busy.
    """
    return min(most, max(MIN_PAIRS, now + max(fill, now // GROWTH)) if now else MIN_PAIRS)


def why_stop(result: StudyResult, look: Look, now: int, most: int) -> str:
    """Why a study trains no further seeds, as a sentence; empty if it goes on.

    Args:
        result: what it shows so far.
        look: how it was looked at.
        now: how many seeds it has.
        most: the largest number.
    """
    deciding = result.deciding
    undecided = [c for c in deciding if is_open(c)]
    if not undecided:
        return f"Settled with {now} seeds."
    if now >= most:
        return f"Not settled with {most} seeds, the largest number allowed."
    if now >= MIN_PAIRS and not any(c.n for c in undecided):
        return f"Stopped with {now} seeds: none of them has results that can be compared."
    hopeless = [c for c in undecided if not c.n or (c.n >= MIN_PAIRS and futile(c, look, len(deciding), most))]
    if len(hopeless) == len(undecided):
        return f"Stopped with {now} seeds: at this estimate {most} would not settle it either."
    return ""
