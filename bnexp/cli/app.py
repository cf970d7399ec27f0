"""The entry point of the ``bnexp`` command. If it fails, it ends with one sentence and an exit code, without a traceback.

Only the handling of Ctrl-C is imported at module level: Ctrl-C may come while the rest is imported.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys

from bnexp import interrupt

STOPPED = "Stopped by the sweep of W&B. The run is not recorded as finished."
SENTENCE = "Interrupted. What was finished is recorded; the same command goes on from there."


def main() -> None:
    """Run the command of ``sys.argv`` and exit."""
    bench = sys.argv[1:2] == ["bench"]  # it says itself how far it came, and cannot go on from there
    interrupt.install("Interrupted." if bench else SENTENCE)
    if os.environ.get("WANDB_SWEEP_ID"):
        interrupt.end_cleanly_on_sigterm(STOPPED)
    from bnexp.cli.commands import run

    atexit.register(gc.freeze)  # else Python checks every remaining object once more, which takes a quarter of a second
    code = run()
    if code == interrupt.INTERRUPTED:
        interrupt.leave("" if bench else SENTENCE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the work is done, and Ctrl-C now would only change the exit code
    sys.exit(code)
