"""The book of claims as Markdown, with its figures as PNG files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from bnexp.comparison.text import level_unit, number
from bnexp.report.claims import Claim, errata
from bnexp.report.published import ReferenceTable


def escape(text: str) -> str:
    """``text`` as it stands, whatever it means in Markdown or HTML; on one line."""
    return re.sub(r"([\\`*_\[\]{}<>#|~&!])", r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """``text`` as code on one line, with a fence longer than any run of backticks inside."""
    text = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{text}{fence}" if len(fence) == 1 else f"{fence} {text} {fence}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table, its cells escaped unless they come as links or code from ``escape`` and ``code`` already."""
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def render(command: str, claims: Sequence[Claim], missing: Mapping[str, str]) -> str:
    """The whole book."""
    summary = [
        (f"[{escape(claim.name)}](#{claim.name})", claim.result.verdict.value, escape(claim.result.answer)) for claim in claims
    ]
    lines = [
        "# The book of claims",
        "",
        "What sources claim of batch norm, and what these runs say. A verdict holds for the settings beside it.",
        "",
        *table(("study", "verdict", "answer"), summary),
        "",
    ]
    if missing:
        lines += ["## Not in this book", "", *(f"- {escape(name)}: {escape(why)}" for name, why in missing.items()), ""]
    for claim in claims:
        lines += _claim(claim)
    if wrong := errata(claims):
        lines += ["## Errata of the sources", "", *(f"- {escape(text)}" for text in wrong), ""]
    lines += ["## Reproduce", "", code(command), ""]
    return "\n".join(lines)


def _claim(claim: Claim) -> list[str]:
    result = claim.result
    lines = [
        f'## <a id="{claim.name}"></a>{escape(result.question)}',
        "",
        f"**{result.verdict}.** {escape(result.answer)}",
        "",
        f"- Claim: {escape(claim.claim)}",
        f"- Source: {escape(claim.sources)}",
        f"- Setting: {escape(', '.join(f'{name} {value}' for name, value in claim.setting.items()))}",
        f"- Runs: {escape(claim.runs)}",
        f"- Reproduce: {code(claim.command)}",
        "",
    ]
    if claim.rows:
        lines += [*table([escape(name) for name in claim.rows[0]], ([escape(v) for v in r.values()] for r in claim.rows)), ""]
    for figure in claim.figures:
        lines += [f"![{escape(figure.description)}](figures/{figure.id}.png)", ""]
    for table_of in claim.references:
        lines += [*_references(table_of, result.metric, result.unit), ""]
    for text in claim.published:
        lines += [f"Published: {escape(text)}", ""]
    return [*lines, *(f"- {escape(note)}" for note in claim.notes), ""]


def _references(found: ReferenceTable, metric: str, unit: str) -> list[str]:
    """The values of one source, under a line that says what they are."""
    shown = level_unit(metric, unit)
    rows = [
        (escape(row.arm.arm), number(row.arm.mean, unit), number(row.reference.value, unit), row.expected) for row in found.rows
    ]
    header = [f"{name}, {shown}".removesuffix(", ") for name in ("here", "reference", "expected")]
    return [f"{escape(metric)} beside {escape(found.source)}:", "", *table(["arm", *header], rows)]
