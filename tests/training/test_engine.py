"""The engine's records: complete, the same alone and in any cohort, honest about divergence."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from epochs import epoch_batches
from fake_data import FakeData, make_spec
from reference import reference_network

from bnexp.config.options import InitScheme, NormKind, Precision, Schedule
from bnexp.config.schema import ConfigError, InitConfig
from bnexp.metrics import EpochMetrics, Record, RunFinished, RunStarted, RunStopped, StepMetrics
from bnexp.model.networks import build_network
from bnexp.model.norms import running_norms
from bnexp.model.norms.batch import RunBatchRenorm
from bnexp.plan.spec import RunSpec
from bnexp.training import engine, probes
from bnexp.training.engine import fit
from bnexp.training.evaluate import SplitScores
from bnexp.training.optim import build_optimiser
from bnexp.training.precision import configure_precision
from bnexp.training.step import TrainStep

DATA = FakeData()


def records(specs: Sequence[RunSpec], data: FakeData = DATA) -> dict[str, list[Record]]:
    by_run: dict[str, list[Record]] = defaultdict(list)
    for record in fit(specs, data):
        by_run[record.run_id].append(record)
    return by_run


def finished(spec: RunSpec, data: FakeData = DATA) -> RunFinished:
    last = records([spec], data)[spec.run_id][-1]
    assert isinstance(last, RunFinished)
    return last


def values(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith("time/")}


VARIED = [
    make_spec(0, {"linear": True}, optim={"lr": 0.01}, model={"dropout": 0.3}),
    make_spec(1, {"linear": True, "eps": 0.1}, optim={"lr": 0.05, "momentum": 0.3, "schedule": Schedule.cosine}),
    make_spec(0, {"linear": True, "momentum": None}, optim={"weight_decay": 0.1, "warmup": 0.5}, model={"dropout": 0.5}),
    make_spec(2, {"linear": True}, model={"dropout": 0.1, "init": InitConfig(InitScheme.kaiming, 0.5)}),
]


def assert_same_run(alone: list[Record], together: list[Record]) -> None:
    assert [type(record) for record in alone] == [type(record) for record in together]
    for a, b in zip(alone, together, strict=True):
        if isinstance(a, EpochMetrics | RunFinished):
            assert isinstance(b, EpochMetrics | RunFinished)
            assert values(a.metrics) == pytest.approx(values(b.metrics), abs=1e-9)
    a, b = alone[-1], together[-1]
    assert isinstance(a, RunFinished)
    assert isinstance(b, RunFinished)
    assert a.weights.keys() == b.weights.keys()
    for name, weight in a.weights.items():
        np.testing.assert_allclose(weight, b.weights[name], rtol=1e-12, atol=1e-9, err_msg=name)
    if a.predictions is not None:
        assert b.predictions is not None
        np.testing.assert_allclose(a.predictions.probabilities, b.predictions.probabilities, atol=1e-6)


def test_a_run_is_the_same_alone_and_however_a_cohort_is_split() -> None:
    whole = records(VARIED)
    for split in ([0, 1], [2, 3]), ([3], [1, 0, 2]), ([0], [1], [2], [3]):
        for part in split:
            for run_id, alone in records([VARIED[i] for i in part]).items():
                assert_same_run(alone, whole[run_id])


def test_records_of_a_run_come_in_order_and_are_complete() -> None:
    spec = make_spec(3, {}, train={"epochs": 3, "log_every": 3})
    started, *middle, end = records([spec])[spec.run_id]
    num_parameters = 6 * 26 + 16 * 151 + 2 * 22 + 64 * 120 + 120 + 84 * 121 + 4 * 85
    execution = "eager: no CUDA device; kernels for conv1 with pooling, conv2 with pooling, norms"
    assert started == RunStarted(spec.run_id, num_parameters, 12, "cpu", execution)
    assert [type(r) for r in middle] == [StepMetrics, EpochMetrics] * 3
    steps = [step for r in middle if isinstance(r, StepMetrics) for step in r.values]
    assert steps == [3, 6, 9, 12]
    epochs = [r for r in middle if isinstance(r, EpochMetrics)]
    assert [(r.epoch, r.step) for r in epochs] == [(1, 4), (2, 8), (3, 12)]
    names = {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "val/ece"}
    assert all(r.metrics.keys() == names | {"learning_rate", "time/epoch_seconds", "time/images_per_second"} for r in epochs)
    assert isinstance(end, RunFinished)
    assert end.diverged_at is None
    assert end.metrics.keys() == epochs[-1].metrics.keys() | {"test/loss", "test/accuracy", "test/ece"}
    assert {name: end.metrics[name] for name in epochs[-1].metrics} == epochs[-1].metrics


@pytest.mark.parametrize("norm", [None, {}], ids=["none", "batch"])
def test_as_many_updates_as_a_pass_has_are_the_bits_of_a_pass(norm: dict[str, Any] | None) -> None:
    data, model = FakeData(num_train=48), {"dropout": 0.3}
    optim = {"schedule": Schedule.cosine, "warmup": 0.5}
    sections: dict[str, Any] = {"model": model, "optim": optim, "probe": {"gradients": True, "oscillation": True}}
    plain, counted = (
        finished(make_spec(2, norm, train={"epochs": 3, "steps_per_epoch": steps}, **sections), data) for steps in (None, 4)
    )
    assert values(plain.metrics) == values(counted.metrics)
    assert all(np.array_equal(weight, counted.weights[name]) for name, weight in plain.weights.items())


def test_a_run_with_a_number_of_updates_is_the_same_alone_and_in_a_cohort() -> None:
    specs = [RunSpec(replace(s.config, train=replace(s.config.train, steps_per_epoch=5, epochs=3))) for s in VARIED]
    whole = records(specs)
    for spec in specs:
        assert_same_run(records([spec])[spec.run_id], whole[spec.run_id])


def test_an_epoch_of_a_number_of_updates_counts_the_images_that_it_saw() -> None:
    """More updates than a pass has. Validations, schedules and totals all count in these epochs."""
    train = {"epochs": 2, "steps_per_epoch": 6, "evals_per_epoch": 3, "log_every": 1}
    spec = make_spec(0, optim={"lr": 0.4, "schedule": Schedule.step, "step_epochs": 1.0}, train=train)
    started, first, one, second, two, _ = records([spec])[spec.run_id]
    assert isinstance(started, RunStarted)
    assert started.num_steps == 12
    for steps, epoch, number in ((first, one, 1), (second, two, 2)):
        assert isinstance(steps, StepMetrics)
        assert isinstance(epoch, EpochMetrics)
        assert (epoch.epoch, epoch.step, list(steps.values)) == (
            number,
            6 * number,
            list(range(6 * number - 5, 6 * number + 1)),
        )
        assert [step - 6 * (number - 1) for step, row in steps.values.items() if "val/loss" in row] == [2, 4]
        losses = [row["train/step_loss"] for row in steps.values.values()]
        assert epoch.metrics["train/loss"] == pytest.approx(np.mean(losses), rel=1e-12)
        assert epoch.metrics["learning_rate"] == pytest.approx(0.4 * 0.1 ** (number - 1))
        assert epoch.metrics["time/images_per_second"] * epoch.metrics["time/epoch_seconds"] == pytest.approx(6 * 12)


def test_the_schedule_of_batch_renorm_lasts_as_long_as_the_updates() -> None:
    spec = make_spec(0, {}, train={"epochs": 3, "steps_per_epoch": 7})
    spec.config.norm.kind = NormKind.batch_renorm
    (layer, *_) = running_norms(engine._Cohort([spec], DATA).network)  # type: ignore[arg-type]
    assert isinstance(layer, RunBatchRenorm)
    assert layer.num_steps == 21


def test_a_number_of_updates_leaves_no_last_batch_that_a_norm_could_refuse() -> None:
    train = {"epochs": 1, "batch_size": 11}
    data = FakeData(num_train=12)
    with pytest.raises(ConfigError, match="one value per channel"):
        finished(make_spec(0, {"linear": True}, train=train), data)
    assert finished(make_spec(0, {"linear": True}, train=train | {"steps_per_epoch": 2}), data).diverged_at is None


def test_training_loss_weighs_images_not_batches() -> None:
    spec = make_spec(0, train={"epochs": 1, "log_every": 1})
    found = records([spec])[spec.run_id]
    steps, epoch = found[1], found[2]
    assert isinstance(steps, StepMetrics)
    assert isinstance(epoch, EpochMetrics)
    expected = np.average([row["train/step_loss"] for row in steps.values.values()], weights=[12, 12, 12, 8])
    assert epoch.metrics["train/loss"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("norm", [None, {}, {"linear": True, "momentum": None}])
def test_test_metrics_and_predictions_are_the_plain_networks(norm: dict[str, Any] | None) -> None:
    spec = make_spec(1, norm)
    end = finished(spec)
    x, y = DATA.splits["test"]
    with torch.no_grad():
        logits = reference_network(spec.config, end.weights, DATA.in_channels, DATA.size, DATA.num_classes).eval()(x)
    assert end.metrics["test/loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, y).item(), rel=1e-10)
    assert end.metrics["test/accuracy"] == pytest.approx((logits.argmax(1) == y).double().mean().item())
    assert end.predictions is not None
    np.testing.assert_array_equal(end.predictions.labels, y.numpy())
    np.testing.assert_array_equal(end.predictions.image_ids, np.arange(15))
    assert end.predictions.probabilities.dtype == np.float32
    np.testing.assert_allclose(end.predictions.probabilities, logits.softmax(1).numpy(), atol=1e-6)


def test_the_evaluation_batch_size_does_not_matter() -> None:
    small, large = (finished(make_spec(0, {}, train={"eval_batch_size": n})) for n in (2, 1000))
    assert values(small.metrics) == pytest.approx(values(large.metrics), abs=1e-12)


def test_training_learns() -> None:
    assert finished(make_spec(0, {}, train={"epochs": 12})).metrics["test/accuracy"] > 0.8


@pytest.mark.parametrize("norm", [None, {"linear": True, "track_running_stats": False}])
def test_without_validation_images_there_are_no_validation_metrics(norm: dict[str, Any] | None) -> None:
    spec = make_spec(0, norm, train={"evals_per_epoch": 3, "batch_size": 11, "eval_batch_size": 5})
    found = records([spec], FakeData(num_val=0))[spec.run_id]
    assert [type(record) for record in found] == [RunStarted, EpochMetrics, EpochMetrics, RunFinished]
    assert isinstance(found[-1], RunFinished)
    assert found[-1].metrics.keys() & {"val/loss", "val/accuracy", "test/loss"} == {"test/loss"}


def test_learning_rate_is_that_of_the_epochs_last_step() -> None:
    spec = make_spec(0, optim={"lr": 0.4, "warmup": 1.5}, train={"epochs": 3})
    rates = [r.metrics["learning_rate"] for r in records([spec])[spec.run_id] if isinstance(r, EpochMetrics)]
    assert rates == pytest.approx([0.4 * 4 / 6, 0.4, 0.4])


WILD = make_spec(1, optim={"lr": 1e6}, train={"epochs": 3, "log_every": 1})


def test_a_diverged_run_is_recorded_with_its_step_and_at_chance() -> None:
    *_, steps, epoch, end = records([WILD])[WILD.run_id]
    assert isinstance(end, RunFinished)
    assert isinstance(steps, StepMetrics)
    assert isinstance(epoch, EpochMetrics)
    assert end.diverged_at == len(steps.values) + 1  # the finite losses before it
    assert 1 < end.diverged_at <= 4
    assert epoch.epoch == 1
    assert values(end.metrics) == {"train/accuracy": 0.25, "val/accuracy": 0.25, "test/accuracy": 0.25, "learning_rate": 1e6}
    assert end.predictions is None
    assert all(math.isfinite(row["train/step_loss"]) for row in steps.values.values())


def test_a_diverged_run_leaves_the_records_of_the_others_bit_identical() -> None:
    calm = [make_spec(seed, train={"epochs": 3, "log_every": 1}) for seed in range(3)]
    expected, found = records(calm), records([calm[0], WILD, calm[2]])
    for spec in (calm[0], calm[2]):
        for a, b in zip(expected[spec.run_id], found[spec.run_id], strict=True):
            if isinstance(a, EpochMetrics | RunFinished):
                assert isinstance(b, EpochMetrics | RunFinished)
                assert values(a.metrics) == values(b.metrics)
            if isinstance(a, RunFinished):
                assert isinstance(b, RunFinished)
                assert all((a.weights[name] == b.weights[name]).all() for name in a.weights)
    assert_same_run(records([WILD])[WILD.run_id], found[WILD.run_id])


def test_a_cohort_in_which_all_runs_diverged_stops() -> None:
    class Counting(FakeData):
        epochs: set[int]

        def epoch_draws(self, seeds: Sequence[int], epoch: int) -> Any:
            self.epochs.add(epoch)
            return super().epoch_draws(seeds, epoch)

    data = Counting()
    data.epochs = set()
    assert {r[-1].diverged_at is None for r in records([WILD], data).values()} == {False}
    assert 3 not in data.epochs


def test_a_run_that_only_evaluation_shows_to_be_lost_has_diverged() -> None:
    spec = make_spec(0, optim={"lr": 1e200}, train={"epochs": 1, "batch_size": 44})  # one step, from finite weights
    end = finished(spec)
    assert end.diverged_at == 1
    assert "test/loss" not in end.metrics


def test_a_run_that_only_test_images_show_to_be_lost_has_diverged() -> None:
    spec = make_spec(0, optim={"lr": 1e200}, train={"epochs": 1, "batch_size": 44})
    end = finished(spec, FakeData(num_val=0))
    assert end.diverged_at == 1
    assert values(end.metrics) == {"train/accuracy": 0.25, "test/accuracy": 0.25, "learning_rate": 1e200}


def test_a_run_that_diverges_in_a_later_epoch_is_recorded_with_its_step_of_the_whole_training() -> None:
    """Its learning rate is 0.01 in the first epoch, of 4 steps, and absurd from the fifth step on, whose loss is the last."""
    absurd = {"lr": 0.01, "schedule": Schedule.step, "step_epochs": 1.0, "step_gamma": 1e150}
    spec = make_spec(0, optim=absurd, train={"log_every": 1, "evals_per_epoch": 4})
    found = records([spec])[spec.run_id]
    assert [type(record) for record in found] == [RunStarted, *[StepMetrics, EpochMetrics] * 2, RunFinished]
    assert isinstance(found[-1], RunFinished)
    assert found[-1].diverged_at == 6
    inside = {step: row for record in found if isinstance(record, StepMetrics) for step, row in record.values.items()}
    assert list(inside) == [1, 2, 3, 4, 5]
    assert all(math.isfinite(value) for row in inside.values() for value in row.values())
    assert [step for step, row in inside.items() if "val/loss" in row] == [1, 2, 3]


@pytest.mark.parametrize(
    ("norm", "num_train", "train"),
    [
        ({"linear": True}, 25, {}),
        ({"linear": True, "track_running_stats": False}, 24, {"eval_batch_size": 14}),
        ({"linear": True, "track_running_stats": False}, 24, {"eval_batch_size": 9}),
        ({"linear": True, "track_running_stats": False}, 25, {"eval_batch_size": 5}),
    ],
    ids=["training", "test", "validation", "training, by batch statistics"],
)
def test_a_last_batch_of_one_is_refused_before_training(norm: dict[str, Any], num_train: int, train: dict[str, Any]) -> None:
    iterator = fit([make_spec(0, norm, train=train)], FakeData(num_train=num_train))
    with pytest.raises(ConfigError, match=r"norm3 has one value per channel .* the last one included, has at least 2 images"):
        next(iterator)


def test_the_same_run_twice_gives_the_same_bits() -> None:
    first, second = finished(VARIED[0]), finished(VARIED[0])
    assert values(first.metrics) == values(second.metrics)
    assert all((first.weights[name] == second.weights[name]).all() for name in first.weights)


def test_validations_inside_an_epoch_are_evenly_spaced_and_disturb_nothing() -> None:
    often = make_spec(0, {"linear": True}, model={"dropout": 0.3}, train={"evals_per_epoch": 3, "batch_size": 6})  # 8 steps
    once = make_spec(0, {"linear": True}, model={"dropout": 0.3}, train={"batch_size": 6})
    found, expected = records([often])[often.run_id], records([once])[once.run_id]
    inside = [r.values for r in found if isinstance(r, StepMetrics)]
    assert [list(values) for values in inside] == [[3, 5], [11, 13]]
    assert all(row.keys() == {"val/loss", "val/accuracy", "val/ece"} for values in inside for row in values.values())
    assert values(found[-1].metrics) == values(expected[-1].metrics)
    assert all((found[-1].weights[name] == weight).all() for name, weight in expected[-1].weights.items())


def test_an_epochs_seconds_are_those_of_its_steps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which a step takes 1 s, a validation 100 s, a measurement 10,000 s, and nothing else any time."""
    now = 0.0

    def takes(seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            nonlocal now
            now += seconds
            return function(*given, **named)

        return timed

    monkeypatch.setattr(TrainStep, "__call__", takes(1, TrainStep.__call__))
    monkeypatch.setattr(SplitScores, "__call__", takes(100, SplitScores.__call__))
    monkeypatch.setattr(probes, "gradients", takes(10_000, probes.gradients))
    for module in (engine, probes):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now))
    train = {"evals_per_epoch": 3, "batch_size": 11}  # 4 steps, of which the second and the last are measured
    spec = make_spec(0, train=train, probe={"gradients": True, "per_epoch": 2})
    found = records([spec])[spec.run_id]
    times = [
        (r.metrics["time/epoch_seconds"], r.metrics["time/images_per_second"]) for r in found if isinstance(r, EpochMetrics)
    ]
    assert times == [(4, 11), (4, 11)]
    assert isinstance(found[-1], RunFinished)
    assert found[-1].seconds == 2 * (4 + 3 * 100 + 2 * 10_000) + 100  # and the test images


