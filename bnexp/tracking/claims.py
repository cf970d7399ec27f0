"""Claims: a process claims its runs before it trains them, so that two processes never train the same run at once.

``<runs>/.locks/claims.json`` lists the run ids of each claim. Only the holder of the lock ``registry`` reads and writes it. A
claim counts as long as its process holds the claim's own lock. The system frees that lock when the process ends, however it
ends. So a claim takes one open file, whatever the number of its runs.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from bnexp.tracking.reading import MIB, DamagedRecord, as_type, read_json
from bnexp.tracking.store import Store, write_json

NAME = re.compile("[0-9a-f]{32}")  # the name of a claim
MOST = 64 * MIB  # largest list that is read, bytes; a claim of 100,000 runs takes 2 MiB
POLL_SECONDS = 0.2  # between two looks at a run that another process trains

log = logging.getLogger(__name__)


class Claims:
    """The claims of all processes that train into one store.

    Args:
        store: where the runs are recorded.
    """

    def __init__(self, store: Store) -> None:
        self._folder = store.root / ".locks"
        self._list = self._folder / "claims.json"

    @contextmanager
    def claim(self, run_ids: Sequence[str]) -> Iterator[set[str]]:
        """Reserve runs for this process as long as the context lasts.

        Args:
            run_ids: the runs that are wanted.

        Yields:
            The ids that this process has now; the others are held by other claims.
        """
        name = uuid4().hex
        own, free = self._lock(name), set[str]()
        try:
            with self._registry():
                claims = self._living()
                free = set(run_ids).difference(*claims.values())
                if free:
                    write_json(self._list, claims | {name: sorted(free)})
                    own.acquire(blocking=False)
            yield free
        finally:
            own.release()
            with self._registry():
                self._living()

    def wait_for(self, run_id: str) -> None:
        """Return when no other claim holds the run any more."""
        while self._holds(run_id):
            time.sleep(POLL_SECONDS)

    def _holds(self, run_id: str) -> bool:
        with self._registry():
            return any(run_id in run_ids for run_ids in self._living().values())

    def _living(self) -> dict[str, list[str]]:
        """Claim -> run ids, for claims whose process is alive. Removes what the others left. The registry must be held."""
        try:
            listed = as_type(dict[str, list[str]], read_json(self._list, MOST), self._list)
        except FileNotFoundError:
            return {}
        except DamagedRecord as damage:
            log.warning("%s The claims in it do not count.", damage)
            listed = {}
        claims = {name: run_ids for name, run_ids in listed.items() if NAME.fullmatch(name)}  # others would be foreign paths
        ended = [name for name in claims if self._has_ended(name)]
        for name in ended:
            del claims[name]
        if ended:
            write_json(self._list, claims)
        return claims

    def _has_ended(self, name: str) -> bool:
        """Whether nobody holds the lock of a claim. If so, its file is removed."""
        lock = self._lock(name)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)
        return True

    def _registry(self) -> FileLock:
        self._folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self._folder / "registry")

    def _lock(self, name: str) -> FileLock:
        return FileLock(self._folder / f"{name}.lock")
