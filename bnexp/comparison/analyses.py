"""The list of analyses: ``study.analysis`` -> what it asks and how it speaks."""

from __future__ import annotations

from bnexp.comparison.interaction import Interaction
from bnexp.comparison.levels import Levels
from bnexp.comparison.matched import Matched
from bnexp.comparison.method import Method
from bnexp.comparison.predictions import Predictions
from bnexp.comparison.sensitivity import Sensitivity
from bnexp.comparison.time_to_target import TimeToTarget
from bnexp.comparison.trend import Trend
from bnexp.config.options import Analysis

ANALYSES: dict[Analysis, Method] = {
    Analysis.levels: Levels(),
    Analysis.sensitivity: Sensitivity(),
    Analysis.interaction: Interaction(),
    Analysis.trend: Trend(),
    Analysis.time_to_target: TimeToTarget(),
    Analysis.matched: Matched(),
    Analysis.predictions: Predictions(),
}
