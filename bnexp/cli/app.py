"""The entry point of the ``bnexp`` command. If it fails, it ends with one sentence and an exit code, without a traceback.

Nothing of bnexp is imported at module level: Ctrl-C may come while it is imported.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys

STOPPED = "Stopped by the sweep of W&B. The run is not recorded as finished."
SENTENCE = "Interrupted. What was finished is recorded; the same command goes on from there."
LOOKS = 200_000, 50, 50  # how seldom Python looks for garbage; with its usual 700, 10, 10 that takes a tenth of a command
NO_WORKERS = {"--dry-run", "--help", "-h", "--cfg", "--wandb", "agent", "executor=inline", "executor=ray"}


def will_train(words: list[str]) -> bool:
    """Whether a command line is going to train several runs in worker processes, as far as it tells before it is parsed."""
    command, rest = words[:1], set(words[1:])
    if command in (["study"], ["sweep"]):
        several = "--all" in rest or any(not word.startswith("-") for word in rest)  # else they are listed
    else:
        several = command == ["train"] and bool(rest & {"-m", "--multirun"})
    return several and not rest & NO_WORKERS and not any(word.startswith("hydra/launcher=") for word in rest)


def main() -> None:
    """Run the command of ``sys.argv`` and exit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends the process without a traceback, until that is done with a sentence
    from bnexp import interrupt

    bench = sys.argv[1:2] == ["bench"]  # it says itself how far it came, and cannot go on from there
    interrupt.install("Interrupted." if bench else SENTENCE)
    if os.environ.get("WANDB_SWEEP_ID"):
        interrupt.end_cleanly_on_sigterm(STOPPED)
    gc.set_threshold(*LOOKS)
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
