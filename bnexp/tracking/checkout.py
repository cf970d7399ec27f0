"""Which commit the working directory is on, so that each run records it."""

from __future__ import annotations

import subprocess
from functools import cache

SECONDS = 5.0  # that git may take; the first look at a large checkout is slow


@cache
def checkout() -> dict[str, str]:
    """``git_commit``, and ``git_dirty`` (``yes`` or ``no``): whether tracked files differ from it.

    Returns:
        Both; empty if the working directory is no git checkout, or git is missing or too slow. It is asked once per process.
    """
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no") if commit else None
    if not commit or changes is None:
        return {}
    return {"git_commit": commit, "git_dirty": "yes" if changes else "no"}


def _git(*arguments: str) -> str | None:
    """What git prints; None if it fails."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
