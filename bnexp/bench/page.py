"""The ladder as one HTML file that opens from disk, without a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bnexp.bench.result import Ladder, limit_text
from bnexp.bench.rows import Row, Spread
from bnexp.report import figures, style
from bnexp.report.export import slug
from bnexp.report.html import Chart, page

TEMPLATE = Path(__file__).parent / "bench.html.jinja"


def render(ladder: Ladder) -> str:
    """The ladder as the text of one HTML document: for each number of runs two bar charts and a table, then the answers."""
    charts, climbing = {}, [row for row in ladder.rows if row.answer is None]
    for num_runs in dict.fromkeys(row.num_runs for row in climbing):
        rows = [row for row in climbing if row.num_runs == num_runs]
        charts[num_runs] = [
            _chart(f"seconds-{num_runs}", rows, "Whole process", "seconds", lambda row: row.seconds),
            _chart(f"images-{num_runs}", rows, "Steady state", "training images per second", lambda row: row.images_per_second),
        ]
    answers = [row for row in ladder.rows if row.answer is not None]
    return page(TEMPLATE, ladder=ladder, work=ladder.work, charts=charts, answers=answers, limit=limit_text(ladder.facts))


def _chart(id: str, rows: list[Row], title: str, unit: str, value: Callable[[Row], Spread]) -> Chart:
    spreads = {row.rung: value(row) for row in rows}
    bars = [
        {"name": rung, "value": s.median, "low": s.low, "high": s.high, "text": f"{s.median:,.{0 if s.median >= 100 else 1}f}"}
        for rung, s in spreads.items()
    ]
    words = "; ".join(f"{bar['name']} {bar['text']}" for bar in bars)
    chart = style.spec(figures.bar_chart(bars, title, unit))
    return Chart(id, chart, f"{title}, {unit}: {words}. The table below has the numbers.", title, slug(f"bench {title}"), {})
