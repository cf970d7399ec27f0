"""How far confidence can be trusted: the accuracy of images over the confidence of their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from bnexp.comparison.text import number
from bnexp.metrics import CONFIDENCE_EDGES
from bnexp.report import style
from bnexp.report.predictions import Frames


def calibration_error(frame: pl.DataFrame) -> float:
    """The expected calibration error of one run, 0 to 1, as training records it. ``frame``: its predictions."""
    bins = binned([frame])
    return float((bins["share"] * (bins["accuracy"] - bins["confidence"]).abs()).sum())


def binned(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The bins of confidence that hold an image.

    Args:
        frames: predictions of the runs of one arm; each image of each run counts once.

    Returns:
        ``bin confidence accuracy share``: number of the bin from 0, its mean confidence, its accuracy, and its share of all
        images, each 0 to 1.
    """
    whole = pl.concat(frame.select("confidence", "correct") for frame in frames)
    confidence = whole["confidence"].to_numpy().astype(np.float32)  # as recorded: an edge is a float32 number
    whole = whole.with_columns(bin=pl.Series(np.searchsorted(CONFIDENCE_EDGES[1:-1], confidence, side="left")))
    found = whole.group_by("bin").agg(
        confidence=pl.col("confidence").mean(), accuracy=pl.col("correct").mean(), share=pl.len() / len(whole)
    )
    return found.sort("bin")


def errors(frames: Frames) -> dict[str, float]:
    """Arm -> mean over its seeds of the expected calibration error, 0 to 1."""
    return {arm: float(np.mean([calibration_error(frame) for frame in by_seed.values()])) for arm, by_seed in frames.items()}


def overconfidence(frames: Frames) -> dict[str, float]:
    """Arm -> mean confidence minus accuracy over all its predictions, -1 to 1."""
    whole = {arm: pl.concat(frame.select("confidence", "correct") for frame in seeds.values()) for arm, seeds in frames.items()}
    return {
        arm: float(frame.select(pl.col("confidence").mean() - pl.col("correct").mean()).item()) for arm, frame in whole.items()
    }


def reliability_plot(frames: Frames, arms: Sequence[str]) -> alt.LayerChart:
    """Accuracy over confidence by bin, a line for each arm, and the diagonal of a network that is as right as it is sure.

    Below the diagonal a network is over-confident. The larger a point, the more images are in its bin. The expected calibration
    error is written beside the name of each arm.

    Args:
        frames: predictions; at least one.
        arms: all arms of the study, in the order of their colours.

    Reference: Guo et al., "On calibration of modern neural networks", 2017, arXiv:1706.04599, figure 1.
    """
    ece = errors(frames)
    rows = [row for arm, by_seed in frames.items() for row in _points(arm, list(by_seed.values()), ece[arm])]
    names = [
        {"arm": arm, "confidence": 3.0, "accuracy": 96.0 - 6 * k, "text": f"{arm}: ECE {number(100 * ece[arm], '%')} %"}
        for k, arm in enumerate(ece)
    ]
    scale, axis = alt.Scale(domain=[0, 100], nice=False), alt.Axis(tickCount=5)
    x = alt.X("confidence:Q", title="confidence (%)", scale=scale, axis=axis)
    y = alt.Y("accuracy:Q", title="accuracy (%)", scale=scale, axis=axis)

    def chart(shown: list[dict[str, Any]]) -> alt.Chart:
        return alt.Chart(style.data(shown)).transform_filter("indexof(hidden_arms, datum.arm) < 0").encode(x, y)

    diagonal = [{"confidence": end, "accuracy": end} for end in (0.0, 100.0)]
    size = alt.Size("share:Q", scale=alt.Scale(type="sqrt", domain=[0, 100], range=[30, 400]), legend=None)
    tooltip = [
        alt.Tooltip("arm:N"),
        alt.Tooltip("bin:N", title="bin of confidence"),
        alt.Tooltip("confidence:Q", format=".2f", title="mean confidence (%)"),
        alt.Tooltip("accuracy:Q", format=".2f", title="accuracy (%)"),
        alt.Tooltip("share:Q", format=".2f", title="of all images (%)"),
        alt.Tooltip("seeds:Q"),
        alt.Tooltip("ece:Q", format=".2f", title="ECE of the arm (%)"),
    ]
    layers = alt.layer(
        alt.Chart(style.data(diagonal)).mark_line(color=style.QUIET, strokeWidth=1).encode(x, y),
        chart(rows).mark_line(strokeWidth=2).encode(style.stroke(arms), style.dash(arms)),
        chart(rows).mark_point(filled=True, opacity=0.85).encode(size, style.fill(arms), style.shape(arms), tooltip=tooltip),
        chart(names)
        .mark_text(align="left", fontSize=12, fill=style.INK)
        .encode(alt.Text("text:N"))
        .properties(name="cells_light"),
        params=style.arm_params(),
    )
    return style.finish(layers, "Reliability", 340, symbol="stroke")


def _points(arm: str, frames: list[pl.DataFrame], ece: float) -> list[dict[str, Any]]:
    """One row per bin of an arm, in per cent."""
    known = {"arm": arm, "seeds": len(frames), "ece": 100 * ece}
    edges = 100 * CONFIDENCE_EDGES.astype(np.float64)
    return [
        known
        | {"bin": f"{edges[row['bin']]:.1f} to {edges[row['bin'] + 1]:.1f} %"}
        | {name: 100 * row[name] for name in ("confidence", "accuracy", "share")}
        for row in binned(frames).to_dicts()
    ]
