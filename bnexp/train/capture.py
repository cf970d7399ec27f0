"""CUDA graphs: a function of device state is recorded once and replayed, without Python between its kernels.

Needs no more of torch than 2.6 has. Elsewhere than on CUDA, and where a capture fails, the functions are called as they are.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Function = Callable[[], None]
WARM_UP_CALLS = 3  # cuDNN and cuBLAS choose algorithms and take workspaces in the first calls


def captured(functions: Sequence[Function], state: Sequence[Tensor], device: torch.device) -> tuple[list[Function], str]:
    """Each function as the replay of a CUDA graph, and how they are executed: ``cuda graph`` or ``eager: <reason>``.

    A function may use nothing but tensors that stay where they are; ``state`` names all that it changes. Capturing calls the
    functions to warm up, after which ``state`` has its values back. Raises torch.OutOfMemoryError; another error of CUDA, such
    as an operation that cannot be captured, becomes the reason.
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
        pool = torch.cuda.graph_pool_handle()  # one for all, since they are replayed one at a time and leave nothing there
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
    """Call each on a stream of its own, as capture demands, and hand the memory back that graphs cannot use.

    Every call starts from the same state: counted on, steps would leave the epoch.
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
    # Other threads, as those of W&B, may meanwhile do what would break a capture in the mode "global".
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        function()
    return graph.replay


def release_memory(device: torch.device) -> None:
    """Give back what a cohort held on a GPU, its graphs' memory too, so that the next one finds all of it."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
