"""W&B's agent in a process of its own, with plain lines for its log: ``python -m bnexp.run.sweep.agent SWEEP [COUNT]``."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from typing import Any

from bnexp.interrupt import INTERRUPTED
from bnexp.terminal import one_line

LOOK_SECONDS = 1.0  # between two looks at whether the command that started the agent is still there
STARTING = "Agent starting run with config:"


class _Plain(logging.Filter):
    """Prints the point that begins, and lets warnings through; the rest of the agent's log says nothing new."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if text.startswith(STARTING):
            values = (line.strip().replace(": ", "=", 1) for line in text.removeprefix(STARTING).splitlines())
            sys.stderr.write(f"next point: {' '.join(value for value in values if value)}\n")
        return record.levelno >= logging.WARNING


def _report(event: threading.ExceptHookArgs) -> None:
    """Report an error of a thread, unless it is wandb's own farewell to a service that has ended already."""
    if getattr(event.exc_type, "__name__", "") != "AlreadyJoinedError":
        threading.__excepthook__(event)


def _end_with(parent: int) -> None:
    """End this process and its run once the process that started it is gone: nobody would know of them."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGINT)


def main(sweep_id: str, count: str = "") -> None:
    """Work on a sweep.

    Args:
        sweep_id: as W&B names it.
        count: largest number of points; empty: until the sweep ends.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in what a script starts in the background
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    import wandb

    logging.getLogger("wandb.wandb_agent").addFilter(_Plain())
    threading.excepthook = _report
    given: dict[str, Any] = {"count": int(count)} if count else {}
    try:
        wandb.agent(sweep_id, forward_signals=True, **given)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:  # such as a sweep that the server does not know
        sys.exit(f"Error: W&B's agent cannot work on {sweep_id}: {one_line(error)}.")


if __name__ == "__main__":
    main(*sys.argv[1:])
