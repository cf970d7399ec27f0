"""Filters and orders of runs, in the language of W&B's public API."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.tracking.standin.graphql import QueryError
from tests.tracking.standin.runs import Run

_COLUMNS: dict[str, Callable[[Run], Any]] = {
    "name": lambda run: run.name,
    "displayName": lambda run: run.display_name or run.name,
    "display_name": lambda run: run.display_name or run.name,
    "state": lambda run: run.state,
    "group": lambda run: run.group,
    "jobType": lambda run: run.job_type,
    "job_type": lambda run: run.job_type,
    "tags": lambda run: run.tags,
    "sweep": lambda run: run.sweep,
    "createdAt": lambda run: run.created_at,
    "created_at": lambda run: run.created_at,
    "heartbeat_at": lambda run: run.heartbeat_at,
}
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda value, wanted: value == wanted,
    "$ne": lambda value, wanted: value != wanted,
    "$gt": lambda value, wanted: value is not None and value > wanted,
    "$gte": lambda value, wanted: value is not None and value >= wanted,
    "$lt": lambda value, wanted: value is not None and value < wanted,
    "$lte": lambda value, wanted: value is not None and value <= wanted,
    "$in": lambda value, wanted: any(item in wanted for item in value) if isinstance(value, list) else value in wanted,
    "$nin": lambda value, wanted: value not in wanted,
    "$regex": lambda value, wanted: isinstance(value, str) and re.search(wanted, value) is not None,
    "$exists": lambda value, wanted: (value is not None) == wanted,
}


def column(run: Run, path: str) -> Any:
    """The value of a column by its path in filters and orders: ``group``, ``config.optim.lr``, ``summary_metrics.loss``."""
    section, _, rest = path.partition(".")
    if section == "summary_metrics":
        return below(run.summary, rest)
    if section == "config":
        return below(run.config, re.sub(r"\.value(\.|$)", r"\1", rest))
    if path not in _COLUMNS:
        raise QueryError(f"runs have no column {path}")
    return _COLUMNS[path](run)


def below(values: Any, path: str) -> Any:
    """The value at a path of names joined by dots; names may contain dots themselves."""
    if not path:
        return values
    if not isinstance(values, dict):
        return None
    if path in values:
        return values[path]
    name, _, rest = path.partition(".")
    return below(values.get(name), rest) if rest else None


def matches(run: Run, filters: Mapping[str, Any]) -> bool:
    """Whether a run passes a filter in MongoDB's language, as far as W&B documents it."""
    for path, wanted in filters.items():
        if path == "$and":
            passed = all(matches(run, part) for part in wanted)
        elif path == "$or":
            passed = any(matches(run, part) for part in wanted)
        elif path.startswith("$"):
            raise QueryError(f"filters have no {path}")
        else:
            value = column(run, path)
            if isinstance(wanted, dict):
                passed = all(_COMPARISONS[name](value, limit) for name, limit in wanted.items())
            else:
                passed = wanted in value if isinstance(value, list) else value == wanted
        if not passed:
            return False
    return True


def ordered(runs: Sequence[Run], order: str | None) -> list[Run]:
    """The runs in an order like ``+created_at`` or ``-summary_metrics.loss``; runs without a value come last."""
    path = (order or "+created_at").lstrip("+-")
    valued = [(column(run, path), run) for run in runs]
    known = sorted(
        [pair for pair in valued if pair[0] is not None], key=lambda pair: pair[0], reverse=(order or "").startswith("-")
    )
    return [run for _, run in known] + [run for value, run in valued if value is None]
