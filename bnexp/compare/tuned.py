"""What a reader must know of values that were tuned: which, among which, and whether the best may lie beyond them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bnexp.compare.pairing import place, seed_text
from bnexp.compare.select import level_text
from bnexp.config import TuneConfig
from bnexp.study import Choice


def choice_entry(choice: Choice) -> dict[str, Any]:
    """A choice as it is recorded: ``arm levels setting value accuracies at_edge``, accuracies as pairs of value and mean."""
    return {**vars(choice), "accuracies": [list(pair) for pair in choice.accuracies.items()]}


def tuned_setting(entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The tuned key among the settings of a study: each cell's value, or how many values there are where those are many."""
    if not entries:
        return {}
    values = [f"{_cell(entry)} {entry['value']:g}" for entry in entries]
    spread = f"{min(entry['value'] for entry in entries):g} to {max(entry['value'] for entry in entries):g}"
    return {entries[0]["setting"]: f"tuned ({', '.join(values) if len(values) <= 4 else spread})"}


def tuning_rows(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row a cell: ``arm``, ``level``, the value chosen, its mean validation accuracy, whether it lies at the edge."""
    return [
        {
            "arm": entry["arm"],
            "level": level_text(entry["levels"]),
            entry["setting"]: f"{entry['value']:g}",
            "mean val/accuracy": f"{_accuracy(entry):.4f}",
            "edge": "yes" if entry["at_edge"] else "no",
        }
        for entry in entries
    ]


def tuning_notes(entries: Sequence[Mapping[str, Any]], tune: TuneConfig) -> list[str]:
    """A sentence on what was chosen for each cell, and one on each best value at the edge of what was tried."""
    if not entries:
        return []
    tried = [value for value, _ in entries[0]["accuracies"]]
    chosen = ", ".join(f"{_cell(entry)} {entry['value']:g} ({100 * _accuracy(entry):.2f} %)" for entry in entries)
    found = [
        f"{tune.setting} was chosen for each by the mean validation accuracy of {seed_text(tune.seeds)}, the same "
        f"{len(tried)} values from {min(tried):g} to {max(tried):g} tried for all: {chosen}."
    ]
    return found + [
        f"{_cell(entry)}: the best {tune.setting}, {entry['value']:g}, lies at the edge of what was tried; a better one may "
        "lie beyond. Raise study.tune.extensions."
        for entry in entries
        if entry["at_edge"]
    ]


def _cell(entry: Mapping[str, Any]) -> str:
    return place(entry["arm"], level_text(entry["levels"]))


def _accuracy(entry: Mapping[str, Any]) -> float:
    return next(float(mean) for value, mean in entry["accuracies"] if value == entry["value"])
