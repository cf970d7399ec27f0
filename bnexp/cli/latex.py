"""Tables for papers: LaTeX with rules of the package booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "−": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "–": "--",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
} | {character: f"\\{character}" for character in "&%$#_{}"}
_SPECIAL_CHARACTER = re.compile("|".join(map(re.escape, _SPECIAL)))
_NEGATIVE = re.compile(r"-(?=[\d.])")


def latex_text(text: str) -> str:
    """``text`` as LaTeX prints it: what it would read as a command is escaped, and a minus before a number is a real one."""
    escaped = _SPECIAL_CHARACTER.sub(lambda found: _SPECIAL[found[0]], text)
    return f"$-${escaped[1:]}" if _NEGATIVE.match(escaped) else escaped


def _unbracketed(row: str) -> str:
    """A row that does not begin like an option of the command before it, such as the space that ``\\\\`` may take."""
    return f"{{}}{row}" if row.startswith(("[", "*")) else row


def latex_table(names: Sequence[str], lines: Sequence[Sequence[str]], right: Sequence[str], caption: str = "") -> str:
    """A table with the rules of booktabs; with a caption as a floating one.

    Args:
        names: of the columns.
        lines: the cells of each row, as plain text.
        right: the columns that are aligned right.
        caption: plain text above the table: what it shows, with the units and what was tested; empty: none.
    """
    columns = "".join("r" if name in right else "l" for name in names)
    rows = [rf"{_unbracketed(' & '.join(map(latex_text, cells)))} \\" for cells in (names, *lines)]
    tabular = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        rows[0],
        r"\midrule",
        *rows[1:],
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if caption:
        tabular = [r"\begin{table}", r"\centering", rf"\caption{{{latex_text(caption)}}}", *tabular, r"\end{table}"]
    return "\n".join(["% \\usepackage{booktabs}", *tabular]) + "\n"
