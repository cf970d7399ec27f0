"""Synthetic studies with realistic numbers, recorded through the same sink as real ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnexp.comparison.record import StudyRecord
from bnexp.comparison.result import Outcome, PlannedRun, Status, StudyResult
from bnexp.comparison.verdict import analyse
from bnexp.config.options import Analysis, Direction, NormKind, Placement
from bnexp.config.schema import DataConfig, Decides, RunConfig, ShowConfig, StudyConfig
from bnexp.data.sources import DIGITS_FILE
from bnexp.metrics import EpochMetrics, Predictions, RunFailed, RunFinished, RunStarted
from bnexp.plan.spec import RunSpec
from bnexp.report.sections import Report, build
from bnexp.tracking.records import DataFacts
from bnexp.tracking.store import Store, StoreSink

NUM_IMAGES = 400
EPOCHS = 10
DIGITS = [str(k) for k in range(10)]


@dataclass
class Synthetic:
    """A study to invent. ``accuracy``: (arm, levels, seed) -> fraction, or None to diverge; ``failed``: (arm, seed).

    ``probes``: every epoch has what probes of the activations and the landscape record, too.
    """

    study: StudyConfig
    accuracy: Callable[[str, dict[str, Any], int], float | None]
    failed: set[tuple[str, int]] = field(default_factory=set)
    classes: list[str] = field(default_factory=lambda: list(DIGITS))
    configure: Callable[[RunConfig, str, dict[str, Any]], None] = lambda config, arm, levels: None
    probes: bool = False


def record(plan: Synthetic, root: Path) -> tuple[StudyResult, Store]:
    """Write the runs of a synthetic study to a store under ``root`` and analyse them."""
    store = Store(root)
    sink = StoreSink(store, command="bnexp study")
    outcomes = []
    factors = [[(name, level) for level in levels] for name, levels in plan.study.factors.items()]
    for levels in [dict(combination) for combination in itertools.product(*factors)]:
        for arm, seed in itertools.product(plan.study.arms, range(plan.study.seeds)):
            config = RunConfig(seed=seed)
            plan.configure(config, arm, levels)
            config.study = StudyConfig(name=plan.study.name, arm=arm, levels=levels)
            outcomes.append(_one_run(plan, sink, RunSpec(config)))
    sink.close()
    settings = {
        "data.name": "mnist",
        "optim.lr": "0.01",
        "optim.momentum": "0.9",
        "train.batch_size": "64",
        "train.epochs": "10",
    }
    for name in plan.study.factors:
        settings.pop(name, None)
    return analyse(plan.study, outcomes, study_id="5f0c3a1b9d24", margin=0.2, settings=settings, chance=0.1), store


def _one_run(plan: Synthetic, sink: StoreSink, spec: RunSpec) -> Outcome:
    level = ", ".join(f"{name.rsplit('.', 1)[-1]}={value}" for name, value in spec.levels.items())
    known = {"arm": spec.arm, "level": level, "levels": spec.levels, "seed": spec.seed, "run_id": spec.run_id}
    accuracy = plan.accuracy(spec.arm, spec.levels, spec.seed)
    sink.record(spec, RunStarted(spec.run_id, 62_006 + 44 * (spec.arm != "none"), 9380, "cpu", "eager: no CUDA device"))
    if (spec.arm, spec.seed) in plan.failed:
        sink.record(spec, RunFailed(spec.run_id, "out of memory: 1.2 GB were asked for <b>and</b> 0.9 GB were free"))
        return Outcome(**known, status=Status.failed, value=None)
    final = 0.1 if accuracy is None else accuracy
    for epoch in range(1, 3 if accuracy is None else EPOCHS + 1):
        probed = _probes(spec, epoch) if plan.probes else {}
        sink.record(spec, EpochMetrics(spec.run_id, epoch, 938 * epoch, _epoch(spec, epoch, final) | probed))
    rng = np.random.default_rng(spec.seed)
    predictions = _predictions(plan, spec, final) if accuracy is not None else None
    metrics = {"test/accuracy": final, "test/loss": 3 * (1 - final)}
    weights = {"fc.bias": np.zeros(2, np.float32)}
    seconds = 41 + 3 * rng.random()
    sink.record(spec, RunFinished(spec.run_id, metrics, seconds, predictions, weights, None if accuracy is not None else 1204))
    return Outcome(**known, status=Status.finished if accuracy is not None else Status.diverged, value=final)


def _epoch(spec: RunSpec, epoch: int, final: float) -> dict[str, float]:
    rng = np.random.default_rng([spec.seed, epoch, len(spec.arm)])
    speed = 1.1 if spec.arm == "none" else 1.6
    error = (1 - final) * (1 + 6 * np.exp(-speed * (epoch - 1))) * (1 + 0.08 * rng.standard_normal())
    train_error = (1 - final) * (0.12 + 7 * np.exp(-0.55 * speed * (epoch - 1))) * (1 + 0.05 * rng.standard_normal())
    return {
        "train/loss": 3.1 * train_error,
        "train/accuracy": max(0.1, 1 - train_error),
        "val/loss": 3.0 * error,
        "val/accuracy": max(0.1, 1 - error),
        "learning_rate": 0.01,
    }


def _probes(spec: RunSpec, epoch: int) -> dict[str, float]:
    found = {"landscape/loss_range": 1 / epoch + 0.01 * spec.seed, "statistics/precise": 0.9, "gradients/conv1/norm": 0.1}
    for k in (1, 2):
        for name, value in (("p15", -1.0), ("p50", 0.1), ("p85", 1.2)):
            found[f"activations/act{k}/{name}"] = value * k + 0.1 * epoch + 0.01 * spec.seed
    return found


def _predictions(plan: Synthetic, spec: RunSpec, final: float) -> Predictions:
    """Probabilities that are right for ``final`` of the images; harder images are wrong in more runs."""
    num_classes = len(plan.classes)
    labels = np.random.default_rng(0).integers(0, num_classes, NUM_IMAGES)
    hardness = np.random.default_rng(1).random(NUM_IMAGES)
    rng = np.random.default_rng([spec.seed, len(spec.arm)])
    wrong = hardness + 0.12 * rng.standard_normal(NUM_IMAGES) > np.quantile(hardness, min(final, 0.97))
    logits = rng.standard_normal((NUM_IMAGES, num_classes))
    guess = np.where(wrong, (labels + rng.integers(1, num_classes, NUM_IMAGES)) % num_classes, labels)
    logits[np.arange(NUM_IMAGES), guess] += np.where(wrong, 3.5, 8.0)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return Predictions(np.arange(NUM_IMAGES), labels, probabilities.astype(np.float32))


def digit_images(ids: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Pictures of digits that fit the synthetic labels, (N, 32, 32, 1)."""
    with np.load(DIGITS_FILE) as arrays:
        digits, classes = arrays["images"], arrays["labels"]
    labels = np.random.default_rng(0).integers(0, 10, NUM_IMAGES)
    pools = [np.flatnonzero(classes == k) for k in range(10)]
    chosen = [pools[labels[i]][i % len(pools[labels[i]])] for i in ids]
    small = (digits[chosen] * 15.9).astype(np.uint8)
    return small.repeat(4, axis=1).repeat(4, axis=2)[..., None]


