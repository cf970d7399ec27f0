"""What the arms predict for single images: confusion matrices, agreement of arms, and the gallery."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bnexp.comparison.predictions import churn
from bnexp.comparison.result import Outcome
from bnexp.data.images import ImagesById
from bnexp.tracking import tables
from bnexp.tracking.reading import DamagedRecord
from bnexp.tracking.records import PREDICTIONS, DataFacts, RecordedRun

MAX_DISAGREEMENTS = 24
MAX_PER_ARM = 16  # worst mistakes of an arm; the random sample that all arms share has as many

Frames = dict[str, dict[int, pl.DataFrame]]  # arm -> seed -> predictions


@dataclass(frozen=True)
class GalleryRow:
    """The prediction of one run for one image. Classes are indices; ``loss`` is in nats."""

    arm: str
    seed: int
    prediction: int
    confidence: float
    loss: float
    correct: bool


@dataclass(frozen=True)
class GalleryImage:
    """One test image and the prediction of every arm. ``picture``: PNG as a data URI, empty without pictures."""

    image_id: int
    truth: int
    picture: str = field(repr=False)
    rows: list[GalleryRow]

    @property
    def disagreement(self) -> bool:
        """Whether two arms predict different classes."""
        return len({row.prediction for row in self.rows}) > 1


@dataclass(frozen=True)
class Agreement:
    """Two arms on the same test images.

    Args:
        arm: the first arm.
        other: the second arm.
        num_seeds: seeds that both arms have; everything below is a mean over them.
        both_right: images that both classify correctly.
        only_arm: images that only the first classifies correctly.
        only_other: images that only the second classifies correctly.
        both_wrong: images that neither classifies correctly.
        differing: share of images with different predictions.
    """

    arm: str
    other: str
    num_seeds: int
    both_right: float
    only_arm: float
    only_other: float
    both_wrong: float
    differing: float


@dataclass(frozen=True)
class PredictionSection:
    """What a report says of predictions.

    Args:
        confusions: arm -> mean counts over seeds (K, K), one row per true class.
        class_accuracy: arm -> fraction of each class that is classified correctly (K,); NaN for a class without images.
        num_seeds: arm -> number of its seeds.
        agreements: every pair of arms with a seed in common.
        churn: arm -> mean share of images that two seeds of the arm predict differently: the noise floor of ``agreements``.
        gallery_seed: the seed of all predictions in the gallery.
        gallery: images on which arms disagree, then the worst mistakes of each arm, then a random sample.
        num_images: test images that each run predicted.
    """

    confusions: dict[str, NDArray[np.float64]]
    class_accuracy: dict[str, NDArray[np.float64]]
    num_seeds: dict[str, int]
    agreements: list[Agreement]
    churn: dict[str, float]
    gallery_seed: int
    gallery: list[GalleryImage]
    num_images: int


def load(
    runs: Sequence[tuple[Outcome, RecordedRun]], arms: Sequence[str], facts: DataFacts | None
) -> tuple[Frames, list[DamagedRecord]]:
    """Read the recorded predictions of runs. A damaged file costs one run, not the whole report.

    Args:
        runs: with the outcome of each.
        arms: the order of the arms in what is returned.
        facts: the test images that all predictions must be of; None reads nothing.

    Returns:
        The predictions, and what is wrong with those that are left out.
    """
    frames: Frames = {}
    problems = []
    for outcome, run in sorted(runs, key=lambda pair: arms.index(pair[0].arm)):
        try:
            frame = run.predictions()
            if frame is None or facts is None or outcome.seed is None:  # of a study every run has a seed
                continue
            if run.facts is None or not facts.like(run.facts):
                raise DamagedRecord(run.path / PREDICTIONS, "it is of other test images than those of the study's first run")
            frames.setdefault(outcome.arm, {})[outcome.seed] = frame
        except DamagedRecord as damage:
            problems.append(damage)
    return frames, problems


def collect(frames: Frames, data_name: str, num_classes: int, images: ImagesById | None) -> PredictionSection:
    """Make the section.

    Args:
        frames: predictions of the runs at one level; at least one.
        data_name: the data set, for which the random sample is the same in every report.
        num_classes: K.
        images: test image ids (N,) -> pixels (N, H, W, C); None leaves the gallery without pictures.
    """
    totals = {
        arm: np.sum([tables.confusion_matrix(frame, num_classes) for frame in by_seed.values()], axis=0)
        for arm, by_seed in frames.items()
    }
    seed = _common_seed(frames)
    one = {arm: by_seed[seed] for arm, by_seed in frames.items() if seed in by_seed}
    return PredictionSection(
        confusions={arm: total / len(frames[arm]) for arm, total in totals.items()},
        class_accuracy={arm: tables.class_accuracy(total) for arm, total in totals.items()},
        num_seeds={arm: len(by_seed) for arm, by_seed in frames.items()},
        agreements=[agreement for a, b in combinations(frames, 2) if (agreement := _agreement(a, b, frames))],
        churn={arm: share for arm, by_seed in frames.items() if (share := _churn(by_seed)) is not None},
        gallery_seed=seed,
        gallery=_gallery(one, seed, data_name, images),
        num_images=len(next(iter(one.values()))),
    )


def _common_seed(frames: Frames) -> int:
    """The seed that most arms have; the smallest if there are several."""
    counts = [(-sum(seed in by_seed for by_seed in frames.values()), seed) for seeds in frames.values() for seed in seeds]
    return min(counts)[1]


def _agreement(arm: str, other: str, frames: Frames) -> Agreement | None:
    seeds = sorted(set(frames[arm]) & set(frames[other]))
    counts = []
    for seed in seeds:
        both = frames[arm][seed].join(frames[other][seed], on="image_id", suffix="_other")
        a, b = both["correct"].to_numpy(), both["correct_other"].to_numpy()
        differing = float((both["prediction"] != both["prediction_other"]).to_numpy().mean())
        counts.append([(a & b).sum(), (a & ~b).sum(), (~a & b).sum(), (~a & ~b).sum(), differing])
    return Agreement(arm, other, len(seeds), *map(float, np.mean(counts, axis=0))) if seeds else None


def _churn(by_seed: dict[int, pl.DataFrame]) -> float | None:
    """Mean share of images that two seeds of one arm predict differently; None below two seeds."""
    shares = churn({seed: frame["prediction"].to_numpy() for seed, frame in by_seed.items()})
    return float(np.mean(list(shares.values()))) if shares else None


def _gallery(frames: dict[str, pl.DataFrame], seed: int, data_name: str, images: ImagesById | None) -> list[GalleryImage]:
    ids = _choose(frames, data_name)
    pixels = images(np.array(ids, dtype=np.int64)) if images and ids else None
    shown: dict[int, list[GalleryRow]] = {image_id: [] for image_id in ids}
    truths: dict[int, int] = {}
    for arm, frame in frames.items():
        for row in frame.filter(pl.col("image_id").is_in(ids)).iter_rows(named=True):
            truths[row["image_id"]] = row["label"]
            facts = {key: row[key] for key in ("prediction", "confidence", "loss", "correct")}
            shown[row["image_id"]].append(GalleryRow(arm=arm, seed=seed, **facts))
    return [
        GalleryImage(image_id, truths[image_id], data_uri(pixels[k]) if pixels is not None else "", shown[image_id])
        for k, image_id in enumerate(ids)
    ]


def _choose(frames: dict[str, pl.DataFrame], data_name: str) -> list[int]:
    """Image ids of the gallery, without repeats: disagreements, then each arm's worst mistakes, then the random sample."""
    ids = tables.disagreements(frames, MAX_DISAGREEMENTS)["image_id"].to_list()
    chosen = [tables.select_rows(frame, 2 * MAX_PER_ARM, data_name) for frame in frames.values()]
    for shown in ("mistake", "sample"):
        ids += [image_id for frame in chosen for image_id in frame.filter(pl.col("shown") == shown)["image_id"].to_list()]
    return list(dict.fromkeys(ids))


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """An image (H, W, C) with C 1 or 3 as a PNG in a ``data:`` URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
