"""Small files in the published formats, and what the loopback server of the tests serves."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnexp.config.options import DataName
from bnexp.config.schema import DataConfig
from bnexp.data.catalogue import RawFile
from bnexp.data.download import obtain
from bnexp.data.resident import Resident, prepare

Answer = Callable[[int, bytes], tuple[int, bytes]]


@dataclass
class FileServer:
    """What a loopback server serves: path -> content, or (number of the request, content) -> (status, body)."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    agents: set[str] = field(default_factory=set)
    says_length: bool = True


def idx(array: NDArray[np.uint8]) -> bytes:
    """The array in the format of MNIST's files."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def images_and_labels(n: int, *shape: int, num_classes: int = 10, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, *shape), np.uint8), (np.arange(n) % num_classes).astype(np.uint8)


def obtain_and_prepare(file: RawFile, root: Path, config: DataConfig, barrier: Any, results: Any) -> None:
    """In a process of its own: get a raw file and a data set at the same moment as others; report whether it packed."""
    calls: list[str] = []
    barrier.wait()
    obtain(file, [root], lambda *_: None)
    resident = prepare(config, lambda what, done, total: calls.append(what))
    results.put((resident.fingerprint, any(call.startswith("packing") for call in calls)))


def load(npz: Path, **keys: Any) -> Resident:
    """The data set of the fixture ``npz``."""
    return prepare(DataConfig(name=DataName.npz, root=str(npz), size=16, **keys))
