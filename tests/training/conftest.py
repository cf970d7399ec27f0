"""A fake GPU, for the tests of what a GPU alone does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fake_cuda import FakeCuda


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    fake = FakeCuda()
    fake.install(monkeypatch)
    with fake:
        yield fake
