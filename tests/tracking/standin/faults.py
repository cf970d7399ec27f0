"""What can go wrong with a server: it refuses, hangs, drops connections, or is away."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

PARTS = ("graphql", "stream", "upload", "download")


@dataclass
class Fault:
    """What happens instead of an answer. ``times``: to how many requests; None: to all, until ``heal``."""

    kind: str  # status, hang, drop, lose
    on: Sequence[str]
    times: int | None = None
    status: int = 0
    retry_after: float | None = None
    message: str = ""


@dataclass
class Faults:
    """Switches, which act on requests that come from now on.

    ``on`` says which: parts of the API (``graphql``, ``stream``, ``upload``, ``download``) or names of GraphQL operations
    (``"UpsertBucket"``); without it all of them.
    """

    active: list[Fault] = field(default_factory=list)
    hit: threading.Event = field(default_factory=threading.Event)  # set when a fault has struck
    _released: threading.Event = field(default_factory=threading.Event)

    def fail(
        self,
        status: int,
        on: Sequence[str] = PARTS,
        times: int | None = None,
        retry_after: float | None = None,
        message: str = "",
    ) -> None:
        """Answer with an HTTP status, such as 401, 429 (with ``retry_after`` seconds), 500."""
        self._add(Fault("status", on, times, status, retry_after, message))

    def hang(self, on: Sequence[str] = PARTS, times: int | None = None) -> None:
        """Take requests and never answer; ``heal`` ends the waiting connections."""
        self._released.clear()
        self._add(Fault("hang", on, times))

    def drop(self, on: Sequence[str] = PARTS, times: int | None = None) -> None:
        """Close the connection without an answer; the request has had no effect."""
        self._add(Fault("drop", on, times))

    def lose_answers(self, on: Sequence[str] = PARTS, times: int | None = None) -> None:
        """Do what is asked, then close the connection without an answer."""
        self._add(Fault("lose", on, times))

    def heal(self) -> None:
        """Answer as a sound server again."""
        self.active.clear()
        self._released.set()

    def _add(self, fault: Fault) -> None:
        self.hit.clear()
        self.active.insert(0, fault)

    def striking(self, part: str, operation: str) -> Fault | None:
        """The fault for a request, if any; it counts."""
        for fault in self.active:
            if {part, operation} & set(fault.on) and fault.times != 0:
                if fault.times is not None:
                    fault.times -= 1
                self.hit.set()
                return fault
        return None

    def wait_for_healing(self) -> None:
        """Hang until ``heal``."""
        self._released.wait()
