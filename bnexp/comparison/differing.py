"""What differs between recorded runs, and how that divides them into arms, and into levels at which arms are compared.

By default runs are grouped by every setting that differs between them and decides their outcome; the seed is none of them. Runs
of one study have the arms and levels of that study. For other runs:

- Presentation keys, and keys that have no effect in a run (``norm.eps`` with ``norm.kind=none``), count for nothing.
- Text that differs in every run, like the name of an output folder, is no treatment.
- The fewest columns that still tell all groups apart name them. Settings that change along with these are said in a note.
- A number, or what a norm is put into, is a level if each arm was run at each of its values; else it is a part of the arms.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnexp.comparison.columns import OWN, setting_columns
from bnexp.config.keys import schema_keys
from bnexp.config.schema import ConfigError, RunConfig
from bnexp.plan.spec import identity, plain
from bnexp.plan.study import value_text
from bnexp.tracking.reading import as_type

if TYPE_CHECKING:
    import polars as pl

STUDY_COLUMNS = ("arm", "study.levels")
MOST_SEARCHED = 20  # columns among which the fewest that tell groups apart are searched; beyond, they are added one by one
FOLLOW_THE_SEED = ("train.init_from",)  # the run whose weights a run starts from: one for each seed
Values = Mapping[str, Sequence[Any]]  # column -> the value of each run


@dataclass(frozen=True)
class Grouping:
    """Columns that divide runs.

    Args:
        arms: those whose values make the arms.
        by: those whose values are kept apart: arms are compared at each combination.
        left_out: settings that differ in every run and name no group.
    """

    arms: tuple[str, ...]
    by: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def deciding_settings(runs: pl.DataFrame) -> dict[str, list[Any]]:
    """The settings that differ between runs and decide their outcome: column -> the value of each run.

    A setting that has no effect in a run, or that the run does not have, is None there.
    """
    import polars

    schema = {info.name: info for info in schema_keys()}
    names = [
        name
        for name in setting_columns(runs)
        if not name.startswith("study.")
        and runs.schema[name] != polars.Object
        and (name not in schema or schema[name].metadata["identity"])
    ]
    differ = {name: _as_treatment(name, values) for name in names if len(set(values := runs[name].to_list())) > 1}
    ours = [name for name in differ if name in schema]
    if not ours:
        return differ
    known = [name for name in schema if name in runs.columns and not name.startswith("study.")]
    own = runs["source"].to_list() if "source" in runs.columns else [OWN] * len(runs)
    effects: dict[tuple[Any, ...], Mapping[str, Any] | None] = {}
    for number, row in enumerate(runs.select(known).iter_rows()):
        if own[number] != OWN:
            continue
        key = tuple(differ[name][number] for name in ours)
        if key not in effects:
            effects[key] = _effective(dict(zip(known, row, strict=True)))
        effect = effects[key]
        for name in ours if effect is not None else ():
            differ[name][number] = _as_treatment(name, [effect.get(name)])[0]  # type: ignore[union-attr]
    return {name: values for name, values in differ.items() if len(set(values)) > 1}


def _as_treatment(name: str, values: list[Any]) -> list[Any]:
    """The values of a setting; of one that follows the seed only whether there is any: each run has another one."""
    return [None if value is None else "recorded" for value in values] if name in FOLLOW_THE_SEED else values


def _effective(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The settings of a run that have an effect; None if bnexp cannot read them, as those of another version."""
    nested: dict[str, Any] = {}
    for name, value in row.items():
        if value is None:  # not recorded, or null, which is the default of every key that may be null
            continue
        *parts, last = name.split(".")
        place = nested
        for part in parts:
            place = place.setdefault(part, {})
        place[last] = json.loads(value) if isinstance(value, str) and value[:1] in ("[", "{") else value
    try:
        found = identity(as_type(RunConfig, nested, Path("config")))
    except (ConfigError, ValueError):
        return None
    return {name: json.dumps(value) if isinstance(value, list | dict) else value for name, value in plain(found).items()}


def usual_grouping(runs: pl.DataFrame, settings: Values) -> Grouping:
    """How runs are grouped if nobody says it.

    Args:
        runs: rows of ``load_runs``.
        settings: ``deciding_settings`` of them.

    Returns:
        The grouping; without arms if nothing differs.
    """
    if _are_of_one_study(runs, settings):
        return Grouping(("arm",), ("study.levels",) if runs["study.levels"].n_unique() > 1 else ())
    unlike = {name: values for name, values in settings.items() if not _names_each_run(values)}
    left_out = tuple(name for name in settings if name not in unlike)
    if not unlike:
        return Grouping((), (), left_out)
    chosen = _with_kinds(_fewest(unlike), settings)
    arms = _treatments(chosen, settings)
    by = _crossed([name for name in chosen if name not in arms], arms, settings)
    return Grouping(tuple(name for name in chosen if name not in by), tuple(by), left_out)


def _are_of_one_study(runs: pl.DataFrame, settings: Values) -> bool:
    """Whether all runs were planned by one study whose arms and levels tell them apart."""
    if not {"study", *STUDY_COLUMNS} <= set(runs.columns) or runs["study"].n_unique() > 1 or runs["study"][0] == "train":
        return False
    if "source" in runs.columns and bool((runs["source"] != OWN).any()):
        return False
    cells = list(zip(*(runs[name].to_list() for name in STUDY_COLUMNS), strict=True))
    seen: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    alike = all(
        seen.setdefault(cell, own) == own
        for cell, own in zip(cells, _combinations(list(settings), settings, len(cells)), strict=True)
    )
    return alike and len({arm for arm, _ in cells}) > 1


