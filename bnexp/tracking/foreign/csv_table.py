"""Runs in a CSV file: one row for each run, or one row for each epoch of each run.

Rules tell what a column is. ``--metrics``, ``--seed`` and ``--run`` of ``bnexp import`` override them:

- the seed: a column called like one of ``run.SEED_NAMES``;
- the run: the first column called like one of ``RUN_NAMES``;
- metrics: columns of numbers with a word of ``METRIC_WORDS`` in their name, and none of ``OTHER_WORDS``;
- epoch, step, arm, state, time: columns called like one of ``EPOCH_NAMES``, ``STEP_NAMES``, ``GROUP_NAMES`` and so on;
- everything else is a setting.

A column called ``metrics.NAME``, as MLflow's tables have it, is a metric in any case. Of DVC's tables only the experiments are
runs, not the workspace and the commits that they started from.

In a file with an epoch or a step, the rows of one run are its epochs; the last value of each metric is the run's. They are
found by the run column. If there is none, or several runs have the same in it, they are the rows that agree in the seed and in
all settings. A number that changes from epoch to epoch, such as a learning rate, is a metric then. A file with a single run, as
Keras' ``CSVLogger`` writes it, gives the run its name. Lightning's ``CSVLogger`` keeps the settings beside it, in ``HPARAMS``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bnexp.config.keys import did_you_mean
from bnexp.config.schema import ConfigError
from bnexp.terminal import visible_line
from bnexp.tracking.foreign.csv_cells import NOTHING, read_table
from bnexp.tracking.foreign.run import LONGEST_NAME, ForeignRun, as_number, seed_keys
from bnexp.tracking.reading import DamagedRecord, read_yaml
from bnexp.tracking.records import MOST_TEXT

if TYPE_CHECKING:
    import polars as pl

Row = dict[str, Any]

HPARAMS = "hparams.yaml"
RUN_NAMES = ("run", "run_id", "run_name", "name", "id", "trial", "experiment")
GROUP_NAMES = ("arm", "group")
STATE_NAMES = ("state", "status")
EPOCH_NAMES = ("epoch",)
STEP_NAMES = ("step", "global_step", "iteration", "iter")
TIME_NAMES = ("seconds", "runtime", "duration", "time")
DATE_NAMES = ("finished_at", "end_time", "created_at", "created", "timestamp", "date", "started")
DVC_COLUMNS = ("Experiment", "rev", "typ", "Created", "parent")  # of ``dvc exp show --csv``
DVC_OTHERS = ("rev", "typ", "parent", "State", "Executor")  # say nothing of how a run was set
METRIC_WORDS = {
    "acc", "accuracy", "auc", "auroc", "bleu", "correct", "dice", "ece", "elbo", "error", "err", "f1", "fid", "iou", "kl",
    "likelihood", "loss", "mae", "map", "metric", "miou", "mse", "nll", "perplexity", "ppl", "precision", "psnr", "r2",
    "recall", "result", "return", "reward", "rmse", "rouge", "score", "speed", "ssim", "throughput", "time", "top1", "top5",
    "wer",
}  # fmt: skip
OTHER_WORDS = {
    "coef", "coefficient", "fn", "fraction", "function", "kind", "lambda", "limit", "patience", "size", "threshold", "type",
    "weight", "weights",
}  # fmt: skip
STATES: dict[str, Literal["finished", "diverged", "failed"]] = {
    "finished": "finished", "completed": "finished", "success": "finished", "diverged": "diverged", "crashed": "failed",
    "error": "failed", "failed": "failed", "killed": "failed", "running": "failed", "terminated": "failed",
}  # fmt: skip


@dataclass(frozen=True)
class Columns:
    """What the user says of the columns.

    Args:
        metrics: names of the metrics; empty: by the rules.
        seed: name of the seed's column; None: by the rules.
        run: name of the run's column; None: by the rules.
    """

    metrics: tuple[str, ...] = ()
    seed: str | None = None
    run: str | None = None


def read_csv(path: Path, chosen: Columns | None = None) -> list[ForeignRun]:
    """The runs of a CSV file.

    Args:
        path: the file: comma, semicolon or tab between columns, names in the first line, UTF-8.
        chosen: what the user says of its columns.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: it is no such table, has not the chosen columns, or no column of it looks like a metric.
    """
    table = _experiments(read_table(path))
    roles = _roles(path, table, chosen or Columns())
    rows = table.to_dicts()
    runs = _histories(path, rows, roles)
    if len(runs) == 1 and roles.run is None:
        return [_named_by_file(path, runs[0])]
    return runs or _single_rows(path, rows, roles)


def _experiments(table: pl.DataFrame) -> pl.DataFrame:
    """The experiments of a table of DVC; any other table as it is."""
    if not set(DVC_COLUMNS) <= set(table.columns):
        return table
    return table.filter(table["typ"] != "baseline").drop(DVC_OTHERS, strict=False)


def _named_by_file(path: Path, run: ForeignRun) -> ForeignRun:
    """The only run of a file, called like the file; one of Lightning's like its folder, with the settings beside it."""
    if not (path.with_name(HPARAMS)).is_file():
        return replace(run, name=path.stem)
    version, notes, settings = path.absolute().parent, [], {}
    try:
        settings = read_yaml(path.with_name(HPARAMS), MOST_TEXT)
    except DamagedRecord as damage:
        notes.append(f"{damage} The run is imported without the settings in it.")
    named = replace(run, id=version.name, name=version.name, project=version.parent.name)
    return replace(named, config=settings | run.config, notes=notes)


