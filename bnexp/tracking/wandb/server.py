"""The W&B server: which run ids it takes, and what it means when it does not answer."""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bnexp.terminal import one_line
from bnexp.tracking.wandb.service import has_ended

if TYPE_CHECKING:
    import wandb

SECONDS = 20  # for the answer to a question
INCOMPLETE = "incomplete"  # tag of a run of which the server lacks something

# What an error of wandb or wandb-core says, and what it means; the first that is found counts.
_MEANINGS = (
    (r"no space left", "the disk is full"),
    (r"(?:read-only file system|permission denied): '([^']+)'", r"\1 cannot be written: WANDB_DIR=FOLDER names another place"),
    (r"unable to write staging files to (\S+)\.", r"\1 cannot be written: WANDB_DIR=FOLDER names another place"),
    (r"\b401\b|unauthorized", "the server refuses the API key: log in with `wandb login --relogin`"),
    (r"\b429\b", "the server has had too many requests (HTTP 429)"),
    (r"connection refused", "the server cannot be reached: connection refused"),
    (r"no such host", "the server cannot be reached: no host of this name"),
    (r"HTTP(?: status)? (5\d\d)", r"the server fails (HTTP \1)"),
    (r"deadline exceeded|did not respond in time|timed out", "the server did not answer in time"),
)


def meaning(error: BaseException) -> str:
    """What an error of wandb means to the user, in one clause without a full stop."""
    if has_ended(error):
        return "wandb-core, a process of W&B, has ended"
    text = one_line(error)
    status = getattr(getattr(error, "response", None), "http_status", "")
    for pattern, said in _MEANINGS:
        if found := re.search(pattern, f"{text} HTTP {status}", re.IGNORECASE):
            return found.expand(said)
    return text


def runs_of_group(api: wandb.Api, path: str, group: str) -> list[Any]:
    """The runs of a group, as W&B's public API gives them; none if there is no such project yet.

    Args:
        api: W&B's public API.
        path: entity and project.
        group: the group.
    """
    return runs_that(api, path, {"group": group})


def runs_that(api: wandb.Api, path: str, fit: dict[str, Any]) -> list[Any]:
    """The runs that pass a filter, as W&B's public API gives them; none if there is no such project yet.

    Args:
        api: W&B's public API.
        path: entity and project.
        fit: the filter, in MongoDB's language as W&B knows it.
    """
    import wandb

    try:
        return list(api.runs(path, filters=fit, per_page=500))
    except (ValueError, wandb.errors.CommError) as error:
        if "ould not find" in str(error):
            return []
        raise


def claim(api: wandb.Api, wanted: str, project: str, entity: str | None) -> str:
    """An id under which the server takes a run; that run is there afterwards.

    A run that is there already goes on: a run's id stands for the experiment, so a second copy would count it twice. wandb
    itself tries an id of a deleted run for minutes; the questions cost a few milliseconds.

    Args:
        api: W&B's public API.
        wanted: the id that the run should have.
        project: W&B's project.
        entity: user or team; None for the user's own.

    Returns:
        ``wanted``, or with a suffix if a deleted run had this id.
    """
    try:
        api.create_run(run_id=wanted, project=project, entity=entity)
    except Exception as error:
        if "previously created and deleted" not in str(error):
            raise
        return other_id(wanted)
    return wanted


def other_id(wanted: str) -> str:
    """The id with a suffix that no other run has."""
    return f"{wanted}-{secrets.token_hex(2)}"


def mark_incomplete(api: wandb.Api, path: str) -> None:
    """Give a run the tag ``incomplete``, if the server can be reached, so that its page says it and ``bnexp publish`` sends it
    again.

    Args:
        api: W&B's public API.
        path: entity, project and id of the run.
    """
    with suppress(Exception):
        run: Any = api.run(path)
        run.tags = [*run.tags, INCOMPLETE]
        run.update()
