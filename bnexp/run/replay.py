"""A point of a W&B sweep that is recorded already: W&B gets it from the record, as if it had trained now."""

from __future__ import annotations

import os

from bnexp.interrupt import tidied
from bnexp.plan.spec import RunSpec
from bnexp.terminal import one_line
from bnexp.tracking.records import RecordedRun
from bnexp.tracking.wandb.content import Member
from bnexp.tracking.wandb.session import WandbSession


def in_sweep() -> bool:
    """Whether an agent of a W&B sweep has started this process."""
    return bool(os.environ.get("WANDB_SWEEP_ID"))


def replay_to_sweep(spec: RunSpec, record: RecordedRun) -> list[str]:
    """Send a recorded run to the sweep that asks for it. Without this the sweep would wait for a run that never begins.

    Args:
        spec: the run that is asked for.
        record: its record.

    Returns:
        What the user should know.
    """
    from bnexp.report.publish import pictures_of
    from bnexp.tracking.wandb.publishing import Publisher

    session = WandbSession(spec.config.track.wandb)
    if session.disabled:
        return session.messages
    try:
        with tidied():
            Publisher(session, spec.config.track, pictures_of).one(record, Member.of_spec(spec), alone=True)
    except Exception as error:
        session.messages.append(f"W&B: the recorded run {record.run_id} was not sent to the sweep ({one_line(error)}).")
    session.report()
    return [f"{spec.label} is recorded already and goes to the sweep from its record.", *session.messages]