def test_more_validations_than_steps_are_one_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []
    call = SplitScores.__call__
    monkeypatch.setattr(SplitScores, "__call__", lambda scores, *keep: looked_at.append(scores.split) or call(scores, *keep))
    spec = make_spec(0, train={"evals_per_epoch": 100, "epochs": 1})
    assert [list(r.values) for r in records([spec])[spec.run_id] if isinstance(r, StepMetrics)] == [[1, 2, 3]]
    assert looked_at == [*["val"] * 4, "test"]


def test_batch_renorms_limits_open_over_the_whole_training() -> None:
    spec = make_spec(0, {}, train={"epochs": 4})
    spec.config.norm.kind = NormKind.batch_renorm
    expected, too_fast = (by_hand(spec, num_steps) for num_steps in (16, 4))
    found = finished(spec).weights
    assert all(np.array_equal(found[name], weight) for name, weight in expected.items())
    assert not np.array_equal(found["conv1.weight"], too_fast["conv1.weight"])


def by_hand(spec: RunSpec, num_steps: int) -> dict[str, Any]:
    """The weights after 16 steps with a network that is built for ``num_steps``."""
    network = build_network([spec.config], DATA.in_channels, DATA.size, DATA.num_classes, None, DATA.dtype, num_steps)
    step = TrainStep(network, build_optimiser([spec.config.optim], network.flat, 4, 4), spec.config.train.precision)
    for epoch in range(1, 5):
        for x, y in epoch_batches(DATA, [spec.seed], epoch, 12):
            step(x, y)
    return dict(network.export(0))


