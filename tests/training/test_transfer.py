"""Training from given weights: what is loaded, what stays bit for bit, and which statistics norms go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fake_data import FakeData, make_spec
from numpy.typing import NDArray

from bnexp.config.options import NormStatistics, OptimName, Trainable
from bnexp.config.schema import ConfigError
from bnexp.metrics import RunFinished
from bnexp.model.network import Network
from bnexp.model.networks import build_network
from bnexp.plan.spec import RunSpec
from bnexp.training.engine import fit
from bnexp.training.optim import build_optimiser
from bnexp.training.statistics import precise_statistics, statistics_batches
from bnexp.training.transfer import hold, load_start

DATA = FakeData()
Weights = Mapping[str, NDArray[np.generic]]
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def network(spec: RunSpec, num_classes: int = DATA.num_classes, channels: int = 1) -> Network:
    return build_network([spec.config], channels, DATA.size, num_classes, dtype=torch.float64)


def trained(*specs: RunSpec) -> list[RunFinished]:
    ends = {record.run_id: record for record in fit(specs, DATA) if isinstance(record, RunFinished)}
    return [ends[spec.run_id] for spec in specs]


@pytest.fixture(scope="module")
def start() -> Weights:
    """The weights of a short training with batch norm."""
    return trained(make_spec(9, {}))[0].weights


def spec_from(weights: Weights, seed: int = 0, norm: dict[str, Any] | None = None, **train: Any) -> RunSpec:
    given = {"init_from": "start", **train}
    return replace(make_spec(seed, {} if norm is None else norm, train=given, optim={"weight_decay": 0.1}), initial=weights)


@pytest.mark.parametrize("optimiser", [OptimName.sgd, OptimName.adam])
@pytest.mark.parametrize(
    ("trainable", "moved"),
    [
        (Trainable.norm, {"norm1", "norm2"}),
        (Trainable.head, {"fc3"}),
        (Trainable.norm_head, {"norm1", "norm2", "fc3"}),
        (Trainable.all, {"conv1", "norm1", "conv2", "norm2", "fc1", "fc2", "fc3"}),
    ],
)
def test_parameters_that_are_not_trained_stay_bit_for_bit(
    start: Weights, trainable: Trainable, moved: set[str], optimiser: OptimName
) -> None:
    spec = spec_from(start, trainable=trainable)
    spec.config.optim.name = optimiser
    (end,) = trained(spec)
    for name, value in end.weights.items():
        if not name.endswith(BUFFERS):
            assert np.array_equal(value, start[name]) == (name.split(".")[0] not in moved), name


def test_what_is_not_trained_outlives_a_divergence(start: Weights) -> None:
    spec = spec_from(start, trainable=Trainable.head, norm_statistics=NormStatistics.frozen)
    spec.config.optim.lr = 1e200
    (end,) = trained(spec)
    assert end.diverged_at is not None
    assert not np.isfinite(end.weights["fc3.weight"]).all()
    np.testing.assert_array_equal(end.weights["conv1.weight"], start["conv1.weight"])


def test_training_everything_costs_nothing_more() -> None:
    spec = make_spec(0)
    net = network(spec)
    optimiser = build_optimiser([spec.config.optim], net.flat, 1, 4)
    assert hold(optimiser, net, spec.config.train) is optimiser


def test_frozen_statistics_stay_and_live_ones_move(start: Weights) -> None:
    (frozen,), (live,) = trained(spec_from(start, norm_statistics=NormStatistics.frozen)), trained(spec_from(start))
    for name in (name for name in start if name.endswith(BUFFERS)):
        np.testing.assert_array_equal(frozen.weights[name], start[name])
        assert not np.array_equal(live.weights[name], start[name])


def test_frozen_statistics_are_what_training_normalises_by(start: Weights) -> None:
    """With one step, gradients go through the same function as evaluation: the training loss is the evaluation's before it."""
    spec = spec_from(start, norm_statistics=NormStatistics.frozen, batch_size=44, epochs=1)
    net = network(spec)
    load_start(net, 0, spec)
    x, y = DATA.splits["train"]
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(net.eval()(x)[:, 0], y).item()
    assert trained(spec)[0].metrics["train/loss"] == pytest.approx(expected, rel=1e-9)


