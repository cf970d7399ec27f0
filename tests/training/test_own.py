"""Networks of a user's own in the engine: the same numbers as a built-in one, as a plain loop, alone and in any cohort."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from epochs import epoch_batches
from fake_data import FakeData, make_spec
from own_nets import LeNet
from own_specs import own_spec
from torch import nn

from bnexp.config.options import NormKind, NormStatistics, OptimName, Schedule, Statistics, Trainable
from bnexp.config.schema import ConfigError
from bnexp.metrics import RunFinished
from bnexp.model.networks import build_network
from bnexp.plan.spec import RunSpec
from bnexp.training.engine import fit
from bnexp.training.memory import estimate

DATA = FakeData()


def built_in_spec(seed: int = 0, norm: dict[str, Any] | None = None, **sections: Any) -> RunSpec:
    spec = make_spec(seed, None, **sections)
    own = own_spec(seed, norm, **sections)
    spec.config.norm = own.config.norm
    return spec


def trained(specs: Sequence[RunSpec], data: FakeData = DATA) -> list[RunFinished]:
    found = {record.run_id: record for record in fit(specs, data) if isinstance(record, RunFinished)}
    return [found[spec.run_id] for spec in specs]


def assert_same_bits(a: RunFinished, b: RunFinished) -> None:
    assert a.weights.keys() == b.weights.keys()
    assert [name for name in a.weights if not np.array_equal(a.weights[name], b.weights[name])] == []
    assert a.predictions is not None
    assert b.predictions is not None
    assert np.array_equal(a.predictions.probabilities, b.predictions.probabilities)


@pytest.mark.parametrize(
    ("norm", "sections"),
    [
        (None, {}),
        ({}, {"optim": {"name": OptimName.adam, "lr": 0.002, "weight_decay": 0.01}}),
        ({"ghost_size": 4, "noise": 0.5}, {"optim": {"schedule": Schedule.cosine, "nesterov": True}}),
        ({"statistics": Statistics.precise, "momentum": None}, {}),
        ({"kind": NormKind.batch_renorm}, {}),
        ({"kind": NormKind.group}, {}),
        ({}, {"train": {"norm_statistics": NormStatistics.recomputed, "trainable": Trainable.norm_head}}),
    ],
)
def test_the_built_in_lenet_and_the_same_lenet_as_a_factory_give_the_same_numbers(
    norm: dict[str, Any] | None, sections: dict[str, Any]
) -> None:
    (built_in,) = trained([built_in_spec(3, norm, **sections)])
    (own,) = trained([own_spec(3, norm, **sections)])
    assert own.weights.keys() == built_in.weights.keys()
    for name, value in built_in.weights.items():
        np.testing.assert_allclose(own.weights[name], value, rtol=1e-9, atol=1e-12, err_msg=name)
    assert {n: v for n, v in own.metrics.items() if "time" not in n} == pytest.approx(
        {n: v for n, v in built_in.metrics.items() if "time" not in n}, abs=1e-9
    )


def test_a_plain_loop_of_torch_gives_the_same_weights() -> None:
    spec = own_spec(1, {}, optim={"lr": 0.05, "weight_decay": 0.001})
    (own,) = trained([spec])
    module = LeNet(lambda c, spatial=True: nn.BatchNorm2d(c), 1, 4, 20).double()
    start = build_network([spec.config], 1, 20, 4, dtype=torch.float64).export(0)
    module.load_state_dict({name: torch.as_tensor(value) for name, value in start.items()})
    sgd = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, weight_decay=0.001)
    for epoch in (1, 2):
        for x, y in epoch_batches(DATA, [1], epoch, 12):
            sgd.zero_grad()
            F.cross_entropy(module(x), y[0]).backward()
            sgd.step()
    for name, value in module.state_dict().items():
        np.testing.assert_allclose(own.weights[name], value.numpy(), rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_run_with_dropout_has_the_same_bits_alone_in_any_cohort_and_after_other_code() -> None:
    specs = [own_spec(seed, {}, args={"dropout": 0.5}) for seed in (0, 0, 1)]
    specs[1].config.optim.lr = 0.02
    together = trained(specs)
    for spec, whole in zip(reversed(specs), reversed(together), strict=True):
        torch.rand(5)  # what the process drew before does not matter
        assert_same_bits(trained([spec])[0], whole)
    (without,) = trained([own_spec(0, {})])
    assert not np.array_equal(without.weights["fc3.weight"], together[0].weights["fc3.weight"])


def test_tensors_that_forward_makes_have_the_number_format_of_the_run() -> None:
    (run,) = trained([own_spec(function="making_tensors")])
    assert run.weights["fc.weight"].dtype == np.float64


PROBES = dict.fromkeys(("gradients", "covariate_shift", "landscape", "decoupling", "statistics", "similar", "gap"), True)


def test_probes_measure_what_they_measure_in_the_built_in_network() -> None:
    (built_in,) = trained([built_in_spec(3, {}, probe=PROBES)])
    (own,) = trained([own_spec(3, {}, probe=PROBES)])
    assert {n: v for n, v in own.metrics.items() if "time" not in n} == pytest.approx(
        {n: v for n, v in built_in.metrics.items() if "time" not in n}, abs=1e-7
    )


def test_activations_are_the_inputs_of_activation_modules_by_name_alone_and_in_a_cohort() -> None:
    specs = [own_spec(seed, {}, function="modular", probe={"activations": True, "similar": True}) for seed in (0, 1)]
    for alone, whole in zip([trained([spec])[0] for spec in specs], trained(specs), strict=True):
        wanted = {n: v for n, v in alone.metrics.items() if n.startswith(("activations", "similar"))}
        assert {"activations/1/p50", "activations/1-2/p50", "activations/1-4/dead"} <= wanted.keys()
        assert wanted == pytest.approx({n: whole.metrics[n] for n in wanted}, abs=1e-9)


def test_activations_that_are_functions_are_said_to_be_out_of_sight() -> None:
    with pytest.raises(ConfigError, match=r"probe\.activations sees activations that are modules, .* write nn\.ReLU\(\)"):
        trained([own_spec(0, probe={"activations": True})])


def test_a_probe_that_compares_layers_needs_two() -> None:
    with pytest.raises(ConfigError, match=r"probe\.gradients compares layers, and the network has fewer than two .* leave the"):
        trained([own_spec(0, function="making_tensors", probe={"gradients": True})])


def test_a_run_starts_from_the_weights_of_another_and_trains_the_output_layer_alone() -> None:
    (first,) = trained([own_spec(5, {})])
    spec = own_spec(6, {}, train={"trainable": Trainable.head, "init_from": "abc"})
    fewer = {name: value[:3] if name.startswith("fc3") else value for name, value in first.weights.items()}
    (same,) = trained([replace(spec, initial=first.weights)])
    (other,) = trained([replace(spec, initial=fewer)])
    for run in (same, other):
        assert np.array_equal(run.weights["conv1.weight"], first.weights["conv1.weight"])
        assert not np.array_equal(run.weights["fc3.weight"], first.weights["fc3.weight"])
        assert not np.array_equal(run.weights["norm1.running_mean"], first.weights["norm1.running_mean"])
    assert other.weights["fc3.weight"].shape == (4, 84)


def test_a_batch_of_one_image_that_comes_out_in_another_shape_ends_with_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"own_nets\.py:squeezing: the module returns shape \(4,\) for a batch of 1 images"):
        trained([own_spec(function="squeezing")], FakeData(num_train=13))


@pytest.mark.parametrize("norm", [None, {}])
def test_memory_is_estimated_about_as_for_the_built_in_network(norm: dict[str, Any] | None) -> None:
    built_in, own = built_in_spec(0, norm).config, own_spec(0, norm, function="modular").config
    assert estimate(own, 1, 20, 4).per_run == pytest.approx(estimate(built_in, 1, 20, 4).per_run, rel=0.3)
