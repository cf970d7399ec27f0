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
OBJECTS = 100_000  # that are made before Python looks for garbage; with its usual 700 that takes a tenth of a command
NEITHER = {"--dry-run", "--help", "-h", "--wandb", "agent"}  # words of commands that train nothing in this process's workers


def will_train(words: list[str]) -> bool:
    """Whether a command line is going to train several runs, as far as it can be told before it is parsed."""
    several = words[:1] in (["study"], ["sweep"]) and len(words) > 1
    return several and not NEITHER.intersection(words)


def main() -> None:
    """Run the command of ``sys.argv`` and exit."""
    bench = sys.argv[1:2] == ["bench"]  # it says itself how far it came, and cannot go on from there
    interrupt.install("Interrupted." if bench else SENTENCE)
    if os.environ.get("WANDB_SWEEP_ID"):
        interrupt.end_cleanly_on_sigterm(STOPPED)
    gc.set_threshold(OBJECTS)
    if will_train(sys.argv[1:]):
        from bnexp.run.pool_server import prepare_workers

        prepare_workers()  # torch loads in another process, while this one imports the rest and plans
    from bnexp.cli.commands import run

    atexit.register(gc.freeze)  # else Python checks every remaining object once more, which takes a quarter of a second
    code = run()
    if code == interrupt.INTERRUPTED:
        interrupt.leave("" if bench else SENTENCE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the work is done, and Ctrl-C now would only change the exit code
    sys.exit(code)
