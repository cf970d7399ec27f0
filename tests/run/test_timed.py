"""A timed step tells how fast a machine is before any run is recorded, and is remembered."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import bnexp
from bnexp.plan.compose import compose
from bnexp.run import timed
from bnexp.run.cost import counted_time


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("BNEXP_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(timed, "_found", {})
    return tmp_path


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new process."""
    monkeypatch.setattr(timed, "_found", {})


def three_times_slower(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    calls: list[object] = []

    def step(config: object) -> float:
        calls.append(config)
        return 3 * counted_time(timed.REFERENCE)(64)

    monkeypatch.setattr(timed, "time_step", step)
    return calls


def test_a_machine_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = three_times_slower(monkeypatch)
    assert timed.machine_pace() is None
    for _ in range(2):
        timed.time_machine()
        assert timed.machine_pace() == pytest.approx(3 * timed.BESIDE)
        forget(monkeypatch)
    assert calls == [timed.REFERENCE]


def test_another_version_is_timed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    three_times_slower(monkeypatch)
    timed.time_machine()
    forget(monkeypatch)
    monkeypatch.setattr(bnexp, "__version__", "99")
    assert timed.machine_pace() is None


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", '{"pace": "fast"}', '{"pace": null}', '{"pace": NaN}', '{"pace": 0}', "\xff", "[" * 9999],
    ids=range(9),
)
def test_a_damaged_memory_does_not_tell(fresh: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    three_times_slower(monkeypatch)
    timed.time_machine()
    forget(monkeypatch)
    (file,) = fresh.glob("pace/*.json")
    file.write_bytes(content.encode("latin-1"))
    assert timed.machine_pace() is None


def test_a_cache_that_cannot_be_written_does_not_matter(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    three_times_slower(monkeypatch)
    (fresh / "pace").write_text("a file where the folder should be")
    timed.time_machine()
    assert timed.machine_pace() == pytest.approx(3 * timed.BESIDE)


@pytest.mark.parametrize("overrides", [["norm=batch"], ["model=mlp", "train.precision=bf16"], ["data=cifar100", "optim=adam"]])
def test_a_step_of_any_run_can_be_timed_on_one_core(overrides: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [9.0, 0.25, 0.5, 0.25]  # the first is slow, and not counted
    times = iter([time for number, step in enumerate(steps) for time in (10.0 * number, 10.0 * number + step)])
    threads: list[int] = []

    def clock() -> float:
        threads.append(torch.get_num_threads())
        return next(times)

    monkeypatch.setattr(timed, "perf_counter", clock)
    monkeypatch.setattr(timed, "SECONDS", 9.9)
    before, random = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        assert timed.time_step(compose(["data=mnist", "train.batch_size=8", *overrides])) == 0.25
        assert (set(threads), torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.get_rng_state(), random)


def test_at_least_two_steps_are_timed_and_not_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose(["data=mnist", "train.batch_size=8"])
    monkeypatch.setattr(timed, "SECONDS", 0.0)
    assert timed.time_step(config) > 0
    monkeypatch.setattr(timed, "SECONDS", 1e9)
    monkeypatch.setattr(timed, "MOST_STEPS", 3)
    assert timed.time_step(config) > 0


def test_a_process_of_the_pool_times_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    timed.time_machine_in_pool()
    pace = timed.machine_pace()
    assert pace is not None
    forget(monkeypatch)
    assert timed.machine_pace() == pace
