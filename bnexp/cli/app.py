"""The entry point of the ``bnexp`` command: however it ends, it ends in one sentence and an exit code, without a traceback.

Everything but the handling of Ctrl-C is imported later, because Ctrl-C may come while it is.
"""

from __future__ import annotations

import atexit
import gc
import signal
import sys

from bnexp import interrupt

SENTENCE = "Interrupted. What was finished is recorded; the same command goes on from there."


def main() -> None:
    """Run the command of ``sys.argv`` and exit."""
    bench = sys.argv[1:2] == ["bench"]  # it says itself how far it came, and does not go on from there
    interrupt.install("Interrupted." if bench else SENTENCE)
    from bnexp.cli.commands import run

    atexit.register(gc.freeze)  # else Python looks at every object that is left once more, for a quarter of a second
    code = run()
    if code == interrupt.INTERRUPTED:
        interrupt.leave("" if bench else SENTENCE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done; Python would end with another exit code
    sys.exit(code)
