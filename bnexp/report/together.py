"""Several studies on one page: their answers, verdicts and main figures side by side, and how the studies differ.

Arms are compared within their own study only. Figures share an axis if the studies have the same metric and the same test data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from bnexp.comparison.record import StudyRecord
from bnexp.comparison.recorded import label
from bnexp.comparison.result import ArmSummary, Outcome, StudyResult
from bnexp.comparison.select import study_facts
from bnexp.comparison.text import interval, level_unit, quantity
from bnexp.report import charts, style
from bnexp.report.axes import Ends, near
from bnexp.report.charts import Figure
from bnexp.report.configuration import Configuration
from bnexp.report.configuration import gather as gather_configuration
from bnexp.report.factor import Factor, study_factor
from bnexp.report.figures import difference_ends, factor_ends
from bnexp.report.html import arm_looks, embedded, page
from bnexp.report.sections import days
from bnexp.tracking.records import DataFacts
from bnexp.tracking.store import Store

TEMPLATE = Path(__file__).parent / "together.html.jinja"
MOST_ROWS = 24  # of the figure of all arms; with more, each arm has its best level alone


@dataclass(frozen=True)
class Side:
    """One of the studies.

    Args:
        record: the recorded study.
        result: what its comparison found.
        facts: what its runs were tested on; None if it is not known.
        configuration: of its runs.
        trained: when they trained.
        figures: its main figure, one per panel or measure.
    """

    record: StudyRecord
    result: StudyResult
    facts: DataFacts | None
    configuration: Configuration
    trained: str
    figures: list[Figure] = field(default_factory=list, repr=False)

    @property
    def name(self) -> str:
        return label(self.record.folder)

    @property
    def factor(self) -> Factor | None:
        return study_factor(self.result)


@dataclass(frozen=True)
class SameRuns:
    """Two cells that are the same runs. ``cells``: of each its study, arm and level, as text; ``num_runs``: shared by both."""

    cells: tuple[str, str]
    num_runs: int


@dataclass(frozen=True)
class Together:
    """Several studies on one page.

    Args:
        sides: the studies.
        arms: all their arms, in the order of their colours.
        on_one_axis: the figure of all arms; None if the studies differ in metric or data.
        apart: why figures share no axis; empty if they do.
        differing: setting -> its value in each study, of the settings that differ.
        same: the cells that are the same runs.
        num_shared: runs that more than one study has.
    """

    sides: list[Side]
    arms: list[str]
    on_one_axis: Figure | None
    apart: str
    differing: dict[str, list[str]]
    same: list[SameRuns]
    num_shared: int

    @property
    def figures(self) -> list[Figure]:
        return [*([self.on_one_axis] if self.on_one_axis else []), *(figure for side in self.sides for figure in side.figures)]


def gather(studies: Sequence[tuple[StudyRecord, StudyResult, Store]]) -> Together:
    """Gather what the page says. ``studies``: each with its result and the store of its runs; at least two."""
    sides = [_side(*study) for study in studies]
    arms = list(dict.fromkeys(o.arm for side in sides for o in side.result.outcomes))
    apart = _apart(sides)
    shared = [set.intersection(*({o.run_id for o in side.result.outcomes} for side in pair)) for pair in combinations(sides, 2)]
    return Together(
        sides=_drawn(sides, arms, together=not apart),
        arms=arms,
        on_one_axis=None if apart else _all_arms(sides),
        apart=apart,
        differing=_differing(sides),
        same=[same for pair in combinations(sides, 2) for same in _same_runs(*pair)],
        num_shared=len(set.union(*shared)),
    )


def render(found: Together, command: str) -> str:
    """The page as the text of one HTML document. ``command``: the command that writes it again."""
    return page(
        TEMPLATE,
        t=found,
        looks=arm_looks(found.arms),
        on_one_axis=embedded(found.on_one_axis, "studies") if found.on_one_axis else None,
        drawn={side.name: [embedded(f, side.name, legend=False) for f in side.figures] for side in found.sides},
        command=command,
    )


def _side(record: StudyRecord, result: StudyResult, store: Store) -> Side:
    runs = store.records([outcome.run_id for outcome in result.outcomes])
    arms = list(dict.fromkeys(outcome.arm for outcome in result.outcomes))
    configuration, _ = gather_configuration(result.study, result.outcomes, runs, arms)
    trained = days([run.summary.finished_at for run in runs.values() if run.finished])
    return Side(record, result, study_facts(record.runs, store), configuration, trained)


def _apart(sides: Sequence[Side]) -> str:
    """Why the figures share no axis, as a sentence; empty if they do."""
    first, *others = sides
    if any(side.result.metric != first.result.metric for side in others):
        named = ", ".join(f"{side.name} {side.result.metric}" for side in sides)
        return f"The studies are read by different metrics ({named}), so their figures share no axis."
    if any(side.facts is None or first.facts is None or not first.facts.like(side.facts) for side in others):
        return "The studies were tested on different data, so their figures share no axis."
    return ""


def _drawn(sides: Sequence[Side], arms: Sequence[str], *, together: bool) -> list[Side]:
    """The studies with their main figures; of one kind on a common axis if the studies are ``together``."""
    factors = [side.factor for side in sides]
    first = [[c for c in side.result.comparisons if c.measure == side.result.comparisons[0].measure] for side in sides]
    known = [comparisons[0].measure for comparisons in first if comparisons]
    also: Ends | None = None
    if together and all(factors):
        also = _union([factor_ends(factor) for factor in factors if factor])
    elif together and not any(factors) and len(known) == len(sides) and len(set(known)) == 1:
        also = _union([difference_ends(comparisons) for comparisons in first])
    return [
        replace(side, figures=[replace(f, id=f"study-{k}-{f.id}") for f in charts.main(side.result, arms, also)])
        for k, side in enumerate(sides)
    ]


def _union(ends: Sequence[Ends]) -> Ends:
    return min(low for low, _ in ends), max(high for _, high in ends)


def _all_arms(sides: Sequence[Side]) -> Figure | None:
    """Mean and 95 % interval of every arm of all studies; of many levels the best of each arm."""
    few = sum(len(side.result.arms) for side in sides) <= MOST_ROWS
    unit, metric = sides[0].result.unit, sides[0].result.metric
    shown = [(side, s) for side in sides for s in (side.result.arms if few else _best(side.result.arms)) if np.isfinite(s.mean)]
    if not shown:
        return None
    rows = [_arm_row(side.name, s, unit, level_unit(metric, unit)) for side, s in shown]
    words = "; ".join(f"{row['row']} {row['text']} {row['interval']}".rstrip(" –").replace("\n", " of ") for row in rows)
    kept = "" if few else ", each arm at its best level"
    chart = _arms_chart(rows, [side.name for side in sides], metric, level_unit(metric, unit))
    return Figure("all-arms", chart, f"{metric} of all arms{kept}, mean over seeds with 95 % interval: {words}.")


def _arm_row(study: str, s: ArmSummary, unit: str, shown_unit: str) -> dict[str, Any]:
    known = {"study": study, "row": f"{_cell(s.arm, s.level)}\n{study}", "n": s.n, "mean": s.mean, "low": s.low, "high": s.high}
    return known | {"text": quantity(s.mean, shown_unit), "interval": interval(s.low, s.high, unit) or "–"}


def _best(arms: Sequence[ArmSummary]) -> list[ArmSummary]:
    """Each arm at its level with the best mean; the arms without a value are left out."""
    best: dict[str, ArmSummary] = {}
    for s in arms:
        if np.isfinite(s.mean) and (s.arm not in best or s.mean > best[s.arm].mean):
            best[s.arm] = s
    return list(best.values())


def _arms_chart(rows: list[dict[str, Any]], studies: Sequence[str], metric: str, unit: str) -> alt.LayerChart:
    """One row per arm, coloured by study."""
    ends = near(*style.extent(*(pl.Series([row[name] for row in rows]) for name in ("mean", "low", "high"))), unit)
    scale = alt.Scale(domain=[ends["low"], ends["high"]], nice=False, zero=False)
    axis = alt.Axis(tickCount=6)
    title = f"{metric} ({unit})".removesuffix(" ()")
    y = alt.Y("row:N", sort=[row["row"] for row in rows], axis=style.line_axis())
    fill = alt.Fill("study:N", title=None, scale=alt.Scale(domain=list(studies), range=list(style.COLOURS)))
    stroke = alt.Stroke("study:N", title=None, scale=alt.Scale(domain=list(studies), range=list(style.COLOURS)))
    shape = alt.Shape("study:N", title=None, scale=alt.Scale(domain=list(studies), range=list(style.SHAPES)))
    tooltip = [alt.Tooltip("row:N", title="arm"), alt.Tooltip("text:N", title="mean")]
    tooltip += [alt.Tooltip("interval:N", title="95 % interval"), alt.Tooltip("n:Q")]
    base = alt.Chart(style.data(rows)).encode(y)
    layers = alt.layer(
        base.mark_rule(strokeWidth=2.5).encode(
            alt.X("low:Q", title=title, scale=scale, axis=axis), alt.X2("high:Q"), stroke, tooltip=tooltip
        ),
        base.mark_point(filled=True, size=90, opacity=1).encode(
            alt.X("mean:Q", title=title, scale=scale, axis=axis), fill, shape, tooltip=tooltip
        ),
    )
    heading = alt.TitleParams(f"{metric} of all arms", subtitle=ends["note"]) if ends["note"] else f"{metric} of all arms"
    return style.finish(layers, heading, 44 * len(rows))


def _differing(sides: Sequence[Side]) -> dict[str, list[str]]:
    """Setting -> its value in each study, of those that differ."""
    read: dict[str, Callable[[Side], str]] = {
        "metric": lambda side: side.result.metric,
        "analysis": lambda side: str(side.result.study["analysis"]),
        "baseline": lambda side: str(side.result.study["baseline"] or "all pairs"),
        "arms": lambda side: ", ".join(dict.fromkeys(o.arm for o in side.result.outcomes)),
        "seeds": lambda side: str(len({o.seed for o in side.result.outcomes})),
        "runs": lambda side: str(len({o.run_id for o in side.result.outcomes})),
        "test images": lambda side: str(side.facts.num_test) if side.facts else "not known",
        "trained": lambda side: side.trained or "not yet",
    }
    found = {name: [value(side) for side in sides] for name, value in read.items()}
    keys = dict.fromkeys(key for side in sides for key in _settings(side.configuration))
    found |= {key: [_settings(side.configuration).get(key, "–") for side in sides] for key in keys if key != "seed"}
    return {name: values for name, values in found.items() if len(set(values)) > 1}


def _settings(configuration: Configuration) -> dict[str, str]:
    """Key -> its value, or its values if it varies or differs between arms."""
    by_arm = {key: "by arm: " + ", ".join(dict.fromkeys(values.values())) for key, values in configuration.differing.items()}
    return configuration.fixed | {key: f"varied: {value}" for key, value in configuration.varied.items()} | by_arm


def _same_runs(one: Side, other: Side) -> list[SameRuns]:
    """The cells of two studies that have runs in common."""
    cells = [_cells(side.result.outcomes) for side in (one, other)]
    return [
        SameRuns((f"{a} of {one.name}", f"{b} of {other.name}"), len(mine & theirs))
        for a, mine in cells[0].items()
        for b, theirs in cells[1].items()
        if mine & theirs
    ]


def _cells(outcomes: Sequence[Outcome]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for outcome in outcomes:
        found.setdefault(_cell(outcome.arm, outcome.level), set()).add(outcome.run_id)
    return found


def _cell(arm: str, level: str) -> str:
    return f"{arm}, {level}" if level else arm
