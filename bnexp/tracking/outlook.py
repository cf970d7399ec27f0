"""How long runs that share processes will still take: before they train, and while they do."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

PRIOR_PART = 0.1  # of the expected time: after so much of it, expectation and observation count alike


def wall_seconds(times: Iterable[float], workers: int) -> float:
    """How long it takes until all runs have ended, if the longest comes first and each worker takes the next when it is free.

    Args:
        times: of each run, seconds.
        workers: number of runs that train at the same time, at least 1.
    """
    ends = [0.0] * workers
    for seconds in sorted(times, reverse=True):
        heapq.heapreplace(ends, ends[0] + seconds)
    return max(ends)


class Outlook:
    """The time that runs will still take.

    It starts from the expected times. The longer the runs have trained, the more it goes by how long they really take.

    Args:
        parts: the runs that train together, and their expected time in seconds; None if it is not known. If any is not known,
            all parts count as equally long, and nothing is known before one of them has come some way.
        workers: number of parts that train at the same time, at least 1.
    """

    def __init__(self, parts: Sequence[tuple[Sequence[str], float | None]], workers: int) -> None:
        known = [seconds for _, seconds in parts if seconds is not None]
        self._is_known = len(known) == len(parts)
        self._expected = known if self._is_known else [1.0] * len(parts)
        self._place = {run_id: number for number, (run_ids, _) in enumerate(parts) for run_id in run_ids}
        self._training = [set(run_ids) for run_ids, _ in parts]
        self._left = list(self._expected)
        self._done, self._took = [0.0] * len(parts), [0.0] * len(parts)
        self._workers = workers

    def advance(self, run_id: str, share: float, took: float, *, ended: bool = False) -> None:
        """A run has come so far.

        Args:
            run_id: of the run.
            share: of its epochs that it has trained, from 0 to 1.
            took: seconds since it began.
            ended: whether it trains no further. It may have diverged before its last epoch.
        """
        if (number := self._place.get(run_id)) is None:
            return
        self._done[number], self._took[number] = share * self._expected[number], took
        if ended:
            self._training[number].discard(run_id)
        self._left[number] = self._expected[number] - self._done[number] if self._training[number] else 0.0

    @property
    def seconds(self) -> float | None:
        """The time left after what has been told; None if it is not known."""
        done, took, left = sum(self._done), sum(self._took), wall_seconds(self._left, self._workers)
        if not self._is_known:
            return left * took / done if done else None
        prior = PRIOR_PART * sum(self._expected)
        return left * (prior + took) / (prior + done) if left else 0.0
