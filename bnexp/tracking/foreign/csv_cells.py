"""A CSV file as a table with guessed types.

What stands for nothing (``NOTHING``) is null. A text that is a number in all rows is one, and a duration in all rows, such as
``0:01:30``, is its seconds. Only in a column of texts that writes nothing in several ways, such as an empty cell and ``NA``,
the words stay, because they may mean different things.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

from bnexp.tracking.reading import MIB, DamagedRecord, read_bytes

if TYPE_CHECKING:
    import polars as pl

MOST_CSV = 256 * MIB
MOST_COLUMNS = 5_000
NOTHING = ("", "NA", "N/A", "null", "None", "!")  # DVC writes the last one
DURATION = r"^(\d{1,4}):(\d\d):(\d\d(?:\.\d+)?)$"


def read_table(path: Path) -> pl.DataFrame:
    """The rows of a CSV file that are not empty.

    Args:
        path: the file: comma, semicolon or tab between columns, names in the first line, UTF-8.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedRecord: it is no such table, or has no rows.
    """
    import polars as pl

    content = read_bytes(path, MOST_CSV).removeprefix(b"\xef\xbb\xbf")
    header = content.split(b"\n", 1)[0]
    if not header.strip():
        raise DamagedRecord(path, "it is empty")
    separator = max(",;\t", key=lambda mark: header.count(mark.encode()))
    if header.count(separator.encode()) >= MOST_COLUMNS or b"\0" in content[: 64 * 1024]:
        raise DamagedRecord(path, "it is no table of runs")
    comma = separator == ";" and re.search(rb"\d,\d", content) is not None and re.search(rb"\d\.\d", content) is None
    try:
        table = pl.read_csv(
            io.BytesIO(content),
            separator=separator,
            infer_schema_length=None,
            null_values=list(NOTHING),
            decimal_comma=comma,
        )
        texts = [number for number, dtype in enumerate(table.dtypes) if dtype == pl.String]
        exact = pl.read_csv(io.BytesIO(content), separator=separator, infer_schema=False, columns=texts) if texts else None
    except pl.exceptions.PolarsError as error:
        raise DamagedRecord(
            path, f"it is no table with a line of names and equally long rows ({str(error).splitlines()[0]})"
        ) from error
    if exact is not None:
        table = table.with_columns(_best(table[name], exact[name]) for name in exact.columns)
    table = table.rename(_names(content, separator, table.columns))
    table = table.filter(~pl.all_horizontal(pl.all().is_null()))
    if table.is_empty():
        raise DamagedRecord(path, "it has no rows")
    return table


def _names(content: bytes, separator: str, known: list[str]) -> dict[str, str]:
    """The name of each column as it is meant: polars leaves quotes doubled and spaces around it."""
    text = io.TextIOWrapper(io.BytesIO(content), "utf-8", "replace", newline="")
    meant = [name.strip() for name in next(csv.reader(text, delimiter=separator))]
    once = {name for name in meant if meant.count(name) == 1}
    return {name: own for name, own in zip(known, meant, strict=False) if own in once and own}


def _best(column: pl.Series, exact: pl.Series) -> pl.Series:
    """A column of texts as numbers if all are: polars takes ``nan`` and numbers with spaces for text. Durations as seconds.
    Else as texts.

    Args:
        column: with null for what stands for nothing.
        exact: the same with every text as it is.
    """
    import polars as pl

    numbers = column.str.strip_chars().cast(pl.Float64, strict=False)
    if numbers.null_count() == column.null_count() < len(column):
        return numbers
    if column.drop_nulls().str.contains(DURATION).all():
        parts = column.str.extract_groups(DURATION).struct.unnest().cast(pl.Float64)
        return (parts["1"] * 3600 + parts["2"] * 60 + parts["3"]).alias(column.name)
    exact = exact.replace("", None)
    ways = set(exact.filter(column.is_null()))
    return exact if len(ways) > 1 else column
