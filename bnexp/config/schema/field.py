"""One key of the configuration: a dataclass field that knows its meaning and range."""

from __future__ import annotations

from dataclasses import MISSING, field
from typing import Any


def key(
    default: Any = MISSING,
    help: str = "",
    *,
    factory: Any = MISSING,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[Any, ...] = (),
    identity: bool = True,
    built_in: bool = False,
    records: tuple[str, ...] = (),
) -> Any:
    """A dataclass field that knows its meaning and range.

    Args:
        default: its value if no file and no override sets it.
        help: its meaning, for messages and ``bnexp config --keys``.
        factory: makes the default of a field that is a list, a mapping or a dataclass.
        low: smallest allowed value; None for no bound, as for the other three.
        high: largest allowed value.
        above: every allowed value is larger.
        below: every allowed value is smaller.
        choices: the allowed values; empty if the type and the bounds decide.
        identity: False for a presentation key. Such a key does not change what is learned, so the run id leaves it out.
        built_in: True for a key that only bnexp's own networks use, so that it has no effect on a network of the user's.
        records: the metrics that a finished run has if this key is on.
    """
    bounds = {"low": low, "high": high, "above": above, "below": below}
    metadata = {"help": help, "choices": choices, "identity": identity, "built_in": built_in, "records": records, **bounds}
    return field(default=default, default_factory=factory, metadata=metadata)
