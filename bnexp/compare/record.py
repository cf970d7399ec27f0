"""A study as it is recorded before its first run trains: definition, id, settings and planned runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnexp.compare.tuned import choice_entry, tuned_setting
from bnexp.config import ConfigError, DataConfig, RunConfig, StudyConfig, TuneConfig
from bnexp.options import Analysis, Augment, DataName, Direction, Order
from bnexp.plan import RunSpec, flatten, identity, plain
from bnexp.tracking.store import Store, write_json

if TYPE_CHECKING:
    from bnexp.compose import StudyPlan

# Named beside every verdict where all runs agree in them: the size of the effect depends on them. Those of the second group
# only where they are not at their default.
ALWAYS_NAMED = ("data.name", "model.name", "optim.name", "optim.lr", "optim.momentum", "train.batch_size", "train.epochs")
ELSE_DEFAULT = (
    "data.train_size",
    "data.augment",
    "data.channels",
    "model.activation",
    "model.dropout",
    "model.init.scheme",
    "model.init.gain",
    "norm.eps",
    "norm.momentum",
    "optim.nesterov",
    "optim.weight_decay",
    "optim.schedule",
    "optim.warmup",
    "train.precision",
)


@dataclass(frozen=True)
class StudyRecord:
    """``study.json``. ``runs``: one entry a planned run with ``run_id arm levels seed``; ``overrides`` reproduce it.

    ``tuning``: the values that were tuned, one entry a cell (``tuned.choice_entry``).
    """

    study: StudyConfig
    study_id: str
    overrides: list[str]
    data: DataConfig
    settings: dict[str, str]
    runs: list[dict[str, Any]]
    tuning: list[dict[str, Any]] = field(default_factory=list)

    @property
    def command(self) -> str:
        """The command that runs exactly this study again."""
        import shlex

        return shlex.join(["bnexp", "study", self.study.name, *self.overrides])

    def path(self, store: Store) -> Path:
        return store.study_path(self.study.name, self.study_id)

    def save(self, store: Store) -> None:
        write_json(self.path(store) / "study.json", plain(asdict(self)))


def from_plan(plan: StudyPlan, overrides: Sequence[str]) -> StudyRecord:
    """The record of a study that is about to run; ``overrides`` are those besides ``study=NAME``."""
    specs = [RunSpec(config) for config in plan.configs]
    runs = [{"run_id": s.run_id, "arm": s.arm, "levels": s.levels, "seed": s.seed} for s in specs]
    data = plan.configs[0].data
    tuning = [choice_entry(choice) for choice in plan.choices]
    settings = shared_settings(plan.configs) | tuned_setting(tuning)
    return StudyRecord(plan.study, plan.study_id, list(overrides), data, settings, runs, tuning)


def load(path: Path) -> StudyRecord:
    """Read ``study.json``. Raises ConfigError where it is damaged."""
    try:
        return _from_dict(json.loads((path / "study.json").read_text()))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path / 'study.json'} is damaged ({error}); run the study again with the command that made it: its runs are kept."
        ) from error


def _from_dict(raw: dict[str, Any]) -> StudyRecord:
    study = StudyConfig(**raw["study"] | {"tune": TuneConfig(**raw["study"].get("tune", {}))})
    study.direction = Direction(study.direction)
    study.analysis = Analysis(study.analysis)
    study.expect = {level: Direction(direction) for level, direction in study.expect.items()}
    data = DataConfig(**raw["data"])
    data.name, data.augment, data.order = DataName(data.name), Augment(data.augment), Order(data.order)
    return StudyRecord(study, raw["study_id"], raw["overrides"], data, raw["settings"], raw["runs"], raw.get("tuning", []))


def shared_settings(configs: Sequence[RunConfig]) -> dict[str, str]:
    """The settings that matter and are equal in all runs, key -> text."""
    flat = [flatten(config) for config in configs]
    default = flatten(RunConfig())
    used = set.intersection(*(set(identity(config)) for config in configs))
    shared = {}
    for name in (*ALWAYS_NAMED, *ELSE_DEFAULT):
        values = {str(entry[name]) for entry in flat}
        if len(values) == 1 and name in used and (name in ALWAYS_NAMED or flat[0][name] != default[name]):
            shared[name] = values.pop()
    return shared
