"""``bnexp compare``: compares any recorded runs, or puts recorded studies side by side."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import isnan
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnexp.cli.output import (
    CsvFlag,
    Format,
    JsonFlag,
    LatexFlag,
    MdFlag,
    pick_format,
    print_json,
    print_rows,
    sentence,
    stdout,
    table_width,
)
from bnexp.cli.selecting import LastOption, SelectArgument, StatusOption, WhereOption
from bnexp.config.schema import ConfigError

if TYPE_CHECKING:
    from bnexp.comparison.frame import RunComparison
    from bnexp.comparison.record import StudyRecord
    from bnexp.comparison.side_by_side import StudiesBeside

# The columns of a table: the first of these sets that fits the terminal. If some runs are unpaired, each has the test.
_NAMES = ("level", "arm", "baseline")
PAIR_CHOICES = (
    (*_NAMES, "n", "difference", "95 % interval", "test", "p adjusted", "n needed", "verdict"),
    (*_NAMES, "n", "difference", "95 % interval", "test", "p adjusted", "verdict"),
    (*_NAMES, "difference", "95 % interval", "test", "verdict"),
    (*_NAMES, "difference", "test", "verdict"),
)
MOST_SHOWN = 20  # arms, and comparisons, in a table; formats for programs have all
LEFT = ("arm", "baseline", "level", "test", "verdict", "study", "question", "effect", "data", "settings")


def compare(
    select: SelectArgument = None,
    where: WhereOption = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            "--group-by",
            metavar="A,B",
            help="The columns whose values make the arms. Default: everything that differs but the seed.",
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="A,B", help="Columns whose values are kept apart: arms are compared at each of them."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="ARM", help="The arm that the others are compared with. Default: each with each."),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="The metric that is compared, like val/loss. Default: test/accuracy.")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(metavar="X", help="Largest difference that counts as none: pp for accuracies, else the metric's unit."),
    ] = None,
    last: LastOption = None,
    status: StatusOption = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw means and differences with their intervals.")] = False,
    json: JsonFlag = False,
    csv: CsvFlag = False,
    md: MdFlag = False,
    latex: LatexFlag = False,
) -> None:
    """Compare recorded runs, or several studies side by side: differences with intervals, and verdicts.

    Runs are grouped by everything that differs but the seed, and paired by it.
    Those that cannot be paired are compared by Welch's test, and it is said.

    Example: bnexp compare --where "data.name = 'digits'" --by optim.lr --plot
    """
    from bnexp.comparison.selection import one_study, select_runs
    from bnexp.tracking.store import Store

    format = pick_format(json, csv, md, latex)
    words, store = list(dict.fromkeys(select or [])), Store()
    studies = [record for word in words if (record := one_study(word, store)) is not None]
    of_runs = [
        option
        for option, value in {
            "--where": where,
            "--group-by": group_by,
            "--by": by,
            "--baseline": baseline,
            "--metric": metric,
            "--margin": margin,
            "--last": last,
            "--status": status,
        }.items()
        if value is not None
    ]
    if len(studies) > 1 and len(studies) == len(words) and not of_runs:
        from bnexp.comparison.side_by_side import beside

        return _print_studies(beside(studies, store), format, plot=plot)
    if len(studies) > 1 or (studies and len(words) > 1):
        why = f"with {of_runs[0]}" if of_runs else "because runs are named besides"
        sentence(
            f"The runs of {', '.join(record.study.name for record in studies)} are compared by their settings, {why}. Name "
            "only studies, without options, to see their own answers side by side."
        )
    from bnexp.comparison.compared import as_json
    from bnexp.comparison.frame import compare as compare_runs
    from bnexp.comparison.recorded_studies import runs_of_study

    runs = select_runs(words, where=where, last=last, status=status, store=store)
    if runs.is_empty():
        raise ConfigError(_no_runs(words, [option for option in of_runs if option in ("--where", "--last", "--status")], store))
    options: dict[str, Any] = {"baseline": baseline, "metric": metric, "margin": margin}
    alone = studies[0] if len(studies) == len(words) == 1 else None
    if alone is not None and (own := runs_of_study(alone, runs)).is_empty():
        alone = None
    elif alone is not None:
        runs, options = own, _as_in_study(alone, own, options, group_by is None)
    result = compare_runs(runs, arm=_columns(group_by) or None, by=_columns(by), **options)
    if alone is not None:
        _tell_own_answer(alone, result, store)
    if format is Format.json:
        print_json(as_json(result, store.num_damaged))
    elif len(result.arms) > MOST_SHOWN and not result.comparisons and format is Format.table:
        _print_too_many(result, runs)
    else:
        print_comparison(result, format, plot=plot)


def _print_too_many(result: RunComparison, runs: Any) -> None:
    """Print in what runs differ that make too many arms to compare, so that one can choose among them."""
    from bnexp.comparison.listing import list_values

    out = stdout()
    out.print(f"\n{result.answer}\n", style="bold", markup=False, soft_wrap=not out.is_terminal)
    arms = len({summary.arm for summary in result.arms})
    out.print(f"The {arms} arms differ in (--json has the mean of each):", style="dim", markup=False)
    print_rows(list_values(runs, [*result.columns, *result.by]), Format.table, right=("values",))


def _columns(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _no_runs(words: Sequence[str], filters: Sequence[str], store: Any) -> str:
    if filters:
        return f"no recorded run fits {' and '.join(filters)}; see what there is with: bnexp runs {' '.join(words)}".rstrip()
    if words:
        return f"no run of {', '.join(words)} has finished; see what there is with: bnexp runs"
    return f"no runs are recorded in {store.root}; start with: bnexp study batchnorm data=digits"


def _as_in_study(record: StudyRecord, own: Any, options: dict[str, Any], own_arms: bool) -> dict[str, Any]:
    """How the runs of a study are compared: with its metric, baseline and margin, unless the user names others."""
    from bnexp.comparison.recorded_studies import metric_of_study
    from bnexp.config.options import Analysis

    study, metric = record.study, options["metric"] or metric_of_study(record)
    baseline = options["baseline"] or (study.baseline if own_arms and study.baseline in list(own["arm"]) else None)
    in_its_unit = study.analysis == Analysis.levels and metric == metric_of_study(record)
    margin = study.margin if options["margin"] is None and in_its_unit else options["margin"]
    return {"metric": metric, "baseline": baseline, "margin": margin}


def _tell_own_answer(record: StudyRecord, result: RunComparison, store: Any) -> None:
    """Say what the study itself found, because the comparison of its runs need not agree with it."""
    from bnexp.comparison.recorded_studies import recorded_verdict

    name, own = record.study.name, recorded_verdict(record, store)
    some = "its runs" if len(result.outcomes) == len(record.runs) else f"{len(result.outcomes)} of its {len(record.runs)} runs"
    same = own.verdict == result.verdict and own.answer.partition(" (")[0] == result.answer.partition(" (")[0]
    sentence(
        f"The verdict of {name} is {own.verdict}, by the comparisons that were to decide it before it ran "
        f"(bnexp report {name}).{'' if same else f' {own.answer}'}"
        f" Below, {some} are compared once more, without what it claims."
    )


def print_comparison(result: RunComparison, format: Format, *, plot: bool = False) -> None:
    """Print what was found on stdout: answer, tables and notes, or the data behind them.

    Args:
        result: the comparison.
        format: how it is printed.
        plot: whether intervals are drawn below the tables.
    """
    from bnexp.comparison.compared import caption, pair_rows, paper_rows
    from bnexp.comparison.tables import comparison_rows

    if format is Format.csv:
        print_rows(pair_rows(result), format)
    elif format is Format.md:
        rows = comparison_rows(result) or paper_rows(result)
        print_rows(rows, format, right=[name for name in rows[0] if name not in (*LEFT, "reason")])
    elif format is Format.latex:
        rows = paper_rows(result)
        print_rows(rows, format, right=[name for name in rows[0] if name not in LEFT], caption=caption(result))
    else:
        _print_tables(result)
        if plot:
            _print_plots(result)


def _print_tables(result: RunComparison) -> None:
    from bnexp.comparison.tables import arm_rows, comparison_rows

    out = stdout()
    out.print(f"\n{result.answer}\n", style="bold", markup=False, soft_wrap=not out.is_terminal)
    if result.better:
        out.print(f"{result.metric}: {result.better} is better", style="dim", markup=False)
    arms = arm_rows(result)
    empty = {name for name in ("diverged", "stuck", "missing") if all(row[name] == "0" for row in arms)}
    arms = [{name: text for name, text in row.items() if name not in empty} for row in arms]
    if len(arms) > MOST_SHOWN:
        out.print(f"The first {MOST_SHOWN} of {len(arms)} arms (--json has all):", style="dim", markup=False)
        arms = arms[:MOST_SHOWN]
    print_rows(arms, Format.table, right=[name for name in arms[0] if name not in LEFT])
    if rows := comparison_rows(result):
        out.print()
        if len(rows) > MOST_SHOWN:
            what = f"The {MOST_SHOWN} of {len(rows)} comparisons with the smallest p (--json and --csv have all):"
            out.print(what, style="dim", markup=False)
            order = sorted(range(len(rows)), key=lambda i: (isnan(p := result.comparisons[i].p_verdict), p))
            rows = [rows[i] for i in order[:MOST_SHOWN]]
        print_rows(rows := _fitting(rows), Format.table, right=[name for name in rows[0] if name not in LEFT])
    settings = "  ".join(f"{name}={value}" for name, value in result.settings.items())
    held = [f"\nHeld fixed: {settings}"] if settings else [""]
    for line in (*held, *(f"- {line}" for line in (*result.notes, *result.unpaired))):
        out.print(line, style="dim", markup=False, soft_wrap=not out.is_terminal)


def _fitting(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    tables = [[{name: row[name] for name in columns if name in row} for row in rows] for columns in PAIR_CHOICES]
    return next((table for table in tables if table_width(table) <= stdout().width), tables[-1])


def _print_plots(result: RunComparison) -> None:
    from bnexp.cli.plotted import Bar
    from bnexp.comparison.pairing import place
    from bnexp.comparison.text import level_unit, number, signed

    unit = level_unit(result.metric, result.unit)
    means = [Bar(place(s.arm, s.level), s.mean, s.low, s.high, number(s.mean, result.unit)) for s in result.arms]
    _print_plot(f"{result.metric}{f' in {unit}' if unit else ''}: mean and 95 % interval", means)
    bars = [
        Bar(place(f"{c.arm} − {c.baseline}", c.level), c.difference, c.low, c.high, signed(c.difference, c.unit))
        for c in result.comparisons
    ]
    where = f" in {result.unit}" if result.unit else ""
    _print_plot(f"Difference{where}: mean and 95 % interval", bars, zero=True, margin=result.margin)


def _print_plot(title: str, bars: Sequence[Any], **options: Any) -> None:
    from bnexp.cli.plotted import plotted
    from bnexp.terminal import visible_line

    out = stdout()
    width = out.width if out.is_terminal else 80
    ascii_only = not (out.encoding or "").lower().startswith("utf")
    lines = plotted(bars, width, ascii_only=ascii_only, **options)
    if lines:
        out.print(f"\n{title}", style="bold", markup=False)
        sys.stdout.flush()
        for line in lines:
            out.print(visible_line(line), markup=False, soft_wrap=True)


def _print_studies(found: StudiesBeside, format: Format, *, plot: bool) -> None:
    """Print the answers of several studies side by side, then the arms that they have in common."""
    from bnexp.cli.plotted import Bar
    from bnexp.comparison.text import effect

    rows = found.rows()
    if format is Format.json:
        return print_json(found.to_dict())
    if format is Format.csv:
        return print_rows(rows, format)
    table = [
        {
            "study": row["study"],
            "verdict": row["verdict"],
            "effect": _effect(row),
            "n": row["n"],
            **({"data": row["data"]} if len({other["data"] for other in rows}) > 1 or format is not Format.table else {}),
            **({"settings": row["settings"]} if any(other["settings"] for other in rows) else {}),
        }
        for row in rows
    ]
    if format is not Format.table:
        return print_rows(table, format, right=("n",), caption=" ".join(found.notes()))
    out = stdout()
    for row in rows:
        out.print(f"\n{row['study']}: {row['question']}", style="bold", markup=False, soft_wrap=not out.is_terminal)
        out.print(row["answer"], markup=False, soft_wrap=not out.is_terminal)
    out.print()
    print_rows(table, Format.table, right=("n",))
    if common := found.common_arms():
        out.print("\nArms in common", style="bold", markup=False)
        leveled = any(row["level"] for row in common)
        print_rows(
            [_arm_text(row, leveled) for row in common], Format.table, right=("n", "mean", "95 % interval", "shared runs")
        )
    for line in ("", *(f"- {line}" for line in found.notes())):
        out.print(line, style="dim", markup=False, soft_wrap=not out.is_terminal)
    if plot:
        for unit in dict.fromkeys(row["unit"] for row in rows if row["unit"] is not None):
            bars = [
                Bar(f"{r['study']}: {r['arm']} − {r['baseline']}", *_bounds(r), effect(r["difference"], r["unit"]))
                for r in rows
                if r["unit"] == unit and r["difference"] is not None
            ]
            _print_plot(f"Deciding difference{f' in {unit}' if unit else ''}: mean and 95 % interval", bars, zero=True)


def _effect(row: dict[str, Any]) -> str:
    """Who differs from whom by how much, with the interval."""
    from bnexp.comparison.pairing import place
    from bnexp.comparison.text import effect

    if row["difference"] is None:
        return "–"
    low, high = _bounds(row)[1:]
    size = effect(row["difference"], row["unit"], low, high)
    pair = f"{row['arm']} against {row['baseline']}"
    return f"{place(pair, row['level'])}: {size}"


def _bounds(row: dict[str, Any]) -> tuple[float, float, float]:
    import math

    low, high = (math.nan if row[name] is None else row[name] for name in ("low", "high"))
    return row["difference"], low, high


def _arm_text(row: dict[str, Any], leveled: bool) -> dict[str, str]:
    import math

    from bnexp.comparison.text import interval, level_unit, number

    low, high = (math.nan if row[name] is None else row[name] for name in ("low", "high"))
    unit = level_unit(row["metric"], row["unit"])
    return {
        "arm": row["arm"],
        **({"level": row["level"]} if leveled else {}),
        "study": row["study"],
        "n": str(row["n"]),
        "mean": f"{number(row['mean'], row['unit'])} {unit}".rstrip(),
        "95 % interval": interval(low, high, row["unit"]) or "–",
        "shared runs": str(row["shared_runs"]),
    }
