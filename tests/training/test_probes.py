"""Probes: complete, on time, the same alone and in any cohort, silent about diverged runs, and without effect on training."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fake_data import FakeData, make_spec

from bnexp.config.keys import PROBE_METRICS, STEP_PROBES, final_metrics
from bnexp.config.options import ModelName, NormKind, OptimName, ResidualInit, Statistics
from bnexp.config.schema import InitConfig
from bnexp.metrics import EpochMetrics, Record, RunFinished, StepMetrics
from bnexp.model.networks import build_network
from bnexp.plan.spec import RunSpec
from bnexp.training.engine import fit
from bnexp.training.probes import AT_STEPS, build_probes
from bnexp.training.probes.images import chosen
from bnexp.training.probes.similar import SimilarImages

DATA = FakeData()
ALL = dict.fromkeys(PROBE_METRICS, True) | {"images": 6}
BUT_COST = ALL | {"cost": False}


def records(specs: Sequence[RunSpec], data: FakeData = DATA) -> list[list[Record]]:
    """The records of each run."""
    by_run: dict[str, list[Record]] = defaultdict(list)
    for record in fit(specs, data):
        by_run[record.run_id].append(record)
    return [by_run[spec.run_id] for spec in specs]


def finished(found: Sequence[Record]) -> RunFinished:
    last = found[-1]
    assert isinstance(last, RunFinished)
    return last


def is_probed(name: str) -> bool:
    return name.split("/")[0] in {metric.split("/")[0] for metrics in PROBE_METRICS.values() for metric in metrics}


def probed(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if is_probed(name)}


def others(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not is_probed(name) and not name.startswith("time/")}


def not_probed(record: StepMetrics) -> dict[int, dict[str, float]]:
    """What is recorded at single steps without probes; they add the training loss."""
    rows = {step: others(row) for step, row in record.values.items()}
    rows = {step: {name: value for name, value in row.items() if name != "train/loss"} for step, row in rows.items()}
    return {step: row for step, row in rows.items() if row}


def with_probes(spec: RunSpec, probe: dict[str, Any]) -> RunSpec:
    return RunSpec(replace(spec.config, probe=replace(spec.config.probe, **probe)))


def with_norm(spec: RunSpec, **norm: Any) -> RunSpec:
    return RunSpec(replace(spec.config, norm=replace(spec.config.norm, **norm)))


RENORM = {"kind": NormKind.batch_renorm, "linear": True}
RESNET = {"name": ModelName.resnet, "depth": 8, "width": 2}
SPECS = {
    "none": make_spec(0, model={"dropout": 0.4}, optim={"name": OptimName.adam}),
    "noise": make_spec(0, {"linear": True, "noise": 0.5}, model={"dropout": 0.4}, train={"evals_per_epoch": 2}),
    "ghost": make_spec(0, {"ghost_size": 4, "momentum": None}, optim={"weight_decay": 0.1}),
    "precise": make_spec(0, {"statistics": Statistics.precise}, train={"log_every": 1}),
    "renorm": with_norm(make_spec(0, {}, model={"dropout": 0.4}), **RENORM),
    "untracked": make_spec(0, {"track_running_stats": False}),
    "group": with_norm(make_spec(0, {}), kind=NormKind.group),
    "resnet": make_spec(0, {}, model=RESNET),
    "fixup": make_spec(0, model=RESNET | {"init": InitConfig(residual=ResidualInit.fixup)}),
}


@pytest.mark.parametrize("name", SPECS)
def test_probes_change_no_weight_no_buffer_and_no_metric(name: str) -> None:
    spec = SPECS[name]
    (plain,) = records([spec])
    (found,) = records([with_probes(spec, (ALL if name == "noise" else BUT_COST) | {"per_epoch": 2})])
    recorded = [r for r in found if not isinstance(r, StepMetrics) or not_probed(r)]
    assert [type(record) for record in plain] == [type(record) for record in recorded]
    for a, b in zip(plain, recorded, strict=True):
        if isinstance(a, EpochMetrics | RunFinished):
            assert isinstance(b, EpochMetrics | RunFinished)
            assert others(a.metrics) == others(b.metrics)
            assert probed(b.metrics)
            assert not probed(a.metrics)
        if isinstance(a, StepMetrics):
            assert isinstance(b, StepMetrics)
            assert a.values == not_probed(b)
    a, b = finished(plain), finished(found)
    assert a.weights.keys() == b.weights.keys()
    assert all(np.array_equal(a.weights[name], b.weights[name]) for name in a.weights)
    assert a.predictions is not None
    assert b.predictions is not None
    assert np.array_equal(a.predictions.probabilities, b.predictions.probabilities)


@pytest.mark.parametrize(
    ("norm", "eval_batch_size"),
    [({}, 5), ({"linear": True, "track_running_stats": False}, DATA.num_train - 1)],  # one training image would be left over
    ids=str,
)
def test_a_finished_run_has_the_final_metrics_that_are_named(norm: dict[str, Any], eval_batch_size: int) -> None:
    spec = make_spec(0, norm, probe=ALL, train={"batch_size": 11, "eval_batch_size": eval_batch_size})
    metrics = finished(records([spec])[0]).metrics
    named = {name for probe in PROBE_METRICS.values() for name in probe}
    assert named & set(final_metrics(spec.config)) == named & metrics.keys()
    assert all(math.isfinite(value) for value in metrics.values())


def test_a_finished_run_has_the_means_of_its_epochs() -> None:
    spec = make_spec(0, {}, probe=BUT_COST, train={"epochs": 3})
    found = records([spec])[0]
    epochs = [record.metrics for record in found if isinstance(record, EpochMetrics)]
    end = finished(found).metrics
    assert {name: end[name] for name in PROBE_METRICS["gap"]} == {name: epochs[-1][name] for name in PROBE_METRICS["gap"]}
    for metric in (
        m for probe, metrics in PROBE_METRICS.items() if probe not in ("cost", "statistics", "gap") for m in metrics
    ):
        assert end[metric] == pytest.approx(np.mean([metrics[metric] for metrics in epochs if metric in metrics])), metric
    assert not [name for name in epochs[0] | epochs[1] if name.startswith("statistics/")]
    assert {n: v for n, v in end.items() if n.startswith("statistics/")} == {
        n: v for n, v in epochs[2].items() if n.startswith("statistics/")
    }


def test_the_running_reading_is_the_test_accuracy() -> None:
    metrics = finished(records([make_spec(0, {}, probe={"statistics": True})])[0]).metrics
    assert metrics["statistics/running"] == metrics["test/accuracy"]


@pytest.mark.parametrize("seeds", [(0, 1), (0, 0)], ids=["own batches", "shared batches"])
def test_a_run_measures_the_same_alone_and_in_a_cohort(seeds: tuple[int, int]) -> None:
    norm, model = {"linear": True}, {"dropout": 0.3}
    rates = (0.1, 0.02)
    specs = [make_spec(s, norm, probe=BUT_COST, model=model, optim={"lr": lr}) for s, lr in zip(seeds, rates, strict=True)]
    for spec, together in zip(specs, records(specs), strict=True):
        (alone,) = records([spec])
        assert finished(alone).metrics.keys() == finished(together).metrics.keys()
        assert probed(finished(alone).metrics) == pytest.approx(probed(finished(together).metrics), rel=1e-6, abs=1e-9)


def test_a_diverged_run_gives_no_values_and_leaves_those_of_the_others() -> None:
    calm = [make_spec(seed, probe=BUT_COST, train={"epochs": 3}) for seed in range(3)]
    wild = make_spec(1, probe=BUT_COST, optim={"lr": 1e200}, train={"epochs": 3})
    found = records([calm[0], wild, calm[2]])
    expected = records(calm)
    assert finished(found[1]).diverged_at is not None
    assert not probed(finished(found[1]).metrics)
    for run in (0, 2):
        assert probed(finished(found[run]).metrics) == probed(finished(expected[run]).metrics)


@pytest.mark.parametrize(
    ("per_epoch", "measured"),
    [(1, [2, 6]), (2, [1, 2, 5, 6]), (3, [0, 1, 2, 4, 5, 6]), (100, [0, 1, 2, 4, 5, 6])],
    ids=str,
)
def test_steps_are_measured_at_the_same_places_of_each_epoch(per_epoch: int, measured: list[int]) -> None:
    """44 images in batches of 12: three full steps and one of 8 images, which is not measured."""
    config = make_spec(0, probe={"gradients": True, "per_epoch": per_epoch}).config
    network = build_network([config], DATA.in_channels, DATA.size, DATA.num_classes)
    probes = build_probes([config], network, DATA)
    assert probes is not None
    assert [t for t in range(8) if probes.is_measured(t)] == measured


def test_with_a_number_of_updates_all_of_them_can_be_measured() -> None:
    config = make_spec(0, probe={"gradients": True, "per_epoch": 3}, train={"steps_per_epoch": 5}).config
    probes = build_probes([config], build_network([config], DATA.in_channels, DATA.size, DATA.num_classes), DATA)
    assert probes is not None
    assert [t for t in range(10) if probes.is_measured(t)] == [1, 2, 4, 6, 7, 9]


def test_every_measurement_is_recorded_at_its_step_with_the_loss_since_the_one_before() -> None:
    probe = BUT_COST | {"per_epoch": 2, "gap": False, "statistics": False}
    found = records([make_spec(0, {}, probe=probe, train={"epochs": 2, "batch_size": 6, "log_every": 1})])[0]
    rows = {step: row for record in found if isinstance(record, StepMetrics) for step, row in record.values.items()}
    losses = [rows[step]["train/step_loss"] for step in range(1, 17)]  # 44 images: 7 batches of 6 and one of 2
    measured = {step: row for step, row in rows.items() if "train/loss" in row}
    assert list(measured) == [4, 7, 12, 15]
    for step, since in zip(measured, (0, 4, 8, 12), strict=True):
        assert measured[step]["train/loss"] == pytest.approx(np.mean(losses[since:step]))
    middle = abs(losses[5] - np.mean(losses[4:7]))  # the one step with a whole window of three
    assert measured[7]["oscillation/loss"] == pytest.approx(middle / math.sqrt(2 / 3))
    epochs = [record.metrics for record in found if isinstance(record, EpochMetrics)]
    for metric in (m for name in STEP_PROBES if name != "oscillation" for m in PROBE_METRICS[name]):
        values = [row[metric] for row in measured.values()]
        assert len(set(values)) > 1, metric
        assert [epoch[metric] for epoch in epochs] == pytest.approx([np.mean(values[:2]), np.mean(values[2:])])


def test_initial_gradients_are_those_before_any_update() -> None:
    spec = make_spec(0, {}, probe={"initial_gradients": True, "gradients": True, "per_epoch": 100})
    found = records([spec])[0]
    rows = {step: row for record in found if isinstance(record, StepMetrics) for step, row in record.values.items()}
    first, second = (record.metrics for record in found if isinstance(record, EpochMetrics))
    measured = {name: value for name, value in first.items() if name.startswith("initial_gradients/")}
    assert measured == {f"initial_{name}": value for name, value in rows[1].items() if name.startswith("gradients/")}
    assert "initial_gradients/conv1/norm" in measured
    assert not any(name.startswith("initial_gradients/") for name in second)
    assert finished(found).metrics["initial_gradients/log_ratio"] == measured["initial_gradients/log_ratio"]
    alone = finished(records([with_probes(spec, {"gradients": False})])[0]).metrics
    assert alone["initial_gradients/log_ratio"] == measured["initial_gradients/log_ratio"]


def test_the_probes_that_measure_at_single_steps_are_named() -> None:
    assert set(STEP_PROBES) == {*AT_STEPS, "oscillation"}


def test_where_a_batch_holds_all_images_every_step_is_measured() -> None:
    config = make_spec(0, probe={"gradients": True}, train={"batch_size": 100}).config
    probes = build_probes([config], build_network([config], 1, 20, 4), DATA)
    assert probes is not None
    assert all(probes.is_measured(t) for t in range(3))


def test_a_step_is_measured_at_the_learning_rates_that_it_was_made_with() -> None:
    optims = ({"lr": 0.1}, {"lr": 0.2, "warmup": 0.5})
    configs = [make_spec(0, probe={"landscape": True}, optim=optim).config for optim in optims]
    probes = build_probes(configs, build_network(configs, 1, 20, 4), DATA)
    assert probes is not None
    expected = torch.tensor([[0.1, 0.1], [0.1, 0.2], *[[0.1, 0.2]] * 6])  # of 8 steps
    torch.testing.assert_close(probes.rates, expected)


@pytest.mark.parametrize("probe", PROBE_METRICS)
def test_a_probe_alone_gives_its_metrics_alone(probe: str) -> None:
    spec = make_spec(0, {}, probe={probe: True, "images": 6}, train={"epochs": 1})
    found = probed(finished(records([spec])[0]).metrics)
    assert set(PROBE_METRICS[probe]) <= found.keys() | {name for name in PROBE_METRICS["statistics"] if "/batch_" in name}
    assert {name.split("/")[0] for name in found} == {name.split("/")[0] for name in PROBE_METRICS[probe]}


def test_what_is_undefined_is_left_out() -> None:
    spec = make_spec(0, {}, probe={"similar": True, "jitter": 0.0, "images": 6})
    for record in records([spec])[0]:
        if isinstance(record, EpochMetrics | RunFinished):
            assert probed(record.metrics).keys() == {"similar/backward_gain"}


def test_similar_images_are_the_first_of_those_that_probes_see() -> None:
    config = make_spec(0, {}, probe={"similar": True, "jitter": 0.0, "images": 6}).config
    probes = build_probes([config], build_network([config], 1, 20, 4), DATA)
    assert probes is not None
    (measure,) = probes.at_steps
    assert isinstance(measure, SimilarImages)
    first, _ = DATA.images("train", chosen(DATA, "train", 1))
    assert torch.equal(measure.images, first.expand(6, -1, -1, -1))


def test_without_probes_nothing_is_built() -> None:
    config = make_spec(0).config
    assert build_probes([config], build_network([config], 1, 20, 4), DATA) is None


@pytest.mark.parametrize("num_val", [0, 24])
def test_what_every_run_records_is_named_and_nothing_else(num_val: int) -> None:
    """A new metric of every run is named in config/keys.py and computed in training/engine.py."""
    spec = make_spec(0, data={"val_fraction": 0.1 if num_val else 0.0})
    metrics = finished(records([spec], FakeData(num_val=num_val))[0]).metrics
    assert sorted(metrics) == sorted(final_metrics(spec.config))


def test_without_validation_images_there_is_no_gap_but_the_training_images_are_seen() -> None:
    spec = make_spec(0, probe={"gap": True}, data={"val_fraction": 0.0})
    metrics = finished(records([spec], FakeData(num_val=0))[0]).metrics
    assert probed(metrics).keys() == {"train_eval/loss", "train_eval/accuracy", "gap/mode_accuracy"}
    assert metrics["gap/mode_accuracy"] == metrics["train/accuracy"] - metrics["train_eval/accuracy"]
    assert set(final_metrics(spec.config)) <= metrics.keys()
