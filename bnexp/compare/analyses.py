"""The list of analyses: ``study.analysis`` -> what it asks and how it speaks."""

from __future__ import annotations

from bnexp.compare.interaction import Interaction
from bnexp.compare.levels import Levels
from bnexp.compare.matched_loss import MatchedLoss
from bnexp.compare.method import Method
from bnexp.compare.predictions import Predictions
from bnexp.compare.sensitivity import Sensitivity
from bnexp.compare.time_to_target import TimeToTarget
from bnexp.compare.trend import Trend
from bnexp.config.options import Analysis

ANALYSES: dict[Analysis, Method] = {
    Analysis.levels: Levels(),
    Analysis.sensitivity: Sensitivity(),
    Analysis.interaction: Interaction(),
    Analysis.trend: Trend(),
    Analysis.time_to_target: TimeToTarget(),
    Analysis.matched_loss: MatchedLoss(),
    Analysis.predictions: Predictions(),
}
