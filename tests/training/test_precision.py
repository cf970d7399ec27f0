"""Devices and number formats: what is chosen, and what is refused with which words."""

from __future__ import annotations

import pytest
import torch
from fake_cuda import CPU, CUDA, FakeCuda
from fake_data import FakeData, make_spec

from bnexp.config.options import Device, Precision
from bnexp.config.schema import ConfigError, TrainConfig
from bnexp.metrics import RunFinished
from bnexp.model.networks import build_network
from bnexp.training.engine import fit
from bnexp.training.optim import build_optimiser
from bnexp.training.precision import autocast, compute_dtype, configure_precision, device_name, resolve_device, synchronise
from bnexp.training.step import TrainStep, image_losses


@pytest.fixture(autouse=True)
def _restore_switches() -> object:
    yield
    configure_precision(Precision.fp32)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> object:
    def has(cuda: bool = False, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return has


@pytest.mark.parametrize(
    ("cuda", "mps", "precision", "expected"),
    [
        (True, True, Precision.fp32, "cuda"),
        (False, True, Precision.fp32, "mps"),
        (False, True, Precision.fp64, "cpu"),
        (False, False, Precision.fp32, "cpu"),
        (True, False, Precision.tf32, "cuda"),
    ],
)
def test_auto_takes_the_best_device_that_fits(
    machine: object, cuda: bool, mps: bool, precision: Precision, expected: str
) -> None:
    machine(cuda, mps)  # type: ignore[operator]
    assert resolve_device(TrainConfig(precision=precision)).type == expected


def test_a_missing_device_is_refused(machine: object) -> None:
    machine(mps=True)  # type: ignore[operator]
    with pytest.raises(ConfigError) as error:
        resolve_device(TrainConfig(device=Device.cuda))
    assert str(error.value) == (
        "train.device=cuda does not exist here: this machine has mps, cpu; use train.device=mps or train.device=auto."
    )


def test_tf32_without_cuda_is_refused(machine: object) -> None:
    machine()  # type: ignore[operator]
    with pytest.raises(ConfigError) as error:
        resolve_device(TrainConfig(precision=Precision.tf32))
    assert str(error.value) == (
        "train.precision=tf32 needs a CUDA device, but this run would compute on cpu; use train.precision=fp32."
    )


def test_tf32_is_on_only_where_asked_for_and_denormals_are_flushed() -> None:
    configure_precision(Precision.tf32)
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32
    configure_precision(Precision.fp32)
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    assert (torch.full((8,), 1e-38) * 0.01 == 0).all()


def test_bf16_computes_products_in_bfloat16_and_losses_in_float32() -> None:
    config = make_spec(0, {}, train={"precision": Precision.bf16}).config
    network = build_network([config], 1, 20, 4)
    x, y = FakeData(dtype=torch.float32).splits["train"]
    with autocast(Precision.bf16, CPU):
        logits = network(x)
    losses = image_losses(logits, y[None])
    assert (logits.dtype, losses.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(losses, image_losses(logits.float(), y[None]), rtol=0, atol=0)
    step = TrainStep(network, build_optimiser([config.optim], network.flat, 1, 1), Precision.bf16)
    assert step(x, y[None])[0] == losses.mean()


@pytest.mark.parametrize("precision", list(Precision))
def test_autocast_is_to_bfloat16_on_every_device(monkeypatch: pytest.MonkeyPatch, precision: Precision) -> None:
    asked: list[tuple[str, torch.dtype | None]] = []
    monkeypatch.setattr(torch, "autocast", lambda device, dtype=None: asked.append((device, dtype)))
    autocast(precision, CUDA)
    assert asked == ([("cuda", torch.bfloat16)] if precision is Precision.bf16 else [])


def test_only_devices_that_work_on_their_own_are_waited_for(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.mps, "synchronize", lambda: cuda.log.append("synchronize mps"))
    found = []
    for name in ("cpu", "cuda", "mps"):
        synchronise(torch.device(name))
        found.append(list(cuda.log))
    assert found == [[], ["synchronize"], ["synchronize", "synchronize mps"]]


def test_a_gpu_is_named_with_its_model(cuda: FakeCuda) -> None:
    assert [device_name(torch.device(name)) for name in ("cpu", "cuda", "mps")] == ["cpu", "cuda (Fake 100)", "mps"]


@pytest.mark.parametrize("precision", [Precision.fp32, Precision.fp64, Precision.bf16])
@pytest.mark.parametrize("num_runs", [1, 2])
def test_every_precision_trains_on_the_cpu(precision: Precision, num_runs: int) -> None:
    specs = [make_spec(s, {}, train={"epochs": 12, "precision": precision}) for s in range(num_runs)]
    finished = [r for r in fit(specs, FakeData(dtype=compute_dtype(precision))) if isinstance(r, RunFinished)]
    assert len(finished) == num_runs
    for record in finished:
        assert record.metrics["test/accuracy"] > 0.8
        expected = "float64" if precision is Precision.fp64 else "float32"
        assert record.weights["fc1.weight"].dtype == expected
