"""What every rung of the ladder does: the same runs on the same images. Does not import torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from bnexp.config.keys import did_you_mean
from bnexp.config.options import DataName, Device, NormKind, Placement
from bnexp.config.schema import ConfigError, DataConfig, NormConfig, RunConfig, StudyConfig, TrainConfig

ARMS = {
    "none": NormConfig(kind=NormKind.none),
    "after_pool": NormConfig(kind=NormKind.batch, placement=Placement.after_pool),
}


class BenchError(Exception):
    """A rung failed, or cannot be measured here. The message says which and why."""


@dataclass(frozen=True)
class Rung:
    """A way of doing the work.

    Args:
        name: its name.
        adds: what it is, in terms of the rungs below it.
        overrides: further arguments of ``bnexp``, for the rungs that are bnexp.
    """

    name: str
    adds: str
    overrides: tuple[str, ...] = ()

    @property
    def is_bnexp(self) -> bool:
        """Whether it is the ``bnexp`` command."""
        return self.name.startswith("B5") or self.is_settling

    @property
    def is_peer(self) -> bool:
        """Whether other people's tools train here, with random numbers of their own."""
        return self.name.startswith("P")

    @property
    def is_settling(self) -> bool:
        """Whether it is about the time to an answer, and always does ``SETTLING``."""
        return self.name.startswith("S")


RUNGS = {
    rung.name: rung
    for rung in (
        Rung("B0", "the tutorial: torchvision transforms, DataLoader, plain nn.Module, runs one after another"),
        Rung("B1", "tuned DataLoader: images decoded once, persistent worker processes, pinned memory on a GPU"),
        Rung("B2", "only no DataLoader: B0 with its images as one tensor in memory"),
        Rung("B3", "B2 with its runs side by side in single-threaded processes"),
        Rung("B4", "B2 with all runs of an arm as one torch.func ensemble (vmap)"),
        Rung("B5-torch", "B5 without its own kernels (train.kernels=torch)", ("train.kernels=torch",)),
        Rung("B5-local", "B5 without W&B (track.wandb.mode=disabled)", ("track.wandb.mode=disabled",)),
        Rung("B5", "bnexp: shared bytes, own layers, processes (CPU) or cohorts (GPU); records, W&B files, verdict, report"),
        Rung("P1", "PyTorch Lightning, Hydra's joblib launcher and WandbLogger; processes with one thread each"),
        Rung("P2", "plain PyTorch as a W&B sweep: agents with one thread each; the server answers at once"),
        Rung("S0", "batchnorm on digits with its 10 seeds"),
        Rung("S1", "the same with --until-settled"),
    )
}


@dataclass(frozen=True)
class Work:
    """The ``batchnorm`` study on ``num_runs`` / 2 seeds. A single run is the arm with batch norm, seed 0.

    Args:
        data: the data set.
        train_size: training images, stratified; None takes all that are not kept for validation.
        epochs: passes through the training images.
        num_runs: 1, or an even number.
        device: where to train.
    """

    data: DataName
    train_size: int | None
    epochs: int
    num_runs: int
    device: Device

    def configs(self) -> list[RunConfig]:
        """The runs, seed by seed, arms side by side."""
        arms = ["after_pool"] if self.num_runs == 1 else list(ARMS)
        return [
            RunConfig(
                seed=seed,
                data=DataConfig(name=self.data, train_size=self.train_size),
                norm=ARMS[arm],
                train=TrainConfig(epochs=self.epochs, device=self.device),
                study=StudyConfig(arm=arm),
            )
            for seed in range(max(1, self.num_runs // 2))
            for arm in arms
        ]

    def command(self, rung: str = "B5") -> list[str]:
        """The arguments of ``bnexp`` that do the same work, for a rung that is bnexp."""
        shared = [
            f"data={self.data}",
            f"data.train_size={'null' if self.train_size is None else self.train_size}",
            f"train.epochs={self.epochs}",
            f"train.device={self.device}",
            *RUNGS[rung].overrides,
        ]
        if self.num_runs == 1:
            return ["train", *shared, "norm=batch", "norm.placement=after_pool", "seed=0"]
        return ["study", "batchnorm", *shared, "--until-settled" if rung == "S1" else f"study.seeds={self.num_runs // 2}"]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Work:
        """The inverse of ``to_json``."""
        values = json.loads(text)
        return Work(**values | {"data": DataName(values["data"]), "device": Device(values["device"])})


def settling(device: Device) -> Work:
    """The work of S0 and S1: ``batchnorm`` on digits as it stands in its file."""
    return Work(DataName.digits, None, 10, 20, device)


@dataclass(frozen=True)
class RunResult:
    """One run: test accuracy (0 to 1) after the last epoch."""

    arm: str
    seed: int
    test_accuracy: float


@dataclass(frozen=True)
class RungResult:
    """What a rung reports of its work.

    Args:
        runs: the trained runs.
        images: training images seen, over all runs and epochs.
        train_seconds: wall time in which they were seen, without start-up, evaluation and writing.
        num_threads: threads of each process.
        num_processes: processes that train.
    """

    runs: list[RunResult]
    images: int
    train_seconds: float
    num_threads: int
    num_processes: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> RungResult:
        """The inverse of ``to_json``."""
        values: dict[str, Any] = json.loads(text)
        return RungResult(**values | {"runs": [RunResult(**run) for run in values["runs"]]})


def usual_rungs(device: Device) -> list[str]:
    """What is measured if nobody chooses. Our own kernels exist on a CPU only."""
    return ["B0", "B1", "B2", "B3", "B4", *(["B5-torch"] if device is Device.cpu else []), "B5"]


def pick_rungs(text: str, option: str = "--rungs") -> list[str]:
    """Names of rungs from ``B0,B2,B5``, in the ladder's order; ``all`` names all. Raises ConfigError."""
    by_name = {name.lower(): name for name in RUNGS}
    typed = {part.strip().lower(): part.strip() for part in text.split(",") if part.strip()}
    if list(typed) == ["all"]:
        return list(RUNGS)
    for key, name in typed.items():
        if key not in by_name:
            hint = did_you_mean(key, list(by_name))
            raise ConfigError(f"{option} {text} names {name}, which is no rung: allowed are {', '.join(RUNGS)}.{hint}")
    if not typed:
        raise ConfigError(f"{option} is empty: name at least one of {', '.join(RUNGS)}.")
    return [name for key, name in by_name.items() if key in typed]


def pick_runs(text: str) -> list[int]:
    """Numbers of runs from ``1,6``, ascending. Raises ConfigError."""
    try:
        numbers = sorted({int(part) for part in text.split(",") if part.strip()})
    except ValueError:
        numbers = []
    if not numbers or any(n < 1 or (n > 1 and n % 2) for n in numbers):
        raise ConfigError(
            f"--runs {text} is not possible: allowed are 1 and even numbers (two arms for each seed), separated by commas; "
            "for example --runs 1,6."
        )
    return numbers


def default_data() -> DataName:
    """MNIST if its files are on this machine, packed or raw; otherwise the digits, which always are."""
    from bnexp.data.cache import packed_path
    from bnexp.data.catalogue import CATALOGUE
    from bnexp.data.download import raw_roots

    packed = packed_path(DataConfig(name=DataName.mnist))
    raw = [root / file.path for root in raw_roots(None) for file in CATALOGUE[DataName.mnist].files]
    local = packed.is_dir() or any(path.parent.is_dir() for path in raw)
    return DataName.mnist if local else DataName.digits
