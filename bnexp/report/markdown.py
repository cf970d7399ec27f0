"""The book of claims as Markdown, with its figures as PNG files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from bnexp.compare.text import number, quantity
from bnexp.report.published import ERRATA

if TYPE_CHECKING:
    from bnexp.report.book import Claim


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
    lines += ["## Errata of the sources", "", *(f"- {escape(text)}" for text in ERRATA), ""]
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
    if claim.references:
        lines += [*_references(claim), ""]
    if claim.published:
        lines += [f"Published: {escape(claim.published)}", ""]
    notes = [*result.unpaired, *result.notes]
    return [*lines, *(f"- {escape(note)}" for note in notes), ""]


def _references(claim: Claim) -> list[str]:
    rows = []
    for arm, reference in claim.references:
        expected = "–" if reference.low is None else f"{reference.low} to {reference.high}"
        rows.append((escape(arm.arm), number(arm.mean, "pp"), quantity(reference.accuracy, "pp").removesuffix(" pp"), expected))
    return table(("arm", "accuracy here, %", "reference, %", "expected, %"), rows)
