"""The expected calibration error, against Guo et al. 2017, equation 3, written out in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_data import FakeData, make_config, make_spec
from numpy.typing import NDArray

from bnexp.config.options import Precision
from bnexp.metrics import CONFIDENCE_EDGES, RunFinished
from bnexp.model.networks import build_network
from bnexp.report.reliability import calibration_error
from bnexp.tracking.tables import prediction_frame
from bnexp.training.engine import fit
from bnexp.training.evaluate import evaluate, overconfidence

Float64 = NDArray[np.float64]
NUM_BINS = 15


def ece(confidence: Float64, correct: Float64) -> float:
    """sum_m |B_m| / n |acc(B_m) - conf(B_m)|, with B_m the images whose confidence is in ((m - 1) / 15, m / 15]."""
    total = 0.0
    for m in range(1, NUM_BINS + 1):
        inside = (confidence > (m - 1) / NUM_BINS) & (confidence <= m / NUM_BINS)
        if inside.any():
            total += inside.sum() / len(confidence) * abs(correct[inside].mean() - confidence[inside].mean())
    return float(total)


def bins_of(*images: tuple[float, bool]) -> list[float]:
    """What images of one run, each of a confidence and right or wrong, add to the 15 bins."""
    confidence = torch.tensor([[confidence for confidence, _ in images]])
    correct = torch.tensor([[correct for _, correct in images]])
    return overconfidence(confidence, correct, torch.from_numpy(CONFIDENCE_EDGES))[0].tolist()


@pytest.mark.parametrize("batch_size", [7, 100], ids=lambda size: f"batches of {size}")
def test_it_is_that_of_the_paper_for_each_run(batch_size: int) -> None:
    data, configs = FakeData(num_test=100), [make_config(seed, {}) for seed in range(3)]
    network = build_network(configs, 1, data.size, data.num_classes, dtype=torch.float64)
    with torch.no_grad():
        network.flat.mul_(torch.tensor([[1.0], [3.0], [6.0]]))  # from cautious to sure
    found = evaluate(network, data, "test", batch_size, Precision.fp64)
    assert found.probabilities is not None
    for run, p in enumerate(found.probabilities.astype(np.float64)):
        assert found.ece[run] == pytest.approx(ece(p.max(1), (p.argmax(1) == found.labels).astype(float)), abs=1e-6)
    assert len(set(found.ece.round(3))) == 3


def test_recorded_predictions_have_the_error_that_is_recorded() -> None:
    *_, end = fit([make_spec(0, {})], FakeData(num_test=100))
    assert isinstance(end, RunFinished)
    assert end.predictions is not None
    assert calibration_error(prediction_frame(end.predictions)) == pytest.approx(end.metrics["test/ece"], abs=1e-6)
    assert end.metrics["test/ece"] > 0.01


@pytest.mark.parametrize("m", range(1, NUM_BINS))
def test_a_confidence_on_an_edge_belongs_to_the_bin_below(m: int) -> None:
    edge = np.float32(m / NUM_BINS)
    beyond = np.nextafter(edge, np.float32(1))
    for value, place in ((edge, m - 1), (beyond, m)):
        expected = [0.0] * NUM_BINS
        expected[place] = float(value)
        assert bins_of((float(value), False)) == expected


def test_the_first_and_the_last_bin_take_what_is_least_and_most_sure() -> None:
    assert bins_of((1.0, False), (1e-6, False)) == pytest.approx([1e-6] + [0.0] * 13 + [1.0])
    assert bins_of((1.0, True)) == [0.0] * NUM_BINS  # sure and right: no error


def test_images_of_one_bin_make_up_for_each_other_but_bins_do_not() -> None:
    """At confidence .5 one of two right: no error. Too sure in one bin and not sure enough in another: both count."""
    assert bins_of((0.5, True), (0.5, False)) == [0.0] * NUM_BINS
    assert bins_of((0.5, True), (0.9, False)) == pytest.approx([0.0] * 7 + [-0.5] + [0.0] * 5 + [0.9] + [0.0])
