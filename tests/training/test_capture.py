"""CUDA graphs on a fake GPU: what is called, in which order, and that nothing is left of it but the graphs."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from fake_cuda import CPU, CUDA, FakeCuda
from torch import Tensor

from bnexp.training.capture import captured, release_memory


class Steps:
    """Functions that add to a number on the device, and note when they are called, where, and what they find."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.state = torch.tensor([5.0])
        self.found: list[float] = []

    def adding(self, name: str, amount: float) -> Callable[[], None]:
        def add() -> None:
            self.cuda.log.append(f"{name} on {self.cuda.stream.name}")
            self.found.append(float(self.state))
            self.state += amount

        return add


def test_functions_warm_up_from_the_same_state_each_and_are_then_recorded_once(cuda: FakeCuda) -> None:
    steps = Steps(cuda)
    replays, execution = captured([steps.adding("a", 1), steps.adding("b", 10)], [steps.state], CUDA)
    assert execution == "cuda graph"
    assert cuda.log == [
        "side waits for main",
        *["a on side"] * 3,
        *["b on side"] * 3,
        "main waits for side",
        "synchronize",
        "empty cache",
        "record in pool, thread_local",
        "a on main",
        "record in pool, thread_local",
        "b on main",
    ]
    assert steps.found[:7] == [5.0] * 7
    assert steps.state == 5
    cuda.log.clear()
    for replay in (*replays, replays[0]):
        replay()
    assert cuda.log == ["replay 1", "replay 2", "replay 1"]
    assert steps.state == 17


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("CUDA error: operation not permitted when stream is capturing.\nMore lines follow.",
         "CUDA error: operation not permitted when stream is capturing"),
        ("\n cannot capture aten::index_put_.", "cannot capture aten::index_put_"),
        ("", "RuntimeError"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("calls", [1, 3])
def test_what_cannot_be_captured_runs_eagerly_for_a_recorded_reason(
    cuda: FakeCuda, message: str, reason: str, calls: int
) -> None:
    function, state = failing(RuntimeError(message), calls)
    assert captured([function], [state], CUDA) == ([function], f"eager: {reason}")
    assert cuda.log[-1] == "synchronize"
    assert state == 5


@pytest.mark.parametrize("calls", [1, 3])
def test_memory_that_runs_out_in_a_capture_is_no_reason_for_eager_execution(cuda: FakeCuda, calls: int) -> None:
    function, state = failing(torch.OutOfMemoryError("CUDA out of memory."), calls)
    with pytest.raises(torch.OutOfMemoryError):
        captured([function], [state], CUDA)
    assert state == 5


def failing(error: Exception, calls: int) -> tuple[Callable[[], None], Tensor]:
    """A function that leaves its state changed and fails at a call after so many; the state, which is 5."""
    state, count = torch.tensor([5.0]), 0

    def step() -> None:
        nonlocal count
        count += 1
        state.add_(1)
        if count > calls:
            raise error

    return step, state


def test_elsewhere_functions_are_called_as_they_are(cuda: FakeCuda) -> None:
    steps = Steps(cuda)
    functions = [steps.adding("a", 1)]
    assert captured(functions, [steps.state], CPU) == (functions, "eager: no CUDA device")
    assert cuda.log == []


def test_memory_goes_back_to_the_device_once_nothing_holds_it(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    class Holder:
        def __init__(self) -> None:
            self.itself = self

    gc.disable()
    try:
        held = weakref.ref(Holder())
        release_memory(CPU)
        assert cuda.log == []
        assert held() is not None
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: cuda.log.append(f"empty cache, holding {held()}"))
        release_memory(CUDA)
    finally:
        gc.enable()
    assert cuda.log == ["empty cache, holding None"]
