"""``track.*`` and ``executor.*``: what is kept of a run, and where it trains. None of it decides the result."""

from __future__ import annotations

from dataclasses import dataclass

from bnexp.config.options import ExecutorName, WandbMode
from bnexp.config.schema.field import key


@dataclass
class WandbConfig:
    mode: WandbMode = key(
        WandbMode.auto,
        "auto: as WANDB_MODE says, else online when a key is configured, else offline. The others win over WANDB_MODE, but "
        "WANDB_MODE=disabled always wins",
        identity=False,
    )
    project: str = key("bnexp", "W&B project", identity=False)
    entity: str | None = key(None, "W&B user or team", identity=False)
    tags: list[str] = key(factory=list, help="more W&B tags", identity=False)
    artifacts: bool = key(False, "log the weights as an artifact of type model", identity=False)
    group: str | None = key(None, "W&B group; null: the study's name", identity=False)
    job_type: str | None = key(None, "W&B job type of runs; null: their arm", identity=False)
    notes: str | None = key(None, "W&B notes of every run", identity=False)
    machine: bool = key(
        False,
        "have W&B itself record machine, console, code and git; it names the machine and its user, and takes longer than a "
        "small run",
        identity=False,
    )


@dataclass
class TrackConfig:
    predictions: int = key(128, "test images in the W&B prediction table; 0: no table", low=0, identity=False)
    predictions_every: int | None = key(
        None,
        "epochs between predictions of the test images during training, recorded and shown as tables on W&B; null: only at "
        "the end",
        low=1,
        identity=False,
    )
    wandb: WandbConfig = key(factory=WandbConfig, help="Weights & Biases", identity=False)


@dataclass
class ExecutorConfig:
    name: ExecutorName = key(
        ExecutorName.auto,
        "local: pool of processes; inline: this process; ray: tasks on a Ray cluster; auto: by device",
        identity=False,
    )
    workers: int | None = key(None, "number of worker processes; null: one per core", low=1, identity=False)
    address: str | None = key(
        None,
        "Ray cluster, HOST:PORT or auto; null: RAY_ADDRESS if it is set, else a new Ray on this machine",
        identity=False,
    )
