"""CUDA graphs: a function of device state is recorded once and replayed, without Python between its kernels.

Works with torch 2.6. Off CUDA, or if a capture fails, the functions run eagerly.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Function = Callable[[], None]
WARM_UP_CALLS = 3  # in the first calls cuDNN and cuBLAS choose algorithms and allocate workspaces


def captured(functions: Sequence[Function], state: Sequence[Tensor], device: torch.device) -> tuple[list[Function], str]:
    """Capture functions as CUDA graphs.

    Args:
        functions: what to capture. They may use only tensors that stay at their place in memory.
        state: all tensors that the functions change. Warming up calls the functions; after it ``state`` has its values back.
        device: where the tensors are.

    Returns:
        For each function the replay of its graph, or the function itself; and how they are executed: ``cuda graph`` or
        ``eager: <reason>``. An error of CUDA, such as an operation that cannot be captured, becomes the reason.

    Raises:
        torch.OutOfMemoryError: the graphs do not fit into the memory of the GPU.
    """
    if device.type != "cuda":
        return list(functions), "eager: no CUDA device"
    saved = [tensor.detach().clone() for tensor in state]

    @torch.no_grad()
    def restore() -> None:
        for tensor, value in zip(state, saved, strict=True):
            tensor.copy_(value)

    try:
        _warm_up(functions, restore)
        pool = torch.cuda.graph_pool_handle()  # shared: graphs are replayed one at a time and leave nothing there
        replays = [_record(function, pool) for function in functions]
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        torch.cuda.synchronize()
        return list(functions), f"eager: {_first_line(error)}"
    finally:
        restore()
    return replays, "cuda graph"


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")


def _warm_up(functions: Sequence[Function], restore: Function) -> None:
    """Call each function on a stream of its own, as capture demands, and free the memory that graphs cannot use.

    Every call starts from the same state: otherwise the step counter would leave the epoch.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for function in functions:
            for _ in range(WARM_UP_CALLS):
                function()
                restore()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()


def _record(function: Function, pool: Any) -> Function:
    graph = torch.cuda.CUDAGraph()
    # In the mode "global" other threads, such as those of W&B, could break the capture.
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        function()
    return graph.replay


def release_memory(device: torch.device) -> None:
    """Free what a cohort held on a GPU, the memory of its graphs too, so that the next cohort can use all of it."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
