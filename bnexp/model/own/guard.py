"""Code of the user runs beside ours: what it changes for the whole process is undone, and its random numbers are the run's."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_MASK = 0xFFFFFFFF  # NumPy takes seeds of 32 bits


def _set_deterministic(value: bool) -> None:
    torch.use_deterministic_algorithms(value)


def _set_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)  # None removes what "cpu" would leave in every call


# How to read and to set each setting of the process that code often changes.
_SETTINGS: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, _set_device),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.are_deterministic_algorithms_enabled, _set_deterministic),
    *(
        (lambda part=part, name=name: getattr(part, name), lambda value, part=part, name=name: setattr(part, name, value))
        for part, name in [
            (torch.backends.cudnn, "benchmark"),
            (torch.backends.cudnn, "deterministic"),
            (torch.backends.cudnn, "allow_tf32"),
            (torch.backends.cuda.matmul, "allow_tf32"),
        ]
    ),
]


PythonState = tuple[Any, dict[str, Any]]


# User's code draws from NumPy's global generator, so it is that one which is seeded and restored here.
def python_state() -> PythonState:
    """The states of the global generators of Python and NumPy."""
    return random.getstate(), dict(np.random.get_state(legacy=False))  # noqa: NPY002


def restore_python(state: PythonState) -> None:
    """Set the global generators of Python and NumPy to what ``python_state`` gave."""
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002


def seed_python(seed: int) -> None:
    """Seed the global generators of Python and NumPy."""
    random.seed(seed)
    np.random.seed(seed & _MASK)  # noqa: NPY002


def has_drawn(before: PythonState) -> bool:
    """Whether the global generators of Python and NumPy have moved since ``before``."""
    now = python_state()
    return now[0] != before[0] or repr(now[1]) != repr(before[1])


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed the generators that torch's own layers draw from on a device, in microseconds."""
    for generator in generators(device):
        generator.manual_seed(seed)


def generators(device: torch.device) -> list[torch.Generator]:
    """The global generators of the CPU and of a device."""
    found = [torch.default_generator]
    if device.type == "cuda":
        found.append(torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index])
    elif device.type == "mps":
        found.append(torch.mps._get_default_mps_generator())
    return found


@contextmanager
def settings_kept() -> Iterator[None]:
    """Afterwards the settings of the process and the states of its random generators are what they were before."""
    before = [read() for read, _ in _SETTINGS]
    numbers = python_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        restore_python(numbers)
        for (read, write), value in zip(_SETTINGS, before, strict=True):
            if read() != value:
                write(value)


@contextmanager
def step_kept(device: torch.device, dtype: torch.dtype, in_python: bool) -> Iterator[None]:
    """A light ``settings_kept`` for every step: inside, new tensors are ``dtype``; afterwards all is as before.

    Args:
        device: whose generators are kept.
        dtype: the number format of new tensors.
        in_python: whether the generators of Python and NumPy are kept too.
    """
    before, numbers = torch.get_default_dtype(), python_state() if in_python else None
    states = [(generator, generator.get_state()) for generator in generators(device)]
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        for generator, state in states:
            generator.set_state(state)
        if numbers is not None:
            restore_python(numbers)


def is_lazy(tensor: torch.Tensor) -> bool:
    """Whether a parameter or buffer of a lazy layer has no shape yet."""
    return isinstance(tensor, torch.nn.parameter.UninitializedTensorMixin)  # type: ignore[attr-defined]
