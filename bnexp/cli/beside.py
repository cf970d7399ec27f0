"""How the answers of several studies are printed side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnexp.cli.compared import print_plot
from bnexp.cli.output import Format, print_json, print_rows, stdout

if TYPE_CHECKING:
    from bnexp.comparison.side_by_side import StudiesBeside


def print_studies(found: StudiesBeside, format: Format, *, plot: bool) -> None:
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
            print_plot(f"Deciding difference{f' in {unit}' if unit else ''}: mean and 95 % interval", bars, zero=True)


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