def _norm(kind: str) -> Callable[[RunConfig], None]:
    def set_norm(config: RunConfig) -> None:
        if kind != "none":
            config.norm.kind, config.norm.placement = NormKind.batch, Placement(kind)

    return set_norm


def batchnorm() -> Synthetic:
    """Two arms, ten seeds, one failed run."""
    arms = {"none": ["norm=none"], "after_pool": ["norm=batch", "norm.placement=after_pool"]}
    study = StudyConfig(
        name="batchnorm",
        question="Does batch norm help this network?",
        claim="With batch norm the network reaches a higher accuracy.",
        sources=["W&B blog, “Batch Normalization in PyTorch”", "Ioffe & Szegedy 2015, arXiv:1502.03167"],
        arms=arms,
        seeds=10,
        baseline="none",
        direction=Direction.greater,
        show=ShowConfig(figures=["curves", "reliability"]),
    )

    def accuracy(arm: str, levels: dict[str, Any], seed: int) -> float | None:
        rng = np.random.default_rng([seed, len(arm)])
        return float(0.9894 + 0.0028 * (arm != "none") + 0.0006 * rng.standard_normal())

    return Synthetic(study, accuracy, failed={("after_pool", 9)}, configure=lambda config, arm, levels: _norm(arm)(config))


def placement() -> Synthetic:
    """Four arms, all pairs."""
    names = ["none", "before_activation", "after_activation", "after_pool"]
    study = StudyConfig(
        name="placement",
        question="Where does batch norm belong in a convolution block?",
        claim="The place of batch norm changes the accuracy; the sources disagree on the best.",
        sources=["Ioffe & Szegedy 2015, arXiv:1502.03167, section 3.2", "Mishkin, Sergievskiy & Matas 2017, arXiv:1606.02228"],
        arms={name: [f"norm.placement={name}"] for name in names},
        seeds=10,
    )
    gains = dict(zip(names, (0.0, 0.0008, 0.0016, 0.0021), strict=True))

    def accuracy(arm: str, levels: dict[str, Any], seed: int) -> float | None:
        return float(0.989 + gains[arm] + 0.0006 * np.random.default_rng([seed, len(arm)]).standard_normal())

    return Synthetic(study, accuracy, configure=lambda config, arm, levels: _norm(arm)(config))


