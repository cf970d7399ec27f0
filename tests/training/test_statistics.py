"""Precise statistics: those of the population, in place of the running ones, and nothing else changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from epochs import epoch_batches
from fake_data import FakeData, make_config
from torch import Tensor

from bnexp.config.options import NormKind, Placement, Precision, Statistics
from bnexp.config.schema import ModelConfig, NormConfig
from bnexp.metrics import EpochMetrics, RunFinished
from bnexp.model.network import Network
from bnexp.model.networks import build_network
from bnexp.model.norms import RunningNorm, running_norms
from bnexp.plan.spec import RunSpec
from bnexp.torch_rng import torch_generator
from bnexp.training.engine import fit
from bnexp.training.evaluate import evaluate
from bnexp.training.statistics import by_precise_statistics, kept_statistics, precise_statistics, statistics_batches

DATA = FakeData(num_train=40)
SEEDS = (0, 1)


def build(dropout: float = 0.0, **norm: Any) -> Network:
    """A network in the middle of a training."""
    norm = {"kind": NormKind.batch, "placement": Placement.before_activation} | norm
    configs = [replace(make_config(seed), norm=NormConfig(**norm), model=ModelConfig(dropout=dropout)) for seed in SEEDS]
    network = build_network(configs, 1, 20, 4, dtype=torch.float64, num_steps=8)
    for x, _ in epoch_batches(DATA, SEEDS, 1, 10):
        network(x)
    return network


def batches(*sizes: int) -> list[tuple[Tensor, Tensor]]:
    x, y = DATA.splits["train"]
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


def inputs_of(network: Network, norm: RunningNorm, x: Tensor) -> Tensor:
    """What comes to a layer, (N, R, C, M)."""
    seen: list[Tensor] = []
    hook = norm.register_forward_pre_hook(lambda _, inputs: seen.append(norm.values(inputs[0]).detach()))
    network(x)
    hook.remove()
    return seen[0]


def state_of(network: Network) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in (*network.named_parameters(), *network.named_buffers())}


@pytest.mark.parametrize(
    ("norm", "sizes"),
    [
        ({}, (40,)),
        ({}, (13, 2, 25)),
        ({"kind": NormKind.batch_renorm}, (20, 19, 1)),
        ({"ghost_size": 3, "noise": 0.5}, (20, 19, 1)),
    ],
    ids=str,
)
def test_the_first_norm_gets_the_statistics_of_the_population(norm: dict[str, Any], sizes: tuple[int, ...]) -> None:
    network = build(**norm)
    precise_statistics(network, batches(*sizes), Precision.fp64)
    first = running_norms(network)[0]
    values = inputs_of(network.eval(), first, DATA.splits["train"][0])
    torch.testing.assert_close(first.running_mean, values.mean((0, 3)), rtol=0, atol=1e-12)
    torch.testing.assert_close(first.running_var, values.var((0, 3), correction=0), rtol=0, atol=1e-12)


def test_every_norm_gets_them_where_all_images_are_one_batch() -> None:
    network = build(dropout=0.5, linear=True)
    precise_statistics(network, batches(40), Precision.fp64)
    x, _ = DATA.splits["train"]
    network.eval()
    precise = network(x)
    for norm in running_norms(network):
        values = inputs_of(network, norm, x)
        torch.testing.assert_close(norm.running_mean, values.mean((0, 3)), rtol=0, atol=1e-9)
        torch.testing.assert_close(norm.running_var, values.var((0, 3), correction=0), rtol=0, atol=1e-9)
        norm.track_running_stats = False
    torch.testing.assert_close(network(x), precise, rtol=0, atol=1e-8)  # so evaluation is that of the batch


def test_a_large_mean_costs_no_precision() -> None:
    network = build()
    with torch.no_grad():
        network.conv1.bias = torch.nn.Parameter(torch.full((2, 6), 1e6, dtype=torch.float64))
    precise_statistics(network, batches(13, 2, 25), Precision.fp64)
    first = running_norms(network)[0]
    values = inputs_of(network.eval(), first, DATA.splits["train"][0])
    torch.testing.assert_close(first.running_var, values.var((0, 3), correction=0), rtol=1e-8, atol=0)


@pytest.mark.parametrize("norm", [{"noise": 0.5}, {"kind": NormKind.batch_renorm}], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_nothing_but_the_statistics_changes_and_they_can_be_kept(norm: dict[str, Any], training: bool) -> None:
    network = build(dropout=0.5, linear=True, **norm).train(training)
    before = state_of(network)
    places = [norm.running_mean.data_ptr() for norm in running_norms(network)]
    with kept_statistics(network):
        precise_statistics(network, batches(20, 20), Precision.fp64)
        inside = state_of(network)
    changed = {name.split(".")[-1] for name in before if not torch.equal(before[name], inside[name])}
    assert changed == {"running_mean", "running_var"}
    after = state_of(network)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert places == [norm.running_mean.data_ptr() for norm in running_norms(network)]
    assert network.training is training
    assert all(layer.training is training for layer in network.children())


def test_frozen_statistics_are_measured_like_others() -> None:
    network = build()
    for norm in running_norms(network):
        norm.frozen = True
    before = network.export(0)["norm1.running_mean"]
    network(DATA.splits["train"][0])
    assert (network.export(0)["norm1.running_mean"] == before).all()
    precise_statistics(network, batches(40), Precision.fp64)
    assert (network.export(0)["norm1.running_mean"] != before).all()


def test_a_run_gets_the_same_alone_and_in_a_cohort() -> None:
    cohort = build(linear=True)
    config = replace(make_config(SEEDS[1]), norm=NormConfig(NormKind.batch, Placement.before_activation, linear=True))
    alone = build_network([config], 1, 20, 4, dtype=torch.float64)
    for network in (cohort, alone):
        precise_statistics(network, statistics_batches(DATA), Precision.fp64)
    for a, b in zip(running_norms(alone), running_norms(cohort), strict=True):
        torch.testing.assert_close(a.running_mean[0], b.running_mean[1], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(a.running_var[0], b.running_var[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("num_images", "sizes"), [(40, [40]), (257, [129, 128]), (1000, [250] * 4)])
def test_batches_have_every_image_once_and_are_as_equal_as_can_be(num_images: int, sizes: list[int]) -> None:
    data = FakeData(num_train=num_images)
    found = list(statistics_batches(data))
    assert [len(x) for x, _ in found] == sizes
    x, y = data.splits["train"]
    key = x.flatten(1).sum(1)
    order = torch.cat([part for part, _ in found]).flatten(1).sum(1)
    assert torch.equal(order.sort().values, key.sort().values)
    assert not torch.equal(order, key)
    assert torch.equal(torch.cat([part for _, part in found]).bincount(), y.bincount())
    drawn = torch.randperm(num_images, generator=torch_generator(0, "statistics"))  # else records of one run id would differ
    assert torch.equal(order, key[drawn])


def finished(**norm: Any) -> tuple[list[EpochMetrics], RunFinished]:
    config = replace(make_config(0, train={"epochs": 2}), norm=NormConfig(**norm))
    records = list(fit([RunSpec(config)], DATA))
    last = records[-1]
    assert isinstance(last, RunFinished)
    return [record for record in records if isinstance(record, EpochMetrics)], last


@pytest.mark.parametrize("kind", [kind for kind in NormKind if kind.has_running_statistics])
def test_training_does_not_feel_how_it_is_evaluated(kind: NormKind) -> None:
    epochs, running = finished(kind=kind)
    others, precise = finished(kind=kind, statistics=Statistics.precise)
    assert all((running.weights[name] == precise.weights[name]).all() for name in running.weights)
    for a, b in zip(epochs, others, strict=True):
        assert a.metrics["train/loss"] == b.metrics["train/loss"]
        assert a.metrics["val/loss"] != b.metrics["val/loss"]
    network = build_network([replace(make_config(0), norm=NormConfig(kind=kind))], 1, 20, 4, dtype=torch.float64)
    network.load(0, precise.weights)
    with by_precise_statistics(network, DATA, Precision.fp64):
        expected = evaluate(network, DATA, "test", 7, Precision.fp64)
    assert precise.metrics["test/loss"] == pytest.approx(float(expected.loss[0]), abs=1e-12)


def test_nothing_of_the_measurement_stays_in_the_layers() -> None:
    network = build()
    precise_statistics(network, batches(40), Precision.fp64)
    assert all(norm.track_running_stats and not norm._forward_pre_hooks for norm in running_norms(network))


def test_layers_without_running_statistics_need_no_pass() -> None:
    network = build_network([replace(make_config(0), norm=NormConfig(kind=NormKind.layer))], 1, 20, 4)
    images = iter(batches(40))
    precise_statistics(network, images, Precision.fp64)
    assert next(images, None) is not None
    _, running = finished(kind=NormKind.layer)
    _, precise = finished(kind=NormKind.layer, statistics=Statistics.precise)
    assert running.metrics["test/loss"] == precise.metrics["test/loss"]
