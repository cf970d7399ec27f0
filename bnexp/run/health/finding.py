"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a thing stands.

    ``ok``: as it should be. ``option``: not there, and nobody misses it who does not want it. ``gap``: something does not work
    without it. ``blocks``: no training is possible.
    """

    ok = "ok"
    option = "option"
    gap = "gap"
    blocks = "blocks"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        section: which part of the page it belongs to.
        name: what it is, unique in its section.
        found: how it is, in words that name no path, user or host.
        state: how that stands.
        place: its path; left out of what is sent to others.
        fix: one line that can be pasted into a shell; empty if there is nothing to do.
    """

    section: str
    name: str
    found: str
    state: State = State.ok
    place: str = ""
    fix: str = ""