def learning_rate() -> Synthetic:
    """Two arms at eleven rates; without batch norm the large ones diverge."""
    rates = [0.001 * 2**k for k in range(11)]
    study = StudyConfig(
        name="learning_rate",
        question="Does batch norm allow higher learning rates?",
        claim="With batch norm training is stable and good over a wider range of learning rates.",
        arms={"none": ["norm=none"], "after_pool": ["norm=batch", "norm.placement=after_pool"]},
        factors={"optim.lr": rates},
        seeds=6,
        baseline="none",
        direction=Direction.greater,
        analysis=Analysis.sensitivity,
    )

    def accuracy(arm: str, levels: dict[str, Any], seed: int) -> float | None:
        noise = np.random.default_rng([seed, len(arm), int(1e4 * levels["optim.lr"])]).standard_normal()
        distance = np.log2(levels["optim.lr"] / (0.016 if arm == "none" else 0.064))
        if arm == "none" and distance > 3 + 0.4 * noise:
            return None
        return float(0.99 - 0.0035 * max(distance, 0) ** 2 - 0.0016 * min(distance, 0) ** 2 + 0.0008 * noise)

    def configure(config: RunConfig, arm: str, levels: dict[str, Any]) -> None:
        _norm(arm)(config)
        config.optim.lr = levels["optim.lr"]

    return Synthetic(study, accuracy, configure=configure)


def conv_bias() -> Synthetic:
    """Two arms at three named levels."""
    study = StudyConfig(
        name="conv_bias",
        question="Do convolutions need a bias next to batch norm?",
        claim="A bias is redundant before batch norm, and only there.",
        arms={"no_bias": ["model.conv_bias=false"], "bias": ["model.conv_bias=true"]},
        factors={"norm": {"none": [], "before_activation": [], "after_pool": []}},
        seeds=10,
        baseline="no_bias",
        decides=[
            Decides(at={"norm": "before_activation"}, expect=Direction.equivalent),
            Decides(at={"norm": "none"}),
            Decides(at={"norm": "after_pool"}),
        ],
    )

    def accuracy(arm: str, levels: dict[str, Any], seed: int) -> float | None:
        rng = np.random.default_rng([seed, len(arm), len(levels["norm"])])
        gain = 0.0022 * (arm == "bias") * (levels["norm"] != "before_activation")
        return float(0.9885 + gain + 0.001 * (levels["norm"] != "none") + 0.0007 * rng.standard_normal())

    def configure(config: RunConfig, arm: str, levels: dict[str, Any]) -> None:
        _norm(levels["norm"])(config)
        config.model.conv_bias = str(arm == "bias").lower()

    return Synthetic(study, accuracy, configure=configure)


def batch_size() -> Synthetic:
    """Three arms at four batch sizes, with probes; the gain grows with the batch."""
    study = StudyConfig(
        name="batch_size",
        question="Does the gain of batch norm grow with the batch size?",
        arms={name: [f"norm={name}"] for name in ("none", "before_activation", "after_pool")},
        factors={"train.batch_size": [1, 8, 64, 256]},
        seeds=6,
        baseline="none",
        direction=Direction.greater,
        analysis=Analysis.trend,
    )

    def accuracy(arm: str, levels: dict[str, Any], seed: int) -> float | None:
        rng = np.random.default_rng([seed, len(arm), levels["train.batch_size"]])
        gain = 0.002 * (arm != "none") * (np.log2(levels["train.batch_size"]) - 2)
        return float(0.975 + gain + 0.0007 * rng.standard_normal())

    def configure(config: RunConfig, arm: str, levels: dict[str, Any]) -> None:
        _norm(arm)(config)
        config.train.batch_size = levels["train.batch_size"]

    return Synthetic(study, accuracy, configure=configure, probes=True)


STUDIES = {
    "batchnorm": batchnorm,
    "placement": placement,
    "learning_rate": learning_rate,
    "conv_bias": conv_bias,
    "batch_size": batch_size,
}


def study_record(plan: Synthetic, result: StudyResult, root: Path, overrides: Sequence[str] = ()) -> StudyRecord:
    """The record of a synthetic study."""
    runs = [PlannedRun(o.run_id, o.arm, o.levels, o.seed) for o in result.outcomes]
    return StudyRecord(
        plan.study, result.study_id, list(overrides), DataConfig(), result.settings, runs, folder=root / "study-1"
    )


def make_report(plan: Synthetic, root: Path, *, pictures: bool = True) -> Report:
    result, store = record(plan, root)
    images = digit_images if pictures and plan.classes == DIGITS else None
    return build(study_record(plan, result, root), result, store, facts=facts(plan.classes), images=images)


def facts(class_names: list[str]) -> DataFacts:
    """What the runs of a synthetic study were tested on."""
    return DataFacts(class_names, NUM_IMAGES)
