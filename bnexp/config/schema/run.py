"""All keys of a run."""

from __future__ import annotations

from dataclasses import dataclass

from bnexp.config.schema.data import DataConfig
from bnexp.config.schema.field import key
from bnexp.config.schema.model import ModelConfig, NormConfig
from bnexp.config.schema.probe import ProbeConfig
from bnexp.config.schema.study import BudgetConfig, StudyConfig
from bnexp.config.schema.track import ExecutorConfig, TrackConfig
from bnexp.config.schema.train import OptimConfig, TrainConfig


@dataclass
class RunConfig:
    """One training: everything that decides its result, and how the result is presented."""

    seed: int = key(0, "seed of initial weights, data order, augmentation and dropout", low=0)
    data: DataConfig = key(factory=DataConfig)
    model: ModelConfig = key(factory=ModelConfig)
    norm: NormConfig = key(factory=NormConfig)
    optim: OptimConfig = key(factory=OptimConfig)
    train: TrainConfig = key(factory=TrainConfig)
    probe: ProbeConfig = key(factory=ProbeConfig)
    track: TrackConfig = key(factory=TrackConfig, identity=False)
    executor: ExecutorConfig = key(factory=ExecutorConfig, identity=False)
    budget: BudgetConfig = key(factory=BudgetConfig, identity=False)
    optimized_metric: str | None = key(
        None, "metric of the last epoch that a searching sweeper optimises; null: val/accuracy", identity=False
    )
    study: StudyConfig = key(factory=StudyConfig, identity=False)
