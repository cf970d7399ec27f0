"""What only a GPU can show: captured steps are eager steps, cohorts follow each other, strategies agree there too."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from fake_data import FakeData, make_spec

from bnexp.config.options import Device, Precision
from bnexp.metrics import Record, RunFinished, RunStarted
from bnexp.model.convolution import FORWARD, Strategy, convolve
from bnexp.plan.spec import RunSpec
from bnexp.training import capture
from bnexp.training.engine import fit
from bnexp.training.memory import runs_that_fit

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
TRAIN = {"epochs": 3, "batch_size": 12, "device": Device.cuda, "precision": Precision.fp32}


class CudaData(FakeData):
    def __init__(self) -> None:
        super().__init__(dtype=torch.float32)
        self.device = torch.device("cuda")
        self.splits = {name: (x.cuda(), y.cuda()) for name, (x, y) in self.splits.items()}
        self.eval_order = {name: order.cuda() for name, order in self.eval_order.items()}

    def epoch_draws(self, seeds: Sequence[int], epoch: int) -> torch.Tensor:
        return super().epoch_draws(seeds, epoch).cuda()


def specs(count: int = 3) -> list[RunSpec]:
    return [make_spec(seed, {"linear": True}, model={"dropout": 0.3}, train=TRAIN) for seed in range(count)]


def records(count: int = 3) -> list[Record]:
    return list(fit(specs(count), CudaData()))  # type: ignore[arg-type]


def test_a_captured_training_is_the_eager_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = records()
    assert all(r.execution.startswith("cuda graph") for r in found if isinstance(r, RunStarted))
    monkeypatch.setattr(capture, "_record", lambda function, _: function)
    for a, b in zip(found, records(), strict=True):
        if isinstance(a, RunFinished):
            assert isinstance(b, RunFinished)
            assert a.metrics["test/loss"] == pytest.approx(b.metrics["test/loss"], abs=1e-4)


def test_a_cohort_gives_the_memory_of_its_graphs_back() -> None:
    reserved = []
    for _ in range(3):
        records()
        capture.release_memory(torch.device("cuda"))
        reserved.append(torch.cuda.memory_reserved())
    assert reserved[2] == reserved[1]


def test_a_measured_cohort_fits() -> None:
    assert runs_that_fit(specs(10), CudaData()) == 10  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FORWARD)
def test_strategies_agree_in_float32(name: str) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    x, weight = torch.randn(8, 6, 12, 12, device="cuda"), torch.randn(12, 2, 5, 5, device="cuda")
    found = convolve(x, weight, None, 0, 3, Strategy(name, name, name))
    torch.testing.assert_close(found, F.conv2d(x, weight, groups=3), rtol=0, atol=1e-3)
