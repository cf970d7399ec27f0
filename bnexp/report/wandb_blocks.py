"""The text of a W&B report: question, answer, verdict in words and numbers, panels, and the command that reproduces it.

Texts of a study may come from strangers. A paragraph of W&B shows text as it is; in Markdown it is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wandb_workspaces.reports import v2 as wr

from bnexp.comparison.tables import arm_rows, decided_and_measured, without_zeros
from bnexp.report import markdown
from bnexp.report.sections import Report
from bnexp.report.wandb_panels import Held, colours, curve_panels, factor_panels, probe_panels, result_panels, run_filter

MOST_ROWS = 200  # of a table; report.html has them all

Shown = tuple[Report, Held, str]  # a study, what W&B holds of it, and the address of its workspace


def blocks(studies: Sequence[Shown], entity: str, project: str) -> list[Any]:
    """The blocks of the W&B report of one study, or of several under a table of their answers."""
    if len(studies) == 1:
        return _study(studies[0], entity, project)
    rows = [
        {"study": report.title, "verdict": report.result.verdict.value, "answer": report.result.answer}
        for report, _, _ in studies
    ]
    found = [wr.TableOfContents(), *_table("The answers", rows)]
    for shown in studies:
        found += [wr.H1(shown[0].title), *_study(shown, entity, project)]
    return found


def _study(shown: Shown, entity: str, project: str) -> list[Any]:
    report, held, workspace = shown
    result = report.result
    deciding, measured = decided_and_measured(result)
    found = [wr.H2(result.question), wr.CalloutBlock(f"{result.verdict.value}. {result.answer}")]
    if result.remedy is not None:
        found.append(wr.P(result.remedy.text))
        found += [wr.CodeBlock(result.remedy.command, language=None)] if result.remedy.command else []
    found += _table("Verdict", deciding)
    found += _table("Also measured, without a verdict", measured)
    found += _table("Arms", without_zeros(arm_rows(result)))
    found += _grids(report, held, entity, project)
    held_fixed = "  ".join(f"{name}={value}" for name, value in result.settings.items())
    lines = [f"Held fixed: {held_fixed}", *(result.unpaired), *report.notes]
    found += [wr.H2("What else to know"), wr.UnorderedList([" ".join(line.split()) for line in lines])]
    return [*found, *_links(held, workspace), wr.H2("Reproduce"), wr.CodeBlock(report.command, language=None)]


def _grids(report: Report, held: Held, entity: str, project: str) -> list[Any]:
    """Panels by arm at the level that the report opens with, what probes measured there, then all runs over the factors."""

    def grid(panels: list[Any], level: str | None = None) -> Any:
        runs = wr.Runset(
            entity=entity,
            project=project,
            name=report.title,
            filters=run_filter(report, held, level),
            groupby=["config.arm"],
            order=[wr.OrderBy("Name", ascending=True)],
        )
        shown = {
            wr.RunsetGroup(report.title, (wr.RunsetGroupKey(wr.Config("arm"), arm),)): colour
            for arm, colour in colours(report.arms).items()
        }
        return wr.PanelGrid(runsets=[runs], panels=panels, custom_run_colors=shown)

    at = f" at {report.focus}, the level with the best mean over arms" if report.focus else ""
    found = [
        wr.H2("Curves"),
        wr.P(f"Mean of each arm over its seeds{at}; bands and whiskers reach from the lowest to the highest seed."),
        grid([*curve_panels(report)], report.focus),
        wr.H2("At the end"),
        grid(result_panels(report), report.focus),
    ]
    if probes := probe_panels(report):
        found += [wr.H2("What probes measured"), grid(probes, report.focus)]
    if over := factor_panels(report):
        found += [wr.H2("Over the factors"), wr.P("All runs of the study, one line or point each."), grid(over)]
    return found


def _links(held: Held, workspace: str) -> list[Any]:
    addresses = {
        "the workspace of these runs": workspace,
        "the whole report, with predictions and confusion matrices (report.html)": held.report,
        "the study's own run, with its verdict in numbers": held.page,
    }
    items = [wr.Link(text=text, url=url) for text, url in addresses.items() if url]
    return [wr.H2("More"), wr.UnorderedList(items)]


def _table(title: str, rows: Sequence[dict[str, str]]) -> list[Any]:
    """A heading and a table; nothing without rows."""
    if not rows:
        return []
    escape = markdown.escape
    cells = [[escape(cell) for cell in row.values()] for row in rows[:MOST_ROWS]]
    lines = markdown.table([escape(name) for name in rows[0]], cells)
    more = [wr.P(f"The first {MOST_ROWS} of {len(rows):,} rows; report.html has all.")] if len(rows) > MOST_ROWS else []
    return [wr.H2(title), wr.MarkdownBlock("\n".join(lines)), *more]
