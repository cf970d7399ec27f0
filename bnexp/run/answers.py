"""What voices say of images: runs side by side, or the arms of a study.

Shapes: V voices, N images, K classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from bnexp.config.keys import did_you_mean
from bnexp.config.schema import ConfigError, DataConfig
from bnexp.data.download import DataError
from bnexp.data.images import UInt8
from bnexp.data.pictures import Picture, find_pictures, read_pictures
from bnexp.metrics import Float32, Int64
from bnexp.run.predict import MOST_AT_ONCE, Predictor
from bnexp.run.voices import Voice

LIGHT = 0.4  # further than this from the mean of the training images, a grey image is one of another kind; pixels 0 to 1


@dataclass(frozen=True, eq=False)
class Answers:
    """What voices say of images.

    Args:
        voices: the name of each, and how many runs it has.
        class_names: the K classes.
        pictures: the N images that could be read.
        probabilities: of each voice, (V, N, K).
        agreeing: how many runs of each voice predict what the voice does, (V, N).
        problems: one sentence on each image that could not be read.
        notes: what one should know of the predictions.
    """

    voices: dict[str, int]
    class_names: list[str]
    pictures: list[Picture]
    probabilities: Float32
    agreeing: Int64
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @cached_property
    def classes(self) -> Int64:
        """What each voice predicts, (V, N)."""
        classes: Int64 = self.probabilities.argmax(2)
        return classes

    @cached_property
    def labels(self) -> Int64:
        """The true classes, (N,); -1 if unknown."""
        known = [picture.label(self.class_names) for picture in self.pictures]
        return np.array([-1 if label is None else label for label in known], np.int64)

    @cached_property
    def agreed(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Whether all voices predict the same class, (N,)."""
        agreed: np.ndarray[tuple[int], np.dtype[np.bool_]] = (self.classes == self.classes[:1]).all(0)
        return agreed

    def order(self) -> list[int]:
        """Positions of the images, those on which voices disagree first, the widest gap between two voices at the start.

        The gap is half the sum of the differences of probabilities, 0 to 1. Images on which all agree keep their order.
        """
        gap = np.zeros(len(self.pictures))
        for one in self.probabilities:
            gap = np.maximum(gap, np.abs(self.probabilities - one).sum(-1).max(0) / 2)
        gap[self.agreed] = -1
        return [int(i) for i in np.argsort(-gap, kind="stable")]


def ask(voices: Sequence[Voice], images: Sequence[str | Path], factory: str | None = None) -> Answers:
    """Ask every voice about every image.

    Args:
        voices: their runs know the same classes.
        images: image files and folders.
        factory: of runs with ``model=python`` the function that makes their network, named by the user; None: no such run.

    Raises:
        ConfigError: a run cannot predict, runs know different classes, or there are no images.
        DataError: none of the images can be read.
    """
    pictures = find_pictures(images)
    asked = [(voice, [run.predictor(factory) for run in voice.runs]) for voice in voices]
    predictors = [predictor for _, members in asked for predictor in members]
    problems: dict[str, None] = {}
    notes = dict.fromkeys(note for predictor in predictors for note in predictor.notes)
    kept: list[Picture] = []
    probabilities: list[Float32] = []
    agreeing: list[Int64] = []
    light = 0
    for start in range(0, len(pictures), MOST_AT_ONCE):
        read = _Read(pictures[start : start + MOST_AT_ONCE], predictors)
        problems |= dict.fromkeys(read.problems)
        notes |= dict.fromkeys(read.notes)
        kept += read.pictures
        if not read.pictures:
            continue
        each = [np.stack([predictor(read.pixels(predictor)) for predictor in members]) for _, members in asked]
        _refuse_other_classes(predictors)
        mean = np.stack([members.mean(0) for members in each])
        probabilities.append(mean)
        agreeing.append(np.stack([(m.argmax(2) == v.argmax(1)).sum(0) for m, v in zip(each, mean, strict=True)]))
        light += read.num_of_another_kind(predictors[0])
    if not kept:
        first, *others = problems
        more = f" So are {len(others)} others." if others else ""
        raise DataError(first + more)
    if light:
        notes[_light_note(light, len(kept), predictors[0])] = None
    if odd := _unknown_folders(kept, predictors[0].class_names):
        notes[odd] = None
    return Answers(
        {voice.name: len(members) for voice, members in asked},
        predictors[0].class_names,
        kept,
        np.concatenate(probabilities, 1),
        np.concatenate(agreeing, 1),
        list(problems),
        list(notes),
    )


class _Read:
    """Some images, each read once for all predictors that take the same pixels."""

    def __init__(self, pictures: Sequence[Picture], predictors: Sequence[Predictor]) -> None:
        self.notes: list[str] = []
        found: dict[tuple[str, int, int], list[tuple[UInt8, tuple[str, ...]] | DataError]] = {}
        for predictor in predictors:
            if (key := _kind(predictor.data, predictor.channels)) not in found:
                found[key] = list(read_pictures([p.path for p in pictures], predictor.data, predictor.channels))
        first = next(iter(found.values()))
        self.problems = [str(one) for one in first if isinstance(one, DataError)]
        good = [i for i, one in enumerate(first) if not isinstance(one, DataError)]
        self.pictures = [pictures[i] for i in good]
        self._pixels = {key: [ones[i][0] for i in good] for key, ones in found.items()}  # type: ignore[index]
        for picture, one in zip(pictures, first, strict=True):
            if not isinstance(one, DataError):
                self.notes += [f"{picture.name}: {what} is left out, as in training." for what in one[1]]

    def pixels(self, predictor: Predictor) -> UInt8:
        """(N, C, S, S) as this predictor takes them."""
        return np.stack(self._pixels[_kind(predictor.data, predictor.channels)])

    def num_of_another_kind(self, predictor: Predictor) -> int:
        """How many grey images are far lighter or darker than the training images, like ink on paper for white on black."""
        if predictor.channels != 1:
            return 0
        means = self.pixels(predictor).mean((1, 2, 3)) / 255
        return int((np.abs(means - predictor.mean[0]) > LIGHT).sum())


def _kind(data: DataConfig, channels: int) -> tuple[str, int, int]:
    """What decides the pixels that a network takes of an image file."""
    return data.name.value, data.size, channels


def _refuse_other_classes(predictors: Sequence[Predictor]) -> None:
    first = predictors[0]
    for other in predictors[1:]:
        if other.class_names != first.class_names:
            raise ConfigError(
                f"the runs {first.run.run_id} and {other.run.run_id} know different classes ({_some(first.class_names)}; "
                f"{_some(other.class_names)}): ask them one at a time."
            )


def _some(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _light_note(count: int, num_images: int, predictor: Predictor) -> str:
    lighter = "lighter" if predictor.mean[0] < 0.5 else "darker"
    what = "The image is" if num_images == 1 else f"{count} of {num_images} images are"
    return (
        f"{what} far {lighter} than the training images, whose mean is {predictor.mean[0]:.2f} of 1: this network may need the "
        "inverted image."
    )


def _unknown_folders(pictures: Sequence[Picture], class_names: Sequence[str]) -> str:
    """A sentence on folders that are no class; empty if there are none."""
    folders = Counter(p.folder for p in pictures if p.folder is not None and p.label(class_names) is None)
    if not folders:
        return ""
    return (
        f"{folders.total()} images lie in folders that are no class of the run ({_some(sorted(folders))}), so their truth is "
        f"not known; the classes are {_some(class_names, 12)}.{did_you_mean(min(folders), class_names)}"
    )
