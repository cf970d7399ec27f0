"""``bnexp study`` without a name: the list of studies by theme, with the runs and the time of each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnexp.cli.output import COLUMN_GAP, Format, Row, message, print_rows, sentence, stdout
from bnexp.config.options import theme_order
from bnexp.config.schema import ConfigError, StudyConfig
from bnexp.config.validate import resolve_seeds
from bnexp.plan.study import Job, jobs, pretraining_job, reason_of, trained, tuning_jobs
from bnexp.terminal import visible_line

if TYPE_CHECKING:
    from bnexp.run.pace import Pace


def print_studies(format: Format, overrides: list[str]) -> None:
    """Print one row per study, by theme: its question, runs, data set and estimated time with these overrides."""
    from bnexp.data.download import DataError
    from bnexp.plan.session import groups
    from bnexp.run.pace import recorded_pace
    from bnexp.tracking.store import Store

    rows: list[Row] = []
    pace = recorded_pace(Store())
    for name in groups().get("study", []):
        try:
            rows.append(_row(name, overrides, pace))
        except (ConfigError, DataError) as error:
            message(f"study {name} cannot be read: {reason_of(name, error)}")
    rows.sort(key=lambda row: theme_order(row["theme"]))
    if format is Format.table:
        _print_list(rows)
    else:
        print_rows(rows, format)
    sentence(
        "\nRun one with bnexp study NAME, all with bnexp study --all; add data=digits or budget=quick for a faster answer, "
        "--dry-run to see its runs."
    )


def _print_list(rows: list[Row]) -> None:
    """The rows for people: one line per study below the name of its theme. A long question is cut to the width."""
    from itertools import groupby

    from rich.table import Table
    from rich.text import Text

    console = stdout()
    names = [len(row[name]) for row in rows for name in ("study", "theme")]
    width, times = max(names, default=0), max((len(row["estimated_time"]) for row in rows), default=0)
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, COLUMN_GAP, 0, 0))
    table.add_column("study", no_wrap=True, min_width=width)
    table.add_column("question", no_wrap=True, overflow="ellipsis", max_width=console.width - width - times - 2 * COLUMN_GAP)
    table.add_column("time", no_wrap=True, justify="right", min_width=times)
    for theme, studies in groupby(rows, key=lambda row: row["theme"] or "other"):
        table.add_row(Text(f"\n{visible_line(theme)}", style="bold"))
        for row in studies:
            table.add_row(*(Text(visible_line(str(row[name]))) for name in ("study", "question", "estimated_time")))
    console.print(table)


def _row(name: str, overrides: list[str], pace: Pace) -> Row:
    from bnexp.plan.budget import fitted
    from bnexp.plan.compose import compose
    from bnexp.plan.reaching import fit_reach
    from bnexp.plan.spec import RunSpec
    from bnexp.run.forecast import duration_text, estimate_seconds, with_added
    from bnexp.run.outline import outlined

    spec = RunSpec(compose([f"study={name}", *overrides]))
    reaching, _ = fit_reach(spec.config.study, spec.config.model.name)
    study, _ = fitted(replace(spec.config, study=reaching), fixed=[text.partition("=")[0] for text in overrides])
    text, runs = _runs(study)
    seconds = estimate_seconds(with_added([outlined(spec, job) for job in runs], study), pace)
    return {
        "theme": study.theme,
        "study": name,
        "question": study.question,
        "runs": text,
        "data": spec.config.data.name.value,
        "estimated_time": "unknown" if seconds is None else duration_text(seconds),
    }


def _runs(study: StudyConfig) -> tuple[str, list[Job]]:
    """How many runs a study has, in words that show the arithmetic, and the overrides of each."""
    planned, tuning = list(jobs(study)), tuning_jobs(study, study.tune.grid)
    own, first = trained(planned), trained(pretraining_job(study, job) for job in [*tuning, *planned] if study.pretrain)
    text = f"{len(study.arms)} arms{times(study)} = {len(planned)}"
    text += f" readings of {len(own)} runs" if len(own) < len(planned) else ""
    parts = [f"{len(tuning)} that tune" if tuning else "", f"{len(first)} to start from" if first else ""]
    after = " and ".join(part for part in parts if part)
    text += ", and those at levels that are added" if study.refine.ratio is not None else ""
    return text + (f", after {after}" if after else ""), [*trained(tuning), *first, *own]


def times(study: StudyConfig) -> str:
    """The factors and seeds that the arms of a study are combined with: `` x 3 optim.lr x 5 seeds``."""
    factors = "".join(f" x {len(levels)} {name}" for name, levels in study.factors.items())
    count = len(resolve_seeds(study.seeds))
    return f"{factors} x {count} seed{'s' if count > 1 else ''}"
