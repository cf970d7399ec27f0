"""What probes measure at the end of epochs and of training: readings, gap, oscillation and cost, against plain PyTorch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from epochs import epoch_batches
from fake_cuda import CUDA, FakeCuda
from fake_data import FakeData, make_config
from hypothesis import given
from hypothesis import strategies as st
from reference import reference_network
from torch import Tensor, nn

from bnexp.config.options import Activation, ModelName, NormKind, Precision, Statistics
from bnexp.config.schema import RunConfig
from bnexp.model.network import Network
from bnexp.model.networks import TableNetwork, build_network
from bnexp.torch_rng import torch_generator
from bnexp.training.evaluate import evaluate
from bnexp.training.memory import saved_bytes
from bnexp.training.optim import build_optimiser
from bnexp.training.probes import cost
from bnexp.training.probes.images import chosen, in_full_parts
from bnexp.training.probes.losses import EvaluationGap, oscillation
from bnexp.training.probes.readings import Readings
from bnexp.training.probes.twin import State, Twin
from bnexp.training.statistics import precise_statistics, statistics_batches
from bnexp.training.step import EpochTotals, TrainStep

DATA = FakeData(num_test=48)


def made_network(configs: Sequence[RunConfig]) -> Network:
    return build_network(configs, DATA.in_channels, DATA.size, DATA.num_classes, dtype=torch.float64, num_steps=10).train()


def of_kind(kind: NormKind, config: RunConfig) -> RunConfig:
    return replace(config, norm=replace(config.norm, kind=kind))


def made_readings(config: RunConfig, data: FakeData = DATA) -> tuple[dict[str, float], nn.Module, Network]:
    network = made_network([config])
    train = TrainStep(network, build_optimiser([config.optim], network.flat, 1, 30), Precision.fp64)
    for epoch in range(1, 6):
        for x, y in epoch_batches(DATA, [config.seed], epoch, 12):
            train(x, y)
    found = Readings(Twin(made_network([config]), Precision.fp64), data, config.train)(State.of(network))
    plain = reference_network(config, network.export(0), DATA.in_channels, DATA.size, DATA.num_classes)
    return {name.removeprefix("statistics/"): value.item() for name, value in found.items()}, plain, network


@pytest.mark.parametrize("linear", [False, True])
def test_readings_are_accuracies_by_the_statistics_they_name(linear: bool) -> None:
    config = make_config(0, {"linear": linear, "placement": "before_activation"}, train={"eval_batch_size": 1000})
    found, plain, network = made_readings(config)
    order = chosen(DATA, "test", 48)
    x, y = DATA.images("test", order)
    pale = DATA.shifted(0.5, 0.25).images("test", order)[0]

    def accuracy(size: int = 48, of: Tensor = x) -> float:
        with torch.no_grad():
            right = [plain(images).argmax(1) for images in of.split(size)]
        return (torch.cat(right) == y).double().mean().item()

    plain.eval()
    expected = {"running": accuracy(), "shifted/running": accuracy(of=pale)}
    norms = [m for m in plain.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
    for prefix, images in (("", x), ("shifted/", pale)):
        batch = {size: accuracy(size, images) for size in (2, 8, 48) + ((1,) if not linear else ())}
        sizes = [size for size in (1, 2, 8, 64, 1000) if size > 1 or not linear]
        expected |= {f"{prefix}batch_{size}": batch[min(size, 48)] for size in sizes}
    plain = reference_network(config, network.export(0), DATA.in_channels, DATA.size, DATA.num_classes).train()
    expected["training_mode"] = accuracy()
    plain.eval()
    expected["after_training_mode"] = accuracy()
    precise_statistics(network, [DATA.splits["train"]], Precision.fp64)
    expected["precise"] = float(evaluate(network, DATA, "test", 48, Precision.fp64).accuracy[0])
    assert found == pytest.approx(expected)
    assert len(set(expected.values())) > 3


def test_training_mode_takes_64_images_at_a_time_however_many_evaluation_takes() -> None:
    data = FakeData(num_test=150)
    config = make_config(0, {"placement": "before_activation"}, train={"eval_batch_size": 1000})
    found, plain, _ = made_readings(config, data)
    positions, counted = in_full_parts(chosen(data, "test", 150), 64)
    assert len(positions) == 192
    x, y = data.images("test", positions)
    with torch.no_grad():
        right = torch.cat([plain.train()(images).argmax(1) for images in x.split(64)]) == y
    assert found["training_mode"] == pytest.approx(right[counted].double().mean().item())


def test_readings_look_at_no_larger_batches_than_evaluation_where_the_parts_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    forward = TableNetwork.forward
    monkeypatch.setattr(TableNetwork, "forward", lambda network, x: seen.append(len(x)) or forward(network, x))
    network = made_network([config := make_config(0, {}, train={"eval_batch_size": 10})])
    data: Any = FakeData(num_test=151)
    Readings(Twin(network, Precision.fp64), data, config.train)(State.of(network))
    by_parts = {1: [10] * 15 + [1], 2: [10] * 15 + [2], 8: [8] * 19, 64: [64] * 3, 1000: [151]}
    single, training = by_parts[1], by_parts[64]
    precise = [data.num_train]
    evaluated = [*itertools.chain(*by_parts.values()), *single]
    assert seen == [*evaluated, *evaluated, *training, *single, *precise, *single]


def test_the_statistics_of_the_batch_take_a_shift_of_all_pixels_away_and_running_ones_do_not() -> None:
    found, _, _ = made_readings(make_config(0, {"placement": "before_activation", "eps": 1e-12}))
    for size in (1, 2, 8, 64, 1000):
        assert found[f"shifted/batch_{size}"] == found[f"batch_{size}"]
    assert found["shifted/running"] < found["running"]


def test_training_mode_drops_units() -> None:
    with_dropout = make_config(0, {}, model={"dropout": 0.9})
    found, _, _ = made_readings(with_dropout)
    assert found["training_mode"] != found["batch_64"]


@pytest.mark.parametrize("norm", [None, NormKind.layer])
def test_without_batch_statistics_all_readings_are_the_same(norm: NormKind | None) -> None:
    config = make_config(0) if norm is None else of_kind(norm, make_config(0, {}))
    found, plain, _ = made_readings(config)
    assert found.keys() == {"running", "precise", "training_mode", "after_training_mode", "shifted/running"} | {
        f"{prefix}batch_{size}" for size in (1, 2, 8, 64, 1000) for prefix in ("", "shifted/")
    }
    for data, shifted in ((DATA, False), (DATA.shifted(0.5, 0.25), True)):
        x, y = data.splits["test"]
        accuracies = {value for name, value in found.items() if name.startswith("shifted/") is shifted}
        assert accuracies == {(plain.eval()(x).argmax(1) == y).double().mean().item()}


def test_without_running_statistics_there_are_no_readings_by_them() -> None:
    found, _, _ = made_readings(make_config(0, {"track_running_stats": False}))
    sizes = (1, 2, 8, 64, 1000)
    assert found.keys() == {"training_mode"} | {f"{prefix}batch_{size}" for size in sizes for prefix in ("", "shifted/")}


@given(st.integers(1, 40), st.integers(1, 50))
def test_parts_are_full_and_every_image_counts_once(num_images: int, size: int) -> None:
    order = torch.randperm(num_images, generator=torch.Generator().manual_seed(0))
    positions, counted = in_full_parts(order, size)
    assert len(positions) % min(size, num_images) == 0
    assert positions[counted].tolist() == order.tolist()
    assert all(len(part.unique()) == len(part) for part in positions.split(min(size, num_images)))


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_images_that_probes_see_are_drawn_once_and_for_all(split: str) -> None:
    data: Any = FakeData()
    drawn = torch.randperm(data.num_images(split), generator=torch_generator(0, f"probe/{split}"))
    assert torch.equal(chosen(data, split, 10), drawn[:10])  # type: ignore[arg-type]
    assert torch.equal(chosen(data, split, 100), drawn)  # type: ignore[arg-type]


def test_the_gap_looks_at_no_more_than_10_000_images() -> None:
    data: Any = SimpleNamespace(num_images=lambda split: {"train": 20_000}[split])
    twin: Any = None
    assert len(EvaluationGap(twin, data, make_config(0, train={"eval_batch_size": 1000})).positions) == 10_000


@pytest.mark.parametrize("statistics", list(Statistics))
def test_the_gap_is_between_training_and_validation_images_in_evaluation_mode(statistics: Statistics) -> None:
    config = make_config(0, {"statistics": statistics}, model={"dropout": 0.5}, train={"eval_batch_size": 5})
    network = made_network([config])
    validation = evaluate(network, DATA, "val", 7, Precision.fp64)
    with torch.no_grad():
        seen = network.eval()(DATA.splits["val"][0])[:, 0]
    network.train()
    gap = EvaluationGap(Twin(network, Precision.fp64), DATA, config)
    totals = EpochTotals(np.ones((1, 1)), np.ones(1), np.array([0.75]))
    found = gap(State.of(network), totals, validation)
    if statistics is Statistics.precise:
        precise_statistics(network, statistics_batches(DATA), Precision.fp64)
    plain = reference_network(config, network.export(0), DATA.in_channels, DATA.size, DATA.num_classes).eval()
    loss, accuracy = {}, {}
    for split in ("train", "val"):
        x, y = DATA.splits[split]
        logits = plain(x).detach() if split == "train" else seen
        loss[split], accuracy[split] = F.cross_entropy(logits, y).item(), (logits.argmax(1) == y).double().mean().item()
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        {
            "train_eval/loss": loss["train"],
            "train_eval/accuracy": accuracy["train"],
            "gap/loss": loss["val"] - loss["train"],
            "gap/accuracy": accuracy["train"] - accuracy["val"],
            "gap/mode_accuracy": 0.75 - accuracy["train"],
        }
    )
    assert gap(State.of(network), totals, None).keys() == found.keys() - {"gap/loss", "gap/accuracy"}


def test_oscillation_is_the_spread_about_the_trend() -> None:
    rng = np.random.default_rng(0)
    line = np.linspace(3, 1, 4000)[:, None]
    noise = rng.normal(0, [0.1, 0.02], (4000, 2))
    assert oscillation(line + noise) == pytest.approx([0.1, 0.02], rel=0.05)
    assert oscillation(line[:60]) == pytest.approx([0], abs=1e-12)
    assert oscillation(np.array([[1.0], [4.0], [1.0]])) == pytest.approx([2 / (2 / 3) ** 0.5])
    assert np.isnan(oscillation(line[:2])).all()


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 5, 50, 51, 52, 53, 120])
def test_oscillation_is_about_the_moving_average_of_51_steps_or_as_many_as_there_are(num_steps: int) -> None:
    losses = np.random.default_rng(num_steps).normal(size=(num_steps, 2))
    width = min(51, num_steps if num_steps % 2 else num_steps - 1)
    if width < 3:
        assert np.isnan(oscillation(losses)).all()
        return
    parts = [losses[start : start + width] for start in range(num_steps - width + 1)]
    squares = [(part[width // 2] - part.mean(0)) ** 2 for part in parts]
    np.testing.assert_allclose(oscillation(losses), np.sqrt(np.mean(squares, axis=0) / (1 - 1 / width)), rtol=1e-12)


def test_the_cost_is_that_of_a_b_b_a_turns_after_a_warm_up(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device that works on its own: 3 s a step with a norm, 2 s without, and three turns that something else held up."""
    order: list[str] = []
    step = TrainStep.__call__

    def timed(train: TrainStep, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        is_normed = "norm1" in dict(train.network.named_children())
        order.append("a" if is_normed else "b")
        assert train.network.training
        assert x.shape == (12, 1, 20, 20)
        held_up = 100.0 if len(order) <= 8 else 5.0 if len(order) in (9, 13, 88) else 0.0
        cuda.work((3.0 if is_normed else 2.0) + held_up)
        return step(train, x, labels)

    monkeypatch.setattr(TrainStep, "__call__", timed)
    monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: cuda.now))
    data: Any = FakeData()
    data.device = CUDA
    model = {"name": ModelName.mlp, "depth": 1, "width": 5, "activation": Activation.sigmoid}
    found = cost.measure_cost(make_config(0, {}, model=model, train={"epochs": 1, "batch_size": 12}), data)
    assert "".join(order) == 4 * "ab" + 20 * "abba"
    assert found.pop("cost/activation_mib") * 2**20 == saved_bytes(
        made_network([make_config(0, {}, model=model)]), data.images("train", torch.arange(12))[0]
    )
    assert found == {"cost/step_ms": 3000, "cost/step_ratio": 1.5, "cost/parameters": 400 * 5 + 5 + 2 * 5 + 5 * 4 + 4}


def test_what_the_device_was_busy_with_before_a_step_is_none_of_its_cost(
    cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: cuda.now))
    cuda.work(100.0)
    assert cost._seconds(lambda: cuda.work(2.0), CUDA) == 2.0


def test_saved_bytes_are_the_activations_that_the_backward_pass_reads() -> None:
    model = {"name": ModelName.mlp, "depth": 2, "width": 5, "activation": Activation.sigmoid}
    x, _ = DATA.images("train", torch.arange(12))
    assert saved_bytes(made_network([make_config(0, model=model)]), x) == 2 * 12 * 5 * 8
    normalised = made_network([make_config(0, {}, model=model)])
    assert saved_bytes(normalised, x) >= 4 * 12 * 5 * 8
