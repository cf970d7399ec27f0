"""Named random streams: what every record rests on."""

from __future__ import annotations

import pytest
import torch

from bnexp.rng import derive, numpy_generator
from bnexp.torch_rng import torch_generator


def test_streams_are_the_same_on_every_machine_and_in_every_version() -> None:
    assert derive(0, "order/1") == 4374215849138048446
    assert numpy_generator(3, "split/val").integers(0, 1000, 3).tolist() == [687, 942, 321]
    assert torch.randint(0, 1000, (3,), generator=torch_generator(3, "order/1")).tolist() == [507, 941, 833]


@pytest.mark.parametrize("other", [(1, "order/1"), (0, "order/2"), (0, "order/11"), (10, "rder/1")])
def test_another_seed_or_name_is_another_stream(other: tuple[int, str]) -> None:
    assert derive(*other) != derive(0, "order/1")


def test_every_seed_fits_into_63_bits() -> None:
    derived = [derive(seed, "order/1") for seed in range(200)]
    assert min(derived) >= 0
    assert 2**62 < max(derived) < 2**63
