"""The least time that the work can take, by arithmetic: its multiplications and additions at the speed of this machine.

Counted are the convolutions and linear layers of training and evaluation; a gradient behind max pooling counts for the winners
only, a quarter of its places. Everything else counts nothing: loading, normalisation, the optimiser, records.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from bnexp.bench.peers.lenet import LeNet
from bnexp.bench.work import Work
from bnexp.data.resident import Resident
from bnexp.run.local import num_cores

WINNERS = 0.25  # of the places that 2 x 2 max pooling looks at
SIDE = 2048  # of the matrices whose product is timed
TRIALS = 8


def limit_seconds(work: Work, data: Resident, rate: float) -> float:
    """Seconds that the work would take at ``rate`` operations per second."""
    training, evaluation = operations(data.in_channels, data.size, data.num_classes)
    trained = work.epochs * len(data.train_index)
    evaluated = work.epochs * len(data.val_index) + len(data.test_labels)
    return work.num_runs * (trained * training + evaluated * evaluation) / rate


def operations(in_channels: int, size: int, num_classes: int) -> tuple[float, float]:
    """Multiplications and additions that the network takes for one image: to train on it, and to classify it."""
    network = LeNet(in_channels, size, num_classes, batch_norm=False)
    image, label = torch.zeros(1, in_channels, size, size), torch.zeros(1, dtype=torch.int64)
    with FlopCounterMode(display=False) as evaluation:
        loss = F.cross_entropy(network(image), label)
    with FlopCounterMode(display=False) as gradients:
        loss.backward()  # type: ignore[no-untyped-call]
    counts = gradients.get_flop_counts()["Global"]
    behind_pooling = counts[torch.ops.aten.convolution_backward]
    forward = evaluation.get_total_flops()
    return forward + gradients.get_total_flops() - (1 - WINNERS) * behind_pooling, forward


def matrix_rate(device: torch.device) -> float:
    """Operations per second of a large product of float32 matrices on all cores, or on the GPU: the best of some trials."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_cores())
    try:
        a, b = torch.rand(SIDE, SIDE, device=device), torch.rand(SIDE, SIDE, device=device)
        return 2 * SIDE**3 / min(_seconds(a, b) for _ in range(TRIALS))
    finally:
        torch.set_num_threads(before)


def _seconds(a: torch.Tensor, b: torch.Tensor) -> float:
    begin = time.perf_counter()
    (a @ b)[0, 0].item()  # waits for the device
    return time.perf_counter() - begin
