"""Prediction tables: which images are shown, and what is counted."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnexp.metrics import Predictions
from bnexp.tracking.tables import (
    class_accuracy,
    confusion_matrix,
    disagreements,
    prediction_frame,
    sample_images,
    select_rows,
)


def random_frame(seed: int, size: int = 200, num_classes: int = 5) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(0).integers(0, num_classes, size)
    probabilities = rng.dirichlet(np.ones(num_classes), size).astype(np.float32)
    return prediction_frame(Predictions(np.arange(100, 100 + size), labels, probabilities))


def test_loss_is_the_cross_entropy_of_the_true_class() -> None:
    probabilities = np.array([[0.25, 0.75], [1.0, 0.0]], dtype=np.float32)
    frame = prediction_frame(Predictions(np.array([4, 9]), np.array([0, 1]), probabilities))
    assert frame["loss"][0] == pytest.approx(np.log(4))
    assert np.isfinite(frame["loss"][1])
    assert frame["loss"][1] > 80
    assert frame.columns == ["image_id", "label", "prediction", "confidence", "loss", "correct", "p0", "p1"]
    assert frame["correct"].to_list() == [False, False]


def test_the_sample_depends_on_the_data_set_only() -> None:
    ids = np.arange(1000)
    shuffled = np.random.default_rng(5).permutation(ids)
    assert sample_images(ids, 16, "mnist").tolist() == sample_images(shuffled, 16, "mnist").tolist()
    assert sample_images(ids, 16, "mnist").tolist() != sample_images(ids, 16, "kmnist").tolist()
    assert len(set(sample_images(ids, 16, "mnist").tolist())) == 16


def test_a_larger_sample_contains_the_smaller_one() -> None:
    ids = np.arange(1000)
    assert set(sample_images(ids, 8, "svhn").tolist()) <= set(sample_images(ids, 32, "svhn").tolist())


@given(seed=st.integers(0, 1000), limit=st.integers(0, 250))
def test_rows_are_the_worst_mistakes_and_then_the_whole_sample(seed: int, limit: int) -> None:
    frame = random_frame(seed)
    shown = select_rows(frame, limit, "mnist")
    assert len(shown) <= limit
    assert shown["image_id"].is_unique().all()
    assert set(sample_images(frame["image_id"].to_numpy(), limit - limit // 2, "mnist").tolist()) <= set(shown["image_id"])
    mistakes = shown.filter(pl.col("shown") == "mistake")
    assert not mistakes["correct"].any()
    assert mistakes["loss"].is_sorted(descending=True)
    left = frame.filter(~pl.col("correct") & ~pl.col("image_id").is_in(mistakes["image_id"].to_list()))
    if len(mistakes) and len(left):
        assert left["loss"].max() <= mistakes["loss"].min()  # type: ignore[operator]


def test_a_perfect_network_shows_the_sample_only() -> None:
    predictions = Predictions(np.arange(10), np.arange(10) % 2, np.eye(2, dtype=np.float32)[np.arange(10) % 2])
    assert select_rows(prediction_frame(predictions), 8, "mnist")["shown"].to_list() == ["sample"] * 4


def test_confusion_matrix_has_the_truth_in_rows() -> None:
    frame = pl.DataFrame({"label": [0, 0, 2], "prediction": [1, 1, 2]})
    assert confusion_matrix(frame, 3).tolist() == [[0, 2, 0], [0, 0, 0], [0, 0, 1]]


@given(seed=st.integers(0, 1000))
def test_confusion_matrix_agrees_with_accuracy(seed: int) -> None:
    frame = random_frame(seed)
    confusion = confusion_matrix(frame, 5)
    assert confusion.sum() == len(frame)
    assert np.trace(confusion) == frame["correct"].sum()
    share = np.bincount(frame["label"].to_numpy(), minlength=5) / len(frame)
    assert (class_accuracy(confusion) * share).sum() == pytest.approx(frame["correct"].mean())


def test_a_class_without_images_has_no_accuracy() -> None:
    assert class_accuracy(np.array([[3, 1], [0, 0]])) == pytest.approx([0.75, np.nan], nan_ok=True)


def test_disagreements_are_joined_on_the_image_and_widest_first() -> None:
    def frame(ids: list[int], guesses: list[int], losses: list[float]) -> pl.DataFrame:
        columns = {"image_id": ids, "label": [1] * len(ids), "prediction": guesses}
        return pl.DataFrame(columns | {"confidence": [0.9] * len(ids), "loss": losses})

    one = frame([1, 2, 3, 4], [0, 1, 1, 1], [3.0, 0.1, 0.1, 0.1])
    other = frame([4, 3, 2, 9], [0, 0, 1, 0], [0.5, 5.0, 0.1, 1.0])
    found = disagreements({"none": one, "batch": other}, limit=10)
    assert found["image_id"].to_list() == [3, 4]
    assert found.columns == ["image_id", "label", "prediction none", "confidence none", "prediction batch", "confidence batch"]
    assert found.row(0, named=True)["prediction batch"] == 0
    assert disagreements({"none": one, "batch": other}, limit=1)["image_id"].to_list() == [3]


@given(seed=st.integers(0, 100))
def test_three_arms_disagree_where_any_two_do(seed: int) -> None:
    frames = {str(k): random_frame(seed + k) for k in range(3)}
    guesses = np.stack([frame["prediction"].to_numpy() for frame in frames.values()])
    expected = np.flatnonzero((guesses != guesses[0]).any(0)) + 100
    assert sorted(disagreements(frames, 1000)["image_id"]) == expected.tolist()


def test_one_arm_has_nobody_to_disagree_with() -> None:
    assert len(disagreements({"batch": random_frame(0)}, 10)) == 0
    assert len(disagreements({}, 10)) == 0