def _histories(path: Path, rows: Sequence[Row], roles: _Roles) -> list[ForeignRun]:
    """The runs of which each row is an epoch, or one report of an epoch; none if the rows are none."""
    if roles.epoch is None and roles.step is None:
        return []
    tries: list[tuple[_Roles, list[str | None]]] = [(roles, [roles.run])] if roles.run else []
    shared = replace(roles, settings=[roles.run, *roles.settings]) if roles.run else roles
    tries += [(shared, [roles.seed, roles.group, roles.run, *names]) for names in (roles.labels, roles.settings)]
    for found, columns in tries:
        runs = _grouped(rows, [name for name in columns if name])
        if _are_histories(runs, found, sure=columns == [roles.run]):
            final = _with_changing(found, runs)
            return [_run(path, identity, group, final) for identity, group in runs.items()]
    return []


def _single_rows(path: Path, rows: Sequence[Row], roles: _Roles) -> list[ForeignRun]:
    """Each row as a run. A run column in which several rows have the same is a setting too."""
    names = [str(row[roles.run]) if roles.run else "row" for row in rows]
    if len(set(names)) == len(names):
        return [_run(path, name, [row], roles) for name, row in zip(names, rows, strict=True)]
    if roles.run:
        roles = replace(roles, settings=[roles.run, *roles.settings])
    return [_run(path, f"{name} {number}", [row], roles) for number, (name, row) in enumerate(zip(names, rows, strict=True), 1)]


@dataclass(frozen=True)
class _Roles:
    """What each column is. ``labels``: the settings that are no numbers with a decimal point."""

    metrics: list[str]
    settings: list[str]
    labels: list[str]
    seed: str | None
    run: str | None
    group: str | None
    state: str | None
    time: str | None
    date: str | None
    epoch: str | None
    step: str | None


def _roles(path: Path, table: pl.DataFrame, chosen: Columns) -> _Roles:
    """What each column is."""
    import polars as pl

    names = table.columns
    for name in (*chosen.metrics, chosen.seed, chosen.run):
        if name is not None and name not in names:
            known = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            raise ConfigError(visible_line(f"{path} has no column {name}: it has {known}.{did_you_mean(name, names)}"))
    wrong = [name for name in chosen.metrics if not table[name].dtype.is_numeric() and not table[name].is_null().all()]
    if wrong:
        raise ConfigError(visible_line(f"{path}: the column {wrong[0]} cannot be a metric: not all its values are numbers."))
    free = [name for name in names if name not in (*chosen.metrics, chosen.seed, chosen.run)]
    numbers = [name for name in free if table[name].dtype.is_numeric()]
    seed = chosen.seed or next(iter(seed_keys(numbers, None)), None)
    run = chosen.run or _first(free, RUN_NAMES)
    group = _first([name for name in free if name != run], GROUP_NAMES)
    state = next((name for name in free if name.lower() in STATE_NAMES and _tells_states(table[name])), None)
    epoch, step = _first(numbers, EPOCH_NAMES), _first(numbers, STEP_NAMES)
    time = _first(numbers, TIME_NAMES)
    date = _first([name for name in free if table[name].dtype == pl.String], DATE_NAMES)
    taken = {seed, run, group, state, time, date, epoch, step}
    metrics = list(chosen.metrics) or [name for name in numbers if name not in taken and _sounds_like_a_metric(name)]
    if not metrics:
        raise ConfigError(
            visible_line(
                f"{path}: no column of numbers sounds like a metric, such as accuracy or test_loss; name them with "
                f"--metrics. The columns are {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}."
            )
        )
    settings = [name for name in names if name not in taken and name not in metrics]
    labels = [name for name in settings if not table[name].dtype.is_float()]
    return _Roles(metrics, settings, labels, seed, run, group, state, time, date, epoch, step)


