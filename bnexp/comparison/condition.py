"""Conditions on recorded runs, such as ``optim.lr > 0.1 and norm.kind = 'batch'``.

Polars reads and evaluates them as SQL expressions. Before that, names of columns are quoted, so that nobody has to type
``"optim.lr"``, and every other word must be an operator or a function of the lists below. So a condition reaches no subquery,
no file and nothing that runs long.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from bnexp.comparison.varying import column_hint, values_text
from bnexp.config.schema import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

LONGEST = 2000  # characters of a condition
MOST_BRACKETS = 100
OPERATORS = (
    *("and", "or", "not", "in", "is", "null", "true", "false", "like", "ilike", "between"),
    *("case", "when", "then", "else", "end"),
)
FUNCTIONS = (
    *("abs", "ceil", "exp", "floor", "ln", "log10", "log2", "pow", "round", "sign", "sqrt"),
    *("ends_with", "length", "lower", "starts_with", "upper", "coalesce", "greatest", "least", "nullif"),
    *("avg", "count", "max", "median", "min", "stddev"),
)
SYMBOLS = frozenset(["(", ")", "<", ">", "<=", ">=", "=", "==", "!=", "<>", "+", "-", "*", "/", "%", ",", "~", "!~", "||"])


_TEXTS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")


def matching(runs: pl.DataFrame, condition: str) -> pl.DataFrame:
    """The rows for which a condition is true.

    The log names the columns that left out rows by having no value there, and what there is if no row fits.

    Args:
        runs: the rows.
        condition: an SQL expression over their columns. Names need no quotes; text takes single quotes.

    Raises:
        ConfigError: the condition names no column, compares text with a number, or cannot be read.
    """
    if len(condition) > LONGEST or condition.count("(") > MOST_BRACKETS:
        raise ConfigError(f"the condition is too long: at most {LONGEST:,} characters and {MOST_BRACKETS} brackets are read.")
    text = " ".join(_quoted(condition, runs))
    if re.search(r"(?<!<)(?:=|!=|<>) null(?!\w)", _TEXTS.sub("''", text), re.IGNORECASE):
        raise ConfigError(f"the condition {condition!r} is true for no run: write is null, or is not null.")
    try:
        expression = pl.sql_expr(text)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ConfigError(
            f"the condition {condition!r} cannot be read; write it like: optim.lr > 0.1 and norm.kind = 'batch'."
        ) from error
    used = list(dict.fromkeys(expression.meta.root_names()))
    if not used:
        raise ConfigError(f"the condition {condition!r} names no column, so it is the same for every run.")
    try:
        kept = runs.filter(expression)
        unknown = runs.filter(expression.is_null())
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        held = "; ".join(_held(runs[name]) for name in used)
        raise ConfigError(
            f"the condition {condition!r} does not fit its columns: {held}. Compare numbers with numbers and text with text in "
            "single quotes."
        ) from error
    if kept.is_empty() and not runs.is_empty():
        held = "; ".join(f"{name}: {values_text(runs[name])}" for name in used)
        log.warning("The condition is true for none of %s. Values that there are: %s.", _runs(len(runs)), held)
    elif len(unknown):
        _tell_unknown(unknown, used)
    return kept


def _tell_unknown(left_out: pl.DataFrame, used: Sequence[str]) -> None:
    """Say in the log which rows are left out because a condition is neither true nor false for them, as in SQL."""
    names = [name for name in used if left_out[name].null_count()]
    many = len(left_out) > 1
    log.warning(
        "%s: %s null in %s, so the condition is neither true nor false. To keep %s, write: (%s or ...)",
        f"{_runs(len(left_out))} {'are' if many else 'is'} left out",
        f"{' or '.join(names)} is",
        *(("them", "them") if many else ("it", "it")),
        " or ".join(f"{name} is null" for name in names),
    )


def _runs(count: int) -> str:
    return f"{count:,} run{'s' * (count != 1)}"


def _quoted(condition: str, runs: pl.DataFrame) -> Iterator[str]:
    """The parts of a condition, in which every column has quotes. Raises ConfigError for what may not stand there."""
    for found in _lexer(runs.columns).finditer(condition):
        text, kind = found[0], found.lastgroup
        if kind == "column":
            yield _as_name(text)
        elif kind == "name":
            name = text[1:-1].replace('""', '"')
            if name not in runs.columns:
                raise _unknown(condition, name, runs)
            yield text
        elif kind == "function":
            if text.lower() not in (*FUNCTIONS, *OPERATORS):
                raise ConfigError(
                    f"the condition {condition!r} uses {text}(), which is not among the functions that it may use: "
                    f"{', '.join(FUNCTIONS)}."
                )
            yield text
        elif kind == "word" and text.lower() not in OPERATORS:
            raise _unknown(condition, text, runs)
        elif kind == "symbol" and text not in SYMBOLS:
            hint = {"&&": "and", "&": "and", "|": "or", "!": "not", "[": "(0, 1)", "]": "(0, 1)"}.get(text)
            raise ConfigError(
                f"the condition {condition!r} has a {text!r} that cannot stand there." + (f" Write {hint}." if hint else "")
            )
        elif kind != "space":
            yield text


def _lexer(columns: Sequence[str]) -> re.Pattern[str]:
    """Divides a condition. Among columns the longest name counts: ``test/accuracy`` is a metric and no division."""
    words = "|".join(OPERATORS)
    names = "|".join(re.escape(name) for name in sorted(columns, key=len, reverse=True))
    return re.compile(
        rf"(?P<text>'(?:[^']|'')*')|(?P<name>\"(?:[^\"]|\"\")*\")|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))"
        rf"|(?P<operator>(?i:{words})(?![\w./(]))|(?P<function>[A-Za-z_]\w*(?=\s*\())|(?P<column>(?:{names})(?![\w.]))"
        r"|(?P<word>\w[\w./]*)|(?P<space>\s+)|(?P<symbol>[<>=!]=|<>|!~|\|\||&&|.)",
        re.DOTALL,
    )


def _as_name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _unknown(condition: str, name: str, runs: pl.DataFrame) -> ConfigError:
    """What to say of a name that is no column: the nearest one, or that text takes single quotes."""
    texts = [column for column, dtype in runs.schema.items() if dtype == pl.String and name in runs[column]]
    hint = f" If it is text, write '{name}'." if texts else column_hint(name, runs.columns)
    return ConfigError(f"the condition {condition!r} names {name}, which is not a column of these runs.{hint}")


def _held(column: pl.Series) -> str:
    """What a column holds, as a clause: ``norm.kind is text, like 'batch'``."""
    example = next((value for value in column if value is not None), None)
    if column.dtype == pl.String:
        return f"{column.name} is text" + (f", like '{example}'" if example is not None else "")
    if column.dtype == pl.Boolean:
        return f"{column.name} is true or false"
    return f"{column.name} is a number" + (f", like {example:g}" if isinstance(example, int | float) else "")