def _names_each_run(values: Sequence[Any]) -> bool:
    return len(values) > 2 and len(set(values)) == len(values) and any(isinstance(value, str) for value in values)


def _combinations(names: Sequence[str], values: Values, count: int) -> list[tuple[Any, ...]]:
    """The values of each run in some columns."""
    return list(zip(*(values[name] for name in names), strict=True)) if names else [()] * count


def _fewest(values: Values) -> list[str]:
    """The fewest columns that tell all groups apart, none of which has nothing but nulls there; earlier ones are preferred."""
    order = sorted(values, key=_rank)
    groups = set(_combinations(order, values, 0))
    places = {name: place for place, name in enumerate(order)}

    def tell_apart(names: Sequence[str]) -> bool:
        found = {tuple(group[places[name]] for name in names) for group in groups}
        return len(found) == len(groups) and all(any(value is not None for value in names_of) for names_of in found)

    if len(order) <= MOST_SEARCHED:
        for count in (1, 2, 3):
            for names in itertools.combinations(order, count):
                if tell_apart(names):
                    return list(names)
    chosen: list[str] = []
    while len(chosen) < len(order) and not tell_apart(chosen):
        rest = [name for name in order if name not in chosen]
        chosen.append(max(rest, key=lambda name: len(set(_combinations([*chosen, name], values, 0)))))
    return sorted(chosen, key=_rank)


def _with_kinds(chosen: Sequence[str], values: Values) -> list[str]:
    """The columns, and for one that has no effect in some runs the kind of layer or optimiser which says why."""
    lacking = {name.rpartition(".")[0] for name in chosen if any(value is None for value in values[name])}
    kinds = [f"{section}.{tail}" for section in lacking for tail in ("kind", "name")]
    return sorted({*chosen, *(name for name in kinds if name in values)}, key=_rank)


def _rank(name: str) -> tuple[int, int]:
    """Norms come first, then networks, then the other settings as the schema lists them, then settings of other programs."""
    names = [info.name for info in schema_keys()]
    group = 0 if is_norm(name) else 1 if name.startswith("model.") else 2
    return group, names.index(name) if name in names else len(names)


def is_norm(name: str) -> bool:
    """Whether a setting is about norm layers, which this tool compares."""
    return name.split(".")[0].lower().startswith(("norm", "batch_norm", "batchnorm", "use_bn", "use_norm"))


def _treatments(chosen: Sequence[str], values: Values) -> list[str]:
    """Of the chosen columns, those that arms are made of at least: norms; else what is no number; else all."""
    named = [name for name in chosen if not _are_numbers(values[name])]
    norms = [name for name in named if is_norm(name)]
    others = [name for name in named if not name.startswith("data.")]
    return norms or others or named or list(chosen)


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values if value is not None)


def _crossed(names: Sequence[str], arms: Sequence[str], values: Values) -> list[str]:
    """Of the columns besides those of the arms, those with every combination of their values in every arm.

    Tried are all of them, all but one, and each alone: among many columns there would be too many sets to try.
    """
    without_one = [[name for name in names if name != other] for other in names]
    for kept in (list(names), *without_one, *([name] for name in names)):
        named = [*arms, *(name for name in names if name not in kept)]
        cells = set(zip(_combinations(named, values, 0), _combinations(kept, values, 0), strict=True)) if kept else set()
        if cells and len(cells) == len({arm for arm, _ in cells}) * len({level for _, level in cells}):
            return list(kept)
    return []


def short_names(columns: Sequence[str]) -> dict[str, str]:
    """Column -> what it is called in the name of an arm: ``norm`` for ``norm.kind``, ``lr`` for ``optim.lr``."""
    tails = {}
    for column in columns:
        *parents, tail = column.split(".")
        tails[column] = parents[-1] if parents and tail in ("kind", "name") else tail
    clash = [tail for tail in tails.values() if list(tails.values()).count(tail) > 1]
    return {column: column if tail in clash else tail for column, tail in tails.items()}


def arm_name(names: Mapping[str, str], values: Sequence[Any]) -> str:
    """``norm=batch lr=0.1``; of a single column the value alone if it is text. What has no effect is left out.

    Args:
        names: column -> its short name.
        values: the value of each column.
    """
    if len(names) == 1 and isinstance(values[0], str):
        return values[0]
    pairs = list(zip(names.values(), values, strict=True))
    shown = [pair for pair in pairs if pair[1] is not None] or pairs
    return " ".join(f"{name}={value_text(value)}" for name, value in shown)


def arm_order(columns: Sequence[str], values: Sequence[Any]) -> tuple[Any, ...]:
    """Sorts arms: choices as the schema lists them, numbers by size, text by the alphabet."""
    schema = {info.name: info for info in schema_keys()}
    found: list[tuple[int, float, str]] = []
    for column, value in zip(columns, values, strict=True):
        choices = schema[column].choices if column in schema else []
        if isinstance(value, int | float):
            found.append((1, float(value), ""))
        elif value in choices:
            found.append((1, float(choices.index(value)), ""))
        else:
            found.append((0 if value is None else 2, 0.0, "" if value is None else str(value)))
    return tuple(found)