def _first(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The name that is the earliest of ``wanted``, whatever its case, with spaces as ``_``."""
    plain = {name.lower().replace(" ", "_"): name for name in reversed(names)}
    return next((plain[word] for word in wanted if word in plain), None)


def _tells_states(column: pl.Series) -> bool:
    import polars as pl

    values = {*column.drop_nulls().unique()} - {*NOTHING} if column.dtype == pl.String else set()
    return bool(values) and all(value.lower() in STATES for value in values)


def _sounds_like_a_metric(name: str) -> bool:
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+\d*|[A-Z]+\d*(?![a-z])", name)}
    words |= {word.lower() for word in re.split(r"[\W_]+", name)}
    return name.startswith("metrics.") or (bool(words & METRIC_WORDS) and not words & OTHER_WORDS)


def _grouped(rows: Sequence[Row], columns: Sequence[str]) -> dict[str, list[Row]]:
    """Identity -> rows that agree in these columns."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault("\t".join(str(row[name]) for name in columns), []).append(row)
    return groups


def _are_histories(runs: Mapping[str, Sequence[Row]], roles: _Roles, *, sure: bool) -> bool:
    """Whether the rows of each run are its epochs: no metric has two values at one place.

    Args:
        runs: identity -> rows.
        roles: of the columns.
        sure: whether a column says which rows are a run. Else epochs or steps must rise, and epochs begin with 0 or 1.
    """
    for rows in runs.values():
        places = [tuple(row[name] for name in (roles.epoch, roles.step) if name) for row in rows]
        values = [
            (place, name) for place, row in zip(places, rows, strict=True) for name in roles.metrics if row[name] is not None
        ]
        if len(set(values)) < len(values):
            return False
        if not sure:
            if any(all(value is None for value in place) for place in places):
                return False
            steps = [place[0] for place in places if place[0] is not None]
            if steps != sorted(steps) or (roles.epoch and steps and steps[0] > 1):
                return False
    return any(len(rows) > 1 for rows in runs.values())


def _with_changing(roles: _Roles, runs: Mapping[str, Sequence[Row]]) -> _Roles:
    """The roles with the numbers that change within a run as metrics."""
    numbers = [name for name in roles.settings if name not in roles.labels]
    changing = [name for name in numbers if any(len({row[name] for row in rows} - {None}) > 1 for rows in runs.values())]
    settings = [name for name in roles.settings if name not in changing]
    return replace(roles, metrics=[*roles.metrics, *changing], settings=settings)


def _run(path: Path, identity: str, rows: Sequence[Row], roles: _Roles) -> ForeignRun:
    last = {name: next((row[name] for row in reversed(rows) if row[name] is not None), None) for name in rows[0]}
    values = {name: value for name in roles.metrics if (value := as_number(last[name])) is not None}
    if roles.epoch and (epoch := as_number(last[roles.epoch])) is not None:
        values["epoch"] = epoch
    state, group, name = (_text(last, column) for column in (roles.state, roles.group, roles.run))
    return ForeignRun(
        tool="csv",
        path=path,
        id=identity,
        project=path.stem,
        name=name,
        group=group,
        state=state.lower(),
        status=STATES.get(state.lower(), "finished"),
        config={name: None if last[name] != last[name] else last[name] for name in (*roles.settings, roles.seed) if name},
        metrics=values,
        history=[_history_row(index, row, roles) for index, row in enumerate(rows, 1)] if len(rows) > 1 else [],
        seconds=(as_number(last[roles.time]) if roles.time else None) or math.nan,
        finished=_date(_text(last, roles.date)),
        seed_key=roles.seed,
    )


def _history_row(index: int, row: Row, roles: _Roles) -> dict[str, float]:
    """One row of a history. Without a column of steps, its rows are counted."""
    step = as_number(row[roles.step]) if roles.step else None
    epoch = as_number(row[roles.epoch]) if roles.epoch else None
    found = {"step": index if step is None else step} | ({} if epoch is None else {"epoch": epoch})
    return found | {name: value for name in roles.metrics if (value := as_number(row[name])) is not None}


def _text(row: Row, column: str | None) -> str:
    value = row[column] if column else None
    return "" if value is None else str(value)[:LONGEST_NAME]


def _date(text: str) -> float | None:
    """Seconds since 1970; None for a text that is no date."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None
