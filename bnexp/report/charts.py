"""The charts of a study, each with what it shows in words. The report, the book and W&B draw from the same ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import altair as alt
import polars as pl

from bnexp.comparison.result import StudyResult
from bnexp.report import figures
from bnexp.report.courses import CURVES, summarise
from bnexp.report.factor import Factor, study_factor
from bnexp.report.predictions import Frames, PredictionSection
from bnexp.report.reliability import errors, reliability_plot
from bnexp.report.sections import paired_differences
from bnexp.report.sequence import groups, sequence_plot


@dataclass(frozen=True)
class Figure:
    """A chart: its id on a page, its name on W&B, and what it shows in words."""

    id: str
    name: str
    chart: alt.LayerChart = field(repr=False)
    description: str


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
        Figure(
            f"curve-{metric.replace('/', '-')}",
            metric.replace("/", "_"),
            figures.learning_curve(summary, metric, arms, level),
            f"{CURVES[metric]} by epoch, a line for each of {', '.join(arms)}.",
        )
        for metric in metrics
        if metric in present
    ]


def differences(result: StudyResult, arms: Sequence[str]) -> list[Figure]:
    """The paired differences, one chart per measure, because measures differ in unit."""
    frame = paired_differences(result)
    order = list(dict.fromkeys(c.measure for c in result.comparisons))
    ordered = sorted(result.comparisons, key=lambda c: order.index(c.measure))
    found = []
    for k, (measure, group) in enumerate(groupby(ordered, key=lambda c: c.measure)):
        comparisons = [c for c in group if math.isfinite(c.difference)]
        if not comparisons:
            continue
        words = "; ".join(f"{c.arm} minus {c.baseline} {c.level}: {c.difference:+.3g} {c.unit}" for c in comparisons)
        chart = figures.difference_plot(frame, comparisons, arms)
        found.append(Figure(f"difference-{k}", "paired_differences", chart, f"Paired differences in {measure}. {words}."))
    return found


def sequences(result: StudyResult, arms: Sequence[str]) -> list[Figure]:
    """The deciding comparisons as the seeds came, one chart per measure and level."""
    found = []
    for k, comparisons in enumerate(groups(result)):
        words = "; ".join(f"{c.arm} minus {c.baseline}: {c.difference:+.3g} {c.unit} with {c.n} seeds" for c in comparisons)
        about = f"{comparisons[0].measure} {comparisons[0].level}".rstrip()
        description = f"Mean difference in {about} over the number of seeds, with 95 % confidence sequence. {words}."
        found.append(Figure(f"sequence-{k}", "confidence_sequence", sequence_plot(result, comparisons, arms), description))
    return found


def over_factor(result: StudyResult, factor: Factor | None, arms: Sequence[str]) -> list[Figure]:
    """The study's metric, or the difference from a baseline, over a factor: one chart per panel; none without a factor."""
    if factor is None:
        return []
    kind = "advantage" if factor.baseline else "factor"
    about = f"{result.metric}, difference from {factor.baseline}," if factor.baseline else result.metric
    series = ", ".join(dict.fromkeys(factor.frame["arm"]))
    return [
        Figure(
            f"{kind}-{k}",
            " ".join([kind, panel]).strip(),
            figures.factor_plot(factor, panel, arms, result.metric, result.unit),
            f"{about} over {factor.name}, a series for each of {series}{', ' if panel else ''}{panel}.",
        )
        for k, panel in enumerate(factor.panels)
    ]


def main(result: StudyResult, arms: Sequence[str]) -> list[Figure]:
    """The one figure that tells a study: its metric over its factor, else the paired differences of its first measure."""
    return over_factor(result, study_factor(result), arms) or differences(result, arms)[:1]


def beside(others: Sequence[StudyResult], arms: Sequence[str]) -> list[Figure]:
    """The main figure of the study in each of its other metrics."""
    return [replace(figure, id=f"beside-{k}-{figure.id}") for k, other in enumerate(others) for figure in main(other, arms)]


def probes(recorded: pl.DataFrame, arms: Sequence[str], level: str) -> list[Figure]:
    """What probes measured, by epoch: percentiles of each layer's pre-activations, and every metric of a whole network."""
    summary = summarise(recorded)
    names = sorted(set(summary["metric"]))
    layers = [name.split("/")[1] for name in names if name.startswith("activations/") and name.endswith("/p50")]
    drawn = {f"Pre-activations of {layer}": figures.percentiles(summary, layer, arms, level) for layer in layers}
    whole = [name for name in names if name.count("/") == 1]
    drawn |= {name: figures.learning_curve(summary, name, arms, level) for name in whole}
    return [
        Figure(f"probe-{k}", name, chart, f"{name} by epoch, a line for each of {', '.join(arms)}.")
        for k, (name, chart) in enumerate(drawn.items())
    ]


def reliability(frames: Frames, arms: Sequence[str], level: str) -> list[Figure]:
    """Accuracy over confidence; none without predictions.

    Args:
        frames: predictions at one level.
        arms: all arms of the study, in the order of their colours.
        level: the level of the predictions; empty without factors.
    """
    if not frames:
        return []
    words = "; ".join(f"{arm}: {100 * ece:.2f} %" for arm, ece in errors(frames).items())
    about = "Accuracy over confidence in 15 bins, with the diagonal of a network that is as right as it is sure"
    description = f"{about}{f', at {level}' if level else ''}. Expected calibration error of {words}."
    return [Figure("reliability", "reliability", reliability_plot(frames, arms), description)]


def confusions(section: PredictionSection | None, class_names: Sequence[str]) -> list[Figure]:
    """One confusion matrix per arm, which is its name; none without predictions."""
    return [
        Figure(
            f"confusion-{k}",
            arm,
            figures.confusion_heatmap(matrix, class_names, arm),
            f"Confusion matrix of {arm}: mean counts, true class down, predicted class across.",
        )
        for k, (arm, matrix) in enumerate(section.confusions.items() if section else ())
    ]
