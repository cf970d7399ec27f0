"""Recorded runs from whose weights other runs start: finding them, checking them, reading their weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from bnexp.config.schema import ConfigError
from bnexp.plan.spec import RunSpec, flatten
from bnexp.tracking.records import RecordedRun
from bnexp.tracking.store import Store

if TYPE_CHECKING:
    from bnexp.plan.spec import Weights

T = TypeVar("T")

KEY = "train.init_from"
SAME = ("norm.kind", "norm.placement")  # a network with other norms is another function of the same weights


def resolve_starts(overrides: Sequence[str], store: Store) -> list[str]:
    """The overrides with whole run ids in ``train.init_from``; the user may give only the beginnings.

    Args:
        overrides: as the user gave them.
        store: where the runs are looked for.

    Raises:
        ConfigError: an id does not name exactly one run, or that run cannot be started from.
    """
    resolved = []
    for item in overrides:
        key, _, value = item.partition("=")
        if key == KEY and value and value != "null":
            ids = [_whole_id(part.strip(" '\""), store) for part in value.split(",")]
            item = f"{KEY}=" + ",".join(f"'{run_id}'" for run_id in ids)  # quoted: a hash may read as a number
        resolved.append(item)
    return resolved


def _whole_id(beginning: str, store: Store) -> str:
    found = sorted({run.run_id for run in store.folders() if run.run_id.startswith(beginning)})
    if len(found) > 1:
        raise ConfigError(f"{KEY}={beginning} could be {' or '.join(found[:3])}; give more of the run's id.")
    return starting_run(found[0] if found else beginning, store).run_id


def starting_run(run_id: str, store: Store) -> RecordedRun:
    """The finished run of this id.

    Raises:
        ConfigError: there is no such run, it has not finished, or it has diverged.
    """
    run = store.records([run_id]).get(run_id)
    if run is None:
        raise ConfigError(f"{KEY}={run_id} is not recorded in {store.root}; see the ids of all runs: bnexp runs.")
    if not run.finished:
        why = f"failed ({run.failure})" if run.failure else "has not finished"
        why = f"has a damaged record ({run.damage})" if run.damage else why
        raise ConfigError(f"{KEY}={run_id} names a run that {why}; train it first, or start from another.")
    if run.summary.source is not None:
        raise ConfigError(f"{KEY}={run_id} names an imported run, which has no weights; start from one that bnexp trained.")
    if run.summary.status != "finished":
        raise ConfigError(f"{KEY}={run_id} names a run that {run.summary.status}; start from another.")
    return run


def initial_weights(spec: RunSpec, store: Store) -> Weights | None:
    """The weights that a run starts from.

    Args:
        spec: the run; ``train.init_from`` names the run that its weights come from.
        store: where that run is recorded.

    Returns:
        Name -> array; None if the weights are newly drawn.

    Raises:
        ConfigError: that run cannot be started from, or has other norms.
    """
    run_id = spec.config.train.init_from
    if run_id is None:
        return None
    run = starting_run(run_id, store)
    for key in SAME if spec.config.norm.kind != "none" else SAME[:1]:
        theirs, ours = _whole(run, lambda: run.settings).get(key), flatten(spec.config)[key]
        if theirs != ours:
            raise ConfigError(
                f"{KEY}={run_id} was trained with {key}={theirs}, not {ours}; set {key}={theirs}, or start from another."
            )
    return _whole(run, run.weights)


def _whole(run: RecordedRun, read: Callable[[], T]) -> T:
    """What ``read`` reads of the run. Raises ConfigError if the file is not there."""
    try:
        return read()
    except FileNotFoundError as error:
        raise ConfigError(f"{KEY}={run.run_id} names a run without {error}; train it again, or start from another.") from error