def test_recomputed_statistics_are_those_of_the_target_images_under_the_given_weights(start: Weights) -> None:
    spec = spec_from(start, trainable=Trainable.head, norm_statistics=NormStatistics.recomputed)
    (end,) = trained(spec)
    net = network(spec)
    load_start(net, 0, spec)
    precise_statistics(net, statistics_batches(DATA), spec.config.train.precision)
    for name, value in net.export(0).items():
        if name.endswith(BUFFERS[:2]):
            np.testing.assert_allclose(end.weights[name], value, rtol=1e-12)
            assert not np.allclose(value, start[name])


def test_each_run_of_a_cohort_starts_from_its_own_weights(start: Weights) -> None:
    """Also its own count of batches, which a cumulative average rests on."""
    longer = trained(make_spec(8, {"momentum": None}, train={"epochs": 5}))[0].weights
    specs = [
        spec_from(start, 0),
        spec_from(longer, 1, {"momentum": None}, init_from="longer"),
        make_spec(2, {"momentum": None}, optim={"weight_decay": 0.1}),
    ]
    together = trained(*specs)
    for spec, end in zip(specs, together, strict=True):
        (alone,) = trained(spec)
        for name, value in alone.weights.items():
            np.testing.assert_allclose(end.weights[name], value, rtol=0, atol=1e-9, err_msg=name)


def test_an_output_layer_for_other_classes_is_newly_drawn(start: Weights) -> None:
    spec = spec_from(start)
    net = network(spec, num_classes=7)
    drawn = net.export(0)
    load_start(net, 0, spec)
    loaded = net.export(0)
    assert net.head == "fc3"
    for name, value in loaded.items():
        np.testing.assert_array_equal(value, drawn[name] if name.startswith("fc3.") else start[name])


@pytest.mark.parametrize("missing", [(), ("fc3.weight", "fc3.bias"), ("fc3.bias",)], ids=str)
def test_an_output_layer_is_taken_over_where_it_is_there_whole(start: Weights, missing: tuple[str, ...]) -> None:
    spec = spec_from({name: value for name, value in start.items() if name not in missing})
    net = network(spec)
    drawn = net.export(0)
    load_start(net, 0, spec)
    for name, value in net.export(0).items():
        np.testing.assert_array_equal(value, drawn[name] if missing and name.startswith("fc3.") else start[name])


@pytest.mark.parametrize(
    ("channels", "change", "message"),
    [
        (3, {}, r"it was trained on images of 1 channels, not 3; train both runs with data.channels=3\.$"),
        (1, {"conv1.weight": (6, 3, 5, 5)}, r"it was trained on images of 3 channels, not 1; .*data.channels=3\.$"),
        (2, {}, r".*conv1.weight.*\(6, 1, 5, 5\).*\(6, 2, 5, 5\)"),
        (1, {"conv1.weight": (6, 3, 3, 3)}, r".*conv1.weight.*\(6, 3, 3, 3\).*\(6, 1, 5, 5\)"),
        (3, {"fc1.weight": (120, 400)}, r".*conv1.weight.*\(6, 1, 5, 5\).*\(6, 3, 5, 5\)"),
        (1, {"fc1.weight": (120, 400)}, r".*fc1.weight.*\(120, 400\)"),
        (3, {"more.weight": (1,)}, r".*more.weight.*only in one of them"),
        (3, {"norm1.weight": None}, r".*norm1.weight.*only in one of them"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    start: Weights, channels: int, change: dict[str, tuple[int, ...] | None], message: str
) -> None:
    """What to do is said where images of another number of channels are all that differs."""
    weights = dict(start)
    for name, shape in change.items():
        if shape is None:
            del weights[name]
        else:
            weights[name] = np.zeros(shape)
    spec = spec_from(weights)
    with pytest.raises(ConfigError, match="^train.init_from=start: " + message):
        load_start(network(spec, channels=channels), 0, spec)


def test_weights_with_norms_do_not_fit_a_network_without(start: Weights) -> None:
    with pytest.raises(ConfigError, match=r"train.init_from=start: .*norm1.*only in one of them"):
        load_start(network(make_spec(0)), 0, spec_from(start))