def test_number_formats_are_those_asked_for_whatever_ran_before() -> None:
    configure_precision(Precision.tf32)
    next(fit([make_spec(0)], DATA))
    assert not torch.backends.cuda.matmul.allow_tf32


def test_a_stopped_run_yields_no_more_and_leaves_the_others_bit_identical() -> None:
    whole = records(VARIED)
    wanted = VARIED[1].run_id
    asked: list[tuple[int, list[str]]] = []

    def stops(run_ids: Sequence[str], epoch: int) -> set[str]:
        asked.append((epoch, list(run_ids)))
        return {wanted} if epoch == 1 else set()

    stopped: dict[str, list[Record]] = defaultdict(list)
    for record in fit(VARIED, DATA, stops):
        stopped[record.run_id].append(record)
    last = stopped[wanted][-1]
    assert isinstance(last, RunStopped)
    assert last.epoch == 1
    epochs = [record for record in stopped[wanted] if isinstance(record, EpochMetrics)]
    assert [(record.epoch, values(record.metrics)) for record in epochs] == [(1, values(last.metrics))]
    assert asked == [(1, [spec.run_id for spec in VARIED])]
    for spec in VARIED:
        if spec.run_id != wanted:
            ours, theirs = stopped[spec.run_id][-1], whole[spec.run_id][-1]
            assert isinstance(ours, RunFinished)
            assert isinstance(theirs, RunFinished)
            assert values(ours.metrics) == values(theirs.metrics)
            for name, weight in theirs.weights.items():
                np.testing.assert_array_equal(ours.weights[name], weight)


def test_a_cohort_ends_when_all_of_its_runs_are_stopped() -> None:
    got = list(fit(VARIED, DATA, lambda run_ids, _: set(run_ids)))
    assert [type(record) for record in got[-len(VARIED) :]] == [RunStopped] * len(VARIED)
    assert max(record.epoch for record in got if isinstance(record, EpochMetrics)) == 1
