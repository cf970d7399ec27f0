"""The charts of a study, each with what it shows in words. The report, the book and W&B draw from the same ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import altair as alt
import polars as pl
from altair.utils.schemapi import debug_mode

from bnexp.comparison.result import StudyResult
from bnexp.plan.shown import RELIABILITY
from bnexp.report import figures, words
from bnexp.report.axes import Ends
from bnexp.report.courses import CURVES, summarise
from bnexp.report.curves import learning_curve, percentiles
from bnexp.report.factor import Factor, study_factor
from bnexp.report.predictions import Frames, PredictionSection
from bnexp.report.reliability import errors, overconfidence, reliability_plot
from bnexp.report.sections import Report, paired_differences
from bnexp.report.sequence import last_bounds, sequence_plot, watched


@dataclass(frozen=True)
class Figure:
    """A chart and what it shows in words.

    Args:
        id: on a page.
        chart: what is drawn.
        description: what it shows, with the numbers.
        told: level -> description, of a chart that shows one level at a time.
    """

    id: str
    chart: alt.LayerChart = field(repr=False)
    description: str
    told: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def title(self) -> str:
        """What stands above the chart."""
        title = self.chart.title
        return str(title.text if isinstance(title, alt.TitleParams) else title)


def sections(report: Report, summary: pl.DataFrame) -> dict[str, list[Figure]]:
    """Section of a report -> its figures. They are not validated while they are made, as in ``style.spec``.

    Args:
        report: what is drawn.
        summary: of ``courses.summarise``, of the report's curves.
    """
    with debug_mode(False):
        return _sections(report, summary)


def _sections(report: Report, summary: pl.DataFrame) -> dict[str, list[Figure]]:
    result, arms, focus = report.result, report.arms, report.focus
    return {
        "differences": differences(result, arms),
        "sequences": sequences(result, arms),
        "factors": [*over_factor(result, report.factor, arms), *over_factor(result, report.advantage, arms)],
        "beside": beside(report.beside, arms),
        "curves": curves(summary, CURVES, arms, focus),
        "probes": probes(report.probes, arms, focus),
        "reliability": reliability(report.frames, arms, focus) if RELIABILITY in report.show.figures else [],
        "confusions": confusions(report.predictions, report.class_names),
    }


def curves(summary: pl.DataFrame, metrics: Iterable[str], arms: Sequence[str], level: str) -> list[Figure]:
    """Losses and accuracies by epoch, those of ``metrics`` that were recorded.

    Args:
        summary: of ``courses.summarise``.
        metrics: names, of ``CURVES``.
        arms: all arms of the study, in the order of their colours.
        level: the level that is shown at first.
    """
    present = set(summary["metric"])
    return [
        _by_epoch(
            f"curve-{metric.replace('/', '-')}",
            metric.replace("/", "_"),
            learning_curve(summary, metric, arms, level),
            words.courses(summary, metric, CURVES[metric], arms),
            level,
        )
        for metric in metrics
        if metric in present
    ]


def _by_epoch(id: str, name: str, chart: alt.LayerChart, told: dict[str, str], level: str) -> Figure:
    return Figure(id, chart, told.get(level) or f"{name}: nothing was recorded at {level}.", told)


def differences(result: StudyResult, arms: Sequence[str], also: Ends | None = None) -> list[Figure]:
    """The paired differences, one chart per measure, because measures differ in unit.

    Args:
        result: the study.
        arms: all arms of the study, in the order of their colours.
        also: values that the axis of the first chart covers besides.
    """
    frame = paired_differences(result)
    order = list(dict.fromkeys(c.measure for c in result.comparisons))
    ordered = sorted(result.comparisons, key=lambda c: order.index(c.measure))
    found = []
    for k, (_, group) in enumerate(groupby(ordered, key=lambda c: c.measure)):
        comparisons = [c for c in group if math.isfinite(c.difference)]
        if not comparisons:
            continue
        chart = figures.difference_plot(frame, comparisons, arms, also if k == 0 else None)
        found.append(Figure(f"difference-{k}", chart, words.differences(comparisons)))
    return found


def sequences(result: StudyResult, arms: Sequence[str]) -> list[Figure]:
    """The deciding comparisons as the seeds came, one chart each."""
    return [
        Figure(f"sequence-{k}", sequence_plot(result, c, arms), words.sequence(c, last_bounds(result, c)))
        for k, c in enumerate(watched(result))
    ]


def over_factor(result: StudyResult, factor: Factor | None, arms: Sequence[str], also: Ends | None = None) -> list[Figure]:
    """The study's metric, or the difference from a baseline, over a factor: one chart per panel; none without a factor.

    Args:
        result: the study.
        factor: what is drawn.
        arms: all arms of the study, in the order of their colours.
        also: values that the vertical axis covers besides.
    """
    if factor is None:
        return []
    kind = "advantage" if factor.baseline else "factor"
    return [
        Figure(
            f"{kind}-{k}",
            figures.factor_plot(factor, panel, arms, result.metric, result.unit, also),
            words.over_factor(factor, panel, result.metric, result.unit),
        )
        for k, panel in enumerate(factor.panels)
    ]


def main(result: StudyResult, arms: Sequence[str], also: Ends | None = None) -> list[Figure]:
    """The one figure that tells a study: its metric over its factor, else the paired differences of its first measure.

    Args:
        result: the study.
        arms: all arms that have a colour, in the order of their colours.
        also: values that the axis covers besides.
    """
    return over_factor(result, study_factor(result), arms, also) or differences(result, arms, also)[:1]


def beside(others: Sequence[StudyResult], arms: Sequence[str]) -> list[Figure]:
    """The main figure of the study in each of its other metrics."""
    return [replace(figure, id=f"beside-{k}-{figure.id}") for k, other in enumerate(others) for figure in main(other, arms)]


def probes(recorded: pl.DataFrame, arms: Sequence[str], level: str) -> list[Figure]:
    """What probes measured, by epoch: percentiles of each layer's pre-activations, and every metric of a whole network."""
    summary = summarise(recorded)
    names = sorted(set(summary["metric"]))
    layers = [name.split("/")[1] for name in names if name.startswith("activations/") and name.endswith("/p50")]
    drawn = []
    for layer in layers:
        name, median = f"Pre-activations of {layer}", f"activations/{layer}/p50"
        told = words.courses(summary, median, f"{name}, median", arms)
        drawn.append((name, percentiles(summary, layer, arms, level), told))
    drawn += [
        (name, learning_curve(summary, name, arms, level), words.courses(summary, name, name, arms))
        for name in names
        if name.count("/") == 1
    ]
    return [_by_epoch(f"probe-{k}", name, chart, told, level) for k, (name, chart, told) in enumerate(drawn)]


def reliability(frames: Frames, arms: Sequence[str], level: str) -> list[Figure]:
    """Accuracy over confidence; none without predictions.

    Args:
        frames: predictions at one level.
        arms: all arms of the study, in the order of their colours.
        level: the level of the predictions; empty without factors.
    """
    if not frames:
        return []
    description = words.reliability(errors(frames), overconfidence(frames), level)
    return [Figure("reliability", reliability_plot(frames, arms), description)]


def confusions(section: PredictionSection | None, class_names: Sequence[str]) -> list[Figure]:
    """One confusion matrix per arm; none without predictions."""
    return [
        Figure(
            f"confusion-{k}",
            figures.confusion_heatmap(matrix, class_names, arm),
            words.confusion(matrix, class_names, arm),
        )
        for k, (arm, matrix) in enumerate(section.confusions.items() if section else ())
    ]
