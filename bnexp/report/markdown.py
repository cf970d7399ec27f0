"""The book of claims as Markdown, with its figures as PNG files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from bnexp.comparison.result import Remedy
from bnexp.comparison.text import level_unit, number
from bnexp.report.claims import Claim, Contents, errata, listed
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


def render(command: str, contents: Contents, missing: Mapping[str, str]) -> str:
    """The whole book."""
    lines = ["# The book of claims", "", "What sources claim of batch norm, and what these runs say.", ""]
    lines += [escape(contents.wrong_verdicts), ""]
    if contents.usual:
        lines += [f"Unless a claim says otherwise: {escape(listed(contents.usual))}.", ""]
    for theme, claims in contents.themes.items():
        rows = [_summary(claim, contents.own_setting(claim)) for claim in claims]
        lines += [
            f"## {escape(theme.capitalize())}",
            "",
            *table(("study", "claim", "verdict", "leading effect", "n", "q"), rows),
            "",
        ]
    for claim in contents.claims:
        lines += _claim(claim)
    if missing:
        lines += ["## Not in this book", "", *(f"- {escape(name)}: {escape(why)}" for name, why in missing.items()), ""]
    if wrong := errata(contents.claims):
        lines += ["## Errata of the sources", "", *(f"- {escape(text)}" for text in wrong), ""]
    lines += ["## Reproduce", "", code(command), ""]
    return "\n".join(lines)


def _summary(claim: Claim, setting: str) -> tuple[str, ...]:
    lead = claim.lead
    effect, n = (f"{escape(lead.effect)} ({escape(lead.about)})", str(lead.n)) if lead else ("–", "–")
    said = escape(claim.claim) + (f" ({escape(setting)})" if setting else "")
    return f"[{escape(claim.name)}](#{claim.name})", said, claim.result.verdict.value, effect, n, escape(claim.q_text)


def _claim(claim: Claim) -> list[str]:
    result = claim.result
    report = f"[report.html]({claim.report})" if claim.report else code(claim.report_command)
    lines = [
        f'## <a id="{claim.name}"></a>{escape(result.question)}',
        "",
        f"**{result.verdict}.** {escape(result.answer)}",
        "",
        *_remedy(result.remedy),
        f"- Claim: {escape(claim.claim)}",
        f"- Source: {escape(claim.sources)}",
        f"- Setting: {escape(listed(claim.setting))}",
        f"- Runs: {escape(claim.runs)}",
        f"- q: {escape(claim.q_text)}",
        f"- Full report: {report}",
        f"- Reproduce: {code(claim.command)}",
        "",
    ]
    for title, rows in (("", claim.deciding), ("Also measured, without a verdict:", claim.measured)):
        if rows:
            lines += [*([title, ""] if title else []), *_rows(rows), ""]
    for figure in claim.figures:
        lines += [f"![{escape(figure.description)}](figures/{figure.id}.png)", ""]
    for table_of in claim.references:
        lines += [*_references(table_of, result.metric, result.unit), ""]
    if claim.published:
        told = [[escape(text or "–") for text in vars(row).values()] for row in claim.published]
        lines += [*table(["source", "found there", "found here", "what differs"], told), ""]
    return [*lines, *(f"- {escape(note)}" for note in claim.notes), ""]


def _remedy(remedy: Remedy | None) -> list[str]:
    if remedy is None:
        return []
    return [" ".join([escape(remedy.text), *([code(remedy.command)] if remedy.command else [])]), ""]


def _rows(rows: Sequence[Mapping[str, str]]) -> list[str]:
    return table([escape(name) for name in rows[0]], ([escape(value) for value in row.values()] for row in rows))


def _references(found: ReferenceTable, metric: str, unit: str) -> list[str]:
    """The values of one source, under a line that says what they are."""
    shown = level_unit(metric, unit)
    rows = [
        (escape(row.arm.arm), number(row.arm.mean, unit), number(row.reference.value, unit), row.expected) for row in found.rows
    ]
    header = [f"{name}, {shown}".removesuffix(", ") for name in ("here", "reference", "expected")]
    differs = f", found at other settings ({escape(found.differs)})" if found.differs else ""
    return [f"{escape(metric)} beside {escape(found.source)}{differs}:", "", *table(["arm", *header], rows)]
