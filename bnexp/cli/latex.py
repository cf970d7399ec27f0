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
    '"': "{''}",  # \textquotedbl is only in the font encoding T1
    "−": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "–": "--",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "≈": r"$\approx$",
    "→": r"$\rightarrow$",
} | {character: f"\\{character}" for character in "&%$#_{}"}
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi _ pi rho _ sigma tau upsilon phi chi psi omega"
)
_SPECIAL |= {chr(0x3B1 + place): f"$\\{name}$" for place, name in enumerate(_GREEK.split()) if name != "_"}
_UNKNOWN = re.compile(r"[^\0-\u017f—‘’“”…]")  # what LaTeX cannot print without further packages
_SPECIAL_CHARACTER = re.compile("|".join(map(re.escape, _SPECIAL)) + "|-(?=-)")
_NEGATIVE = re.compile(r"-(?=[\d.])")


def latex_text(text: str) -> str:
    """``text`` as LaTeX prints it: what it would read as a command is escaped, and a minus before a number is a real one.

    A character that LaTeX cannot print without further packages, such as one of Chinese, becomes its number, ``U+6570``.
    """
    known = _UNKNOWN.sub(lambda found: found[0] if found[0] in _SPECIAL else f"U+{ord(found[0]):04X}", text)
    escaped = _SPECIAL_CHARACTER.sub(lambda found: _SPECIAL.get(found[0], "-{}"), known)  # else LaTeX makes a dash of --
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
        tabular = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_text(caption)}}}",
            r"\medskip",
            *tabular,
            r"\end{table}",
        ]
    return "\n".join(["% \\usepackage{booktabs}", *tabular]) + "\n"
