"""The device and the number format of a training."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from bnexp.config.options import Device, Precision
from bnexp.config.schema import ConfigError, TrainConfig


def resolve_device(train: TrainConfig) -> torch.device:
    """The device that ``train.device`` means on this machine.

    Args:
        train: ``device`` and ``precision``. ``auto`` is the first of cuda, mps, cpu that exists and has the precision.

    Raises:
        ConfigError: the device does not exist on this machine, or does not have the precision.
    """
    present = [Device.cpu]
    if torch.backends.mps.is_available():
        present.insert(0, Device.mps)
    if torch.cuda.is_available():
        present.insert(0, Device.cuda)
    usable = [d for d in present if not (d is Device.mps and train.precision is Precision.fp64)]
    device = usable[0] if train.device is Device.auto else train.device
    if device not in present:
        raise ConfigError(
            f"train.device={device} does not exist here: this machine has {', '.join(present)}; "
            f"use train.device={present[0]} or train.device=auto."
        )
    if train.precision is Precision.tf32 and device is not Device.cuda:
        raise ConfigError(
            f"train.precision=tf32 needs a CUDA device, but this run would compute on {device}; use train.precision=fp32."
        )
    return torch.device(device.value)


def device_name(device: torch.device) -> str:
    """The device for people: ``cpu``, ``mps``, or ``cuda`` and the model of the GPU."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def compute_dtype(precision: Precision) -> torch.dtype:
    """The number format of images, parameters and optimiser state; under bf16 and tf32 these stay in float32."""
    return torch.float64 if precision is Precision.fp64 else torch.float32


def configure_precision(precision: Precision) -> None:
    """Set PyTorch's process-wide switches: TF32 only if asked for, denormal numbers flushed to zero on the CPU.

    Vanishing gradients become denormal numbers, which slow many CPUs down many times.
    """
    allowed = precision is Precision.tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
    torch.set_flush_denormal(True)


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """The context of a forward pass: under bf16 convolutions and matrix products in bfloat16, else nothing special."""
    if precision is Precision.bf16:
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
