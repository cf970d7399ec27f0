"""The configuration of a run and of a study: every key, its type, default, range and meaning.

Values live in ``configs/*.yaml``; this folder says which keys exist. It needs the standard library only, so that command-line
help and completion stay quick. ``compose.py`` turns names and overrides into these dataclasses, ``validate.py`` checks them.
"""

from __future__ import annotations

from bnexp.config.schema.data import DataConfig
from bnexp.config.schema.errors import ConfigError, MachineError, refuse_text
from bnexp.config.schema.field import key
from bnexp.config.schema.model import LENET_CHANNELS, LENET_UNITS, InitConfig, ModelConfig, NormConfig
from bnexp.config.schema.probe import READING_SHIFT, READING_SIZES, ProbeConfig
from bnexp.config.schema.run import RunConfig
from bnexp.config.schema.study import (
    BudgetConfig,
    Decides,
    LinearRule,
    Published,
    Reference,
    RefineConfig,
    ShowConfig,
    StudyConfig,
    TuneConfig,
)
from bnexp.config.schema.track import ExecutorConfig, TrackConfig, WandbConfig
from bnexp.config.schema.train import OptimConfig, TrainConfig

__all__ = [
    "LENET_CHANNELS",
    "LENET_UNITS",
    "READING_SHIFT",
    "READING_SIZES",
    "BudgetConfig",
    "ConfigError",
    "DataConfig",
    "Decides",
    "ExecutorConfig",
    "InitConfig",
    "LinearRule",
    "MachineError",
    "ModelConfig",
    "NormConfig",
    "OptimConfig",
    "ProbeConfig",
    "Published",
    "Reference",
    "RefineConfig",
    "RunConfig",
    "ShowConfig",
    "StudyConfig",
    "TrackConfig",
    "TrainConfig",
    "TuneConfig",
    "WandbConfig",
    "key",
    "refuse_text",
]
