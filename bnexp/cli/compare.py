"""``bnexp compare``: compares any recorded runs, or puts recorded studies side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnexp.cli.output import (
    CsvFlag,
    JsonFlag,
    LatexFlag,
    MdFlag,
    pick_format,
    sentence,
)
from bnexp.cli.selecting import LastOption, SelectArgument, StatusOption, WhereOption
from bnexp.config.schema import ConfigError

if TYPE_CHECKING:
    from bnexp.comparison.frame import RunComparison
    from bnexp.comparison.record import StudyRecord
    from bnexp.tracking.store import Store


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
    from bnexp.comparison.selection import one_study
    from bnexp.tracking.store import Store

    format = pick_format(json, csv, md, latex)
    words, store = list(dict.fromkeys(select or [])), Store()
    studies = [record for word in words if (record := one_study(word, store)) is not None]
    given: dict[str, Any] = {"--where": where, "--group-by": group_by, "--by": by, "--baseline": baseline, "--metric": metric}
    given |= {"--margin": margin, "--last": last, "--status": status}
    of_runs = [option for option, value in given.items() if value is not None]
    if len(studies) > 1 and len(studies) == len(words) and not of_runs:
        from bnexp.cli.beside import print_studies
        from bnexp.comparison.side_by_side import beside

        return print_studies(beside(studies, store), format, plot=plot)
    if len(studies) > 1 or (studies and len(words) > 1):
        _tell_by_settings(studies, of_runs)
    from bnexp.cli.compared import print_comparison
    from bnexp.comparison.frame import compare as compare_runs
    from bnexp.comparison.recorded_studies import compare_as_study, runs_of_study
    from bnexp.comparison.selection import select_runs

    runs = select_runs(words, where=where, last=last, status=status, store=store)
    if runs.is_empty():
        raise ConfigError(_no_runs(words, [option for option in of_runs if option in ("--where", "--last", "--status")], store))
    alone = studies[0] if len(studies) == len(words) == 1 else None
    options: dict[str, Any] = {"arm": _columns(group_by) or None, "by": _columns(by)}
    options |= {"baseline": baseline, "metric": metric, "margin": margin}
    if alone is None or (own := runs_of_study(alone, runs)).is_empty():
        result = compare_runs(runs, **options)
    else:
        result, runs = compare_as_study(alone, own, **options), own
        _tell_own_answer(alone, result, store)
    print_comparison(result, runs, format, plot=plot, num_damaged=store.num_damaged)


def _tell_by_settings(studies: Sequence[StudyRecord], options: Sequence[str]) -> None:
    """Say why several studies are not compared as studies. ``options``: those that were given and that are about runs."""
    why = f"with {options[0]}" if options else "because runs are named besides"
    sentence(
        f"The runs of {', '.join(record.study.name for record in studies)} are compared by their settings, {why}. Name "
        "only studies, without options, to see their own answers side by side."
    )


def _columns(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _no_runs(words: Sequence[str], filters: Sequence[str], store: Store) -> str:
    if filters:
        return f"no recorded run fits {' and '.join(filters)}; see what there is with: bnexp runs {' '.join(words)}".rstrip()
    if words:
        return f"no run of {', '.join(words)} has finished; see what there is with: bnexp runs"
    return f"no runs are recorded in {store.root}; start with: bnexp study batchnorm data=digits"


def _tell_own_answer(record: StudyRecord, result: RunComparison, store: Store) -> None:
    """Say what the study itself found, because the comparison of its runs need not agree with it."""
    from bnexp.comparison.recorded_studies import recorded_verdict

    name, own = record.study.name, recorded_verdict(record, store)
    some = "its runs" if len(result.outcomes) == len(record.runs) else f"{len(result.outcomes)} of its {len(record.runs)} runs"
    same = own.verdict == result.verdict and own.answer.partition(" (")[0] == result.answer.partition(" (")[0]
    sentence(
        f"The verdict of {name} is {own.verdict}, by the comparisons that were to decide it before it ran "
        f"(bnexp report {name}-{record.study_id}).{'' if same else f' {own.answer}'}"
        f" Below, {some} are compared once more, without what it claims."
    )
