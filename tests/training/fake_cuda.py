"""A GPU for machines that have none: its tensors lie in the memory of the CPU, its graphs are lists of operations.

What a test sees of it: ``log``, everything that is asked of the device in order; ``now``, the clock of the host, which goes on
only where the host waits for work (``work``) that the device has not done yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


class FakeCuda(TorchFunctionMode):
    """Inside, what is to be on a GPU is on the CPU, and ``torch.cuda`` is this object's."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []
        self.now = self.pending = 0.0
        self.stream = Stream(self, "main")
        self.num_graphs = 0
        self.free, self.peak = 2000, 777  # bytes

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.cpu:
            self.wait()
        return func(*map(on_cpu, args), **{name: on_cpu(value) for name, value in (kwargs or {}).items()})

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def says(what: str) -> Callable[..., None]:
            return lambda *_: self.log.append(what)

        replaced: dict[str, Any] = {
            "Stream": lambda: Stream(self, "side"),
            "current_stream": lambda: self.stream,
            "stream": self.on,
            "synchronize": self.synchronize,
            "empty_cache": says("empty cache"),
            "graph_pool_handle": lambda: "pool",
            "CUDAGraph": lambda: Graph(self),
            "graph": self.recording,
            "Event": lambda enable_timing=False: Event(self, enable_timing),
            "get_device_name": lambda _: "Fake 100",
            "reset_peak_memory_stats": says("reset peak"),
            "max_memory_allocated": lambda _: self.log.append("peak") or self.peak,
            "mem_get_info": lambda _: self.log.append("free") or (self.free, 2 * self.free),
        }
        for name, value in replaced.items():
            monkeypatch.setattr(torch.cuda, name, value)

    def work(self, seconds: float) -> None:
        """Give the device something to do: the host goes on at once."""
        self.pending += seconds

    def wait(self) -> None:
        self.now, self.pending = self.now + self.pending, 0.0

    def synchronize(self, *_: object) -> None:
        self.log.append("synchronize")
        self.wait()

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        before, self.stream = self.stream, stream
        yield
        self.stream = before

    @contextmanager
    def recording(self, graph: Graph, pool: object = None, capture_error_mode: str = "global") -> Iterator[None]:
        self.log.append(f"record in {pool}, {capture_error_mode}")
        with Operations() as trace:
            yield
        graph.operations = trace.found


def on_cpu(value: Any) -> Any:
    return CPU if isinstance(value, torch.device) else value


class Stream:
    def __init__(self, cuda: FakeCuda, name: str) -> None:
        self.cuda, self.name = cuda, name

    def wait_stream(self, other: Stream) -> None:
        self.cuda.log.append(f"{self.name} waits for {other.name}")


class Event:
    """Notes when the device gets to it."""

    def __init__(self, cuda: FakeCuda, enable_timing: bool) -> None:
        assert enable_timing
        self.cuda = cuda

    def record(self) -> None:
        self.time = self.cuda.now + self.cuda.pending

    def elapsed_time(self, other: Event) -> float:
        """Milliseconds from this to ``other``, if the device has got there."""
        assert self.cuda.pending == 0, "the device is still busy"
        return 1000 * (other.time - self.time)


class Operations(TorchDispatchMode):
    """Notes the operations that run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.found.append((func, args, kwargs or {}, out))
        return out


class Graph:
    """Operations on tensors that stay where they were when it was recorded."""

    operations: list[tuple[Any, Any, Any, Any]]

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        cuda.num_graphs += 1
        self.number = cuda.num_graphs

    @torch.no_grad()
    def replay(self) -> None:
        self.cuda.log.append(f"replay {self.number}")
        for func, args, kwargs, out in self.operations:
            new = func(*args, **kwargs)
            for place, value in zip(tree_flatten(out)[0], tree_flatten(new)[0], strict=True):
                if isinstance(place, Tensor) and place.data_ptr() != value.data_ptr():
                    place.copy_(value)
