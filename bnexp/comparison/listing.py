"""Tables of runs for people: what differs between them, their results, and groups of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import polars as pl

from bnexp.comparison.columns import metric_columns, unit_of
from bnexp.comparison.loading import CUT_SHORT
from bnexp.comparison.selection import finishing_time
from bnexp.comparison.text import age_text, elapsed_text, level_unit, number
from bnexp.comparison.varying import (
    deciding_settings,
    differing,
    differing_settings,
    pick_metric,
    setting_text,
    shared_settings,
    values_text,
    with_effect,
)

HEADERS = {"seconds": "time", "finished_at": "age"}  # of columns that a table shows in other words
GAP = 2  # characters between two columns
MOST_NAMED = 12  # settings in a note


@dataclass(frozen=True)
class Listing:
    """A table of runs.

    Args:
        rows: column as shown -> text, one row per run or group.
        right: the columns that are aligned right.
        notes: sentences on what the table leaves out.
        caption: what a reader of a paper has to know of the numbers; empty if they speak for themselves.
    """

    rows: list[dict[str, str]]
    right: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    caption: str = ""


def list_runs(runs: pl.DataFrame, *, metric: str | None = None, width: int | None = None, dated: bool = False) -> Listing:
    """What tells runs apart, and what came of them.

    Args:
        runs: rows of ``select_runs``, at least one.
        metric: the result that is shown; None: test accuracy if there is one.
        width: characters that a line may have; None: any number.
        dated: show when runs finished, instead of how long ago.

    Raises:
        ConfigError: the metric is not one of these runs.
    """
    result = pick_metric(runs, metric)
    varied = differing_settings(runs)
    runs = with_effect(runs)
    deciding = _telling_apart(runs, varied)
    others = [name for name in varied if name not in deciding]
    named = differing(runs, ["study", "arm", "seed", *(["status"] if runs["status"].is_in(list(CUT_SHORT)).any() else [])])
    timed = [name for name in ("finished_at", "seconds") if len(runs) == 1 or name in differing(runs, [name])]
    results = [result] if result and (metric or runs[result].count()) else []
    order = ["run", *(name for name in ("study", "arm") if name in named), *varied, *(["seed"] if "seed" in named else [])]
    order += [*results, *(["status"] if "status" in named else []), *reversed(timed)]
    wanted = ["run", *results, *reversed(named), *deciding, *timed, *others]
    cells = {name: _cells(runs, name, result, dated) for name in order}
    headers = {name: header(runs, name) for name in order}
    headers |= {name: text for name, text in HEADERS.items() if name in order and not (dated and name == "finished_at")}
    wanted = _without_repeats(wanted, cells, results)
    shown = _fitting(wanted, {name: max(map(len, [headers[name], *cells[name]])) for name in order}, width)
    columns = [name for name in order if name in shown]
    rows = [{headers[name]: cells[name][row] for name in columns} for row in range(len(runs))]
    left_out = [name for name in wanted if name in varied and name not in shown]
    right = [headers[name] for name in columns if _is_right(runs, name)]
    return Listing(rows, right, _notes(runs, left_out))


def _notes(runs: pl.DataFrame, left_out: Sequence[str]) -> list[str]:
    """How many runs there are, what they have in common, and in what they differ besides."""
    lost = int((runs["status"] == "diverged").sum())
    count = "1 run" if len(runs) == 1 else f"{len(runs):,} runs"
    shared = [f"{name}={value}" for name, value in shared_settings(runs).items()]
    notes = [
        count + (f", {lost} of them diverged" if lost else "") + (f"; all with {' '.join(shared)}" if shared else "") + "."
    ]
    notes += [f"bnexp show RUN says {CUT_SHORT[status]}." for status in runs["status"].unique() if status in CUT_SHORT]
    if left_out:
        more = f" and {len(left_out) - MOST_NAMED} more" if len(left_out) > MOST_NAMED else ""
        notes.append(f"They also differ in {', '.join(left_out[:MOST_NAMED])}{more}: --columns shows any of them.")
    return notes


def list_columns(runs: pl.DataFrame, columns: Sequence[str]) -> Listing:
    """These columns of runs, whatever their width."""
    cells = {header(runs, name): _cells(runs, name, None, True) for name in columns}
    rows = [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
    return Listing(rows, [header(runs, name) for name in columns if _is_right(runs, name)])


def list_values(runs: pl.DataFrame, columns: Collection[str]) -> list[dict[str, str]]:
    """In what runs differ: one row for each of these columns, those first that most comparisons are about.

    Args:
        runs: rows of ``select_runs``.
        columns: their names.
    """
    names = dict.fromkeys([*(name for name in deciding_settings(runs) if name in columns), *columns])
    return [{"setting": name, "values": str(runs[name].n_unique()), "which": values_text(runs[name])} for name in names]


def header(runs: pl.DataFrame, name: str) -> str:
    """What a table calls a column: its name, with the unit if values are shown in another one than they are recorded in."""
    unit = shown_unit(runs, name) if name in metric_columns(runs) else ""
    return f"{name} ({unit})" if unit in ("%", "pp") else name


def shown_unit(runs: pl.DataFrame, metric: str) -> str:
    """The unit in which tables show a metric."""
    return level_unit(metric, unit_of(runs, metric))


def shown_value(value: float | None, unit: str) -> str:
    """A recorded value of a metric in the unit in which tables show it; an en dash for none."""
    return "–" if value is None else number(100 * value if unit in ("%", "pp") else value, unit)


def _is_right(runs: pl.DataFrame, name: str) -> bool:
    """Whether a column is aligned right: numbers and times are."""
    return runs[name].dtype.is_numeric() or name in HEADERS


def _without_repeats(names: Sequence[str], cells: dict[str, list[str]], results: Sequence[str]) -> list[str]:
    """The columns without those that say the same as another in every row, or one thing in all rows; results always stay.

    Of an arm and a setting with the same values the setting stays, because its name says more.
    """
    seen = {tuple(cells[name]) for name in names if "." in name}

    def tells(name: str) -> bool:
        different = set(cells[name])
        if len(cells["run"]) == 1:
            return different != {""}
        return len(different) > 1 and (name != "arm" or tuple(cells[name]) not in seen)

    return [name for name in names if name in ("run", *results) or tells(name)]


def _telling_apart(runs: pl.DataFrame, varied: Sequence[str]) -> list[str]:
    """The settings in which runs differ that have study, arm and seed in common. Without them two rows would look alike."""
    if not varied:
        return []
    counts = runs.group_by("study", "arm", "seed").agg(pl.col(list(varied)).n_unique())
    return [name for name in varied if (counts[name] > 1).any()]


def _fitting(wanted: Sequence[str], widths: dict[str, int], width: int | None) -> set[str]:
    """The columns that fit into a line, the first ones before the others."""
    shown: dict[str, int] = {}
    for name in wanted:
        taken = sum(shown.values()) + GAP * len(shown)
        if width is None or not shown or taken + widths[name] <= width:
            shown[name] = widths[name]
    return set(shown)


def _cells(runs: pl.DataFrame, name: str, result: str | None, dated: bool) -> list[str]:
    """The texts of a column. In the one of the result, a run that diverged says so."""
    show: Callable[[Any], str] = setting_text
    if name in metric_columns(runs):
        show = partial(shown_value, unit=shown_unit(runs, name))
    elif name == "seconds":
        show = partial(elapsed_text, longest=max(runs[name].drop_nulls(), default=0.0))
    elif name == "finished_at" and not dated:
        show = partial(_age, now=time.time())
    cells = ["" if value is None else show(value) for value in runs[name]]
    if name == result:
        return ["diverged" if status == "diverged" else cell for cell, status in zip(cells, runs["status"], strict=True)]
    return cells


def _age(text: str, now: float) -> str:
    return age_text(now - finishing_time(text))
