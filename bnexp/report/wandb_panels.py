"""The panels of a study on W&B: what the workspace and the W&B report show, and of which runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wandb_workspaces import expr
from wandb_workspaces.reports import v2 as wr

from bnexp.plan.study import Level
from bnexp.report.courses import CURVES
from bnexp.report.factor import LOG_SPAN
from bnexp.report.sections import Report
from bnexp.report.style import COLOURS

ARM = "arm"  # key of a run's configuration on W&B
FIRST = "val/accuracy"  # of the curves
MOST_PROBES = 12  # panels of what probes measured
MOST_SHOWN = 1000  # runs that a panel draws; without a number W&B draws 10


@dataclass(frozen=True)
class Held:
    """What W&B holds of a study.

    Args:
        group: name of its W&B group.
        runs: id of a run here -> id of its W&B run.
        planned: number of runs with a record that the study compares.
        page: address of the study's own W&B run; empty if there is none.
        report: address of its ``report.html`` there; empty if it is not there.
    """

    group: str
    runs: Mapping[str, str] = field(repr=False)
    planned: int
    page: str = ""
    report: str = ""

    @property
    def lacking(self) -> int:
        """Number of recorded runs that W&B does not hold."""
        return self.planned - len(self.runs)


def factors(report: Report) -> dict[str, list[Level]]:
    """Factor -> its levels, of factors that have at least two."""
    found: dict[str, dict[Level, None]] = {}
    for outcome in report.result.outcomes:
        for name, level in outcome.levels.items():
            found.setdefault(name, {})[level] = None
    return {name: list(levels) for name, levels in found.items() if len(levels) > 1}


def run_filter(report: Report, held: Held, level: str | None = None) -> Any:
    """The filter of W&B that lets the study's own runs through, and no others of its group.

    Args:
        report: of the study.
        held: what W&B holds of it.
        level: only runs at this level, as text; None for all.
    """
    wanted = [o.run_id for o in report.result.outcomes if level is None or o.level == level]
    ids = [held.runs[run_id] for run_id in dict.fromkeys(wanted) if run_id in held.runs]
    return expr.And(expr.Metric("Group") == held.group, expr.Metric("ID").isin(ids))


def colours(arms: Sequence[str]) -> dict[str, str]:
    """Arm -> its colour in the report."""
    return {arm: COLOURS[k % len(COLOURS)] for k, arm in enumerate(arms)}


def curve_panels(report: Report) -> list[Any]:
    """A panel for each metric recorded by epoch: the mean of each arm, and a band from its lowest to its highest run."""
    recorded = set(report.curves["metric"].unique())
    shown = [metric for metric in (FIRST, *CURVES) if metric in recorded]
    titles = CURVES | {"learning_rate": "Learning rate"}
    return _placed([_line(report, metric, titles[metric]) for metric in dict.fromkeys([*shown, "learning_rate"])])


def probe_panels(report: Report) -> list[Any]:
    """The same for what probes measured, at most ``MOST_PROBES``."""
    metrics = report.probes["metric"].unique(maintain_order=True).to_list()
    return _placed([_line(report, metric, metric) for metric in metrics[:MOST_PROBES]])


def _line(report: Report, metric: str, title: str) -> Any:
    return wr.LinePlot(
        title=f"{title} by arm",
        x="epoch",
        title_x="epoch",
        title_y=metric,
        y=[metric],
        groupby=wr.Config(ARM),
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=limit(report),
    )


def result_panels(report: Report) -> list[Any]:
    """A bar for each arm: the study's metric at the end, and the test accuracy if that is another metric."""
    metrics = dict.fromkeys([report.result.metric, "test/accuracy"])
    return _placed(
        [
            wr.BarPlot(
                title=f"{metric} at the end, mean by arm",
                metrics=[metric],
                title_x=metric,
                groupby=wr.Config(ARM),
                groupby_aggfunc="mean",
                groupby_rangefunc="minmax",
                max_runs_to_show=limit(report),
                max_bars_to_show=max(len(report.arms), 10),
            )
            for metric in metrics
        ]
    )


def factor_panels(report: Report) -> list[Any]:
    """Parallel coordinates over the arm, all factors and the metric, a scatter plot for each factor, and importance; empty
    without factors.
    """
    found, metric = factors(report), report.result.metric
    if not found:
        return []
    columns = [wr.ParallelCoordinatesPlotColumn(wr.Config(ARM), display_name="arm")]
    columns += [
        wr.ParallelCoordinatesPlotColumn(_level_key(name), display_name=name, log=_is_log(levels))
        for name, levels in found.items()
    ]
    columns.append(wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(metric), display_name=metric))
    panels = [wr.ParallelCoordinatesPlot(title=f"{metric} over {', '.join(found)}", columns=columns)]
    panels += [
        wr.ScatterPlot(
            title=f"{metric} over {name}", x=_level_key(name), y=wr.SummaryMetric(metric), log_x=_is_log(levels) or None
        )
        for name, levels in found.items()
    ]
    return _placed([*panels, wr.ParameterImportancePlot(with_respect_to=metric)], first_wide=True)


def _level_key(factor: str) -> Any:
    """Where W&B holds the level of a factor; W&B reads a dot as nesting, so names have none."""
    return wr.Config(f"levels.{factor.replace('.', '_')}")


def _is_log(levels: Sequence[Level]) -> bool:
    numbers = [level for level in levels if isinstance(level, int | float) and not isinstance(level, bool)]
    return len(numbers) == len(levels) and min(numbers) > 0 and max(numbers) / min(numbers) >= LOG_SPAN


def limit(report: Report) -> int:
    """How many runs a panel draws."""
    return min(max(len(report.result.outcomes), 10), MOST_SHOWN)


def _placed(panels: list[Any], *, first_wide: bool = False) -> list[Any]:
    """The panels, two in a row of the 24 columns of W&B's grid; ``first_wide``: the first has a row of its own."""
    places = [(0, 0, 24)] if first_wide else []
    top = 8 * len(places)
    places += [(12 * (k % 2), top + 8 * (k // 2), 12) for k in range(len(panels) - len(places))]
    for panel, (x, y, w) in zip(panels, places, strict=True):
        panel.layout = wr.Layout(x=x, y=y, w=w, h=8)
    return panels


def columns(report: Report) -> list[str]:
    """The columns that W&B's table of runs shows first."""
    levels = [f"config:levels.value.{name.replace('.', '_')}" for name in factors(report)]
    return ["run:displayName", f"config:{ARM}.value", *levels, "config:seed.value", f"summary:{report.result.metric}"]
