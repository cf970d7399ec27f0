"""The W&B sink never holds up its caller, keeps the order of a run, and tells errors once. W&B itself is left out."""

from __future__ import annotations

import threading

import pytest

from bnexp.config.options import WandbMode
from bnexp.config.schema import TrackConfig, WandbConfig
from bnexp.metrics import EpochMetrics, Record
from bnexp.plan.spec import RunSpec
from bnexp.tracking.records import DataFacts
from bnexp.tracking.store import Store
from bnexp.tracking.wandb.session import WandbSession
from bnexp.tracking.wandb.sink import NUM_LANES, WandbSink
from tests.tracking.records import CLASSES, NUM_TEST, images, make_records, make_spec, play


class Recorder(WandbSink):
    """Notes what would be logged, as soon as the gate is open."""

    def __init__(self, broken: str = "") -> None:
        track = TrackConfig(0, wandb=WandbConfig(mode=WandbMode.offline))
        super().__init__(track, Store(), images, DataFacts(CLASSES, NUM_TEST), "mnist")
        self.gate = threading.Event()
        self.seen: list[Record] = []
        self.threads: dict[str, set[int]] = {}
        self.ended = 0
        self.broken = broken

    def _log(self, spec: RunSpec, record: Record) -> None:
        assert self.gate.wait(30)
        if spec.run_id == self.broken:
            raise OSError("disk full")
        self.threads.setdefault(spec.run_id, set()).add(threading.get_ident())
        self.seen.append(record)

    def _end(self) -> None:
        self.ended += 1


@pytest.fixture(autouse=True)
def wandb_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WandbSession, "disabled", False)


def opened(sink: Recorder) -> Recorder:
    sink.gate.set()
    return sink


def test_recording_does_not_wait_and_closing_does() -> None:
    spec = make_spec()
    sink = Recorder()
    for record in make_records(spec):
        sink.record(spec, record)
    assert sink.seen == []
    opened(sink).close()
    assert [record.epoch for record in sink.seen if isinstance(record, EpochMetrics)] == [1, 2, 3]
    assert len(sink.seen) == 5


def test_each_run_keeps_its_order_and_its_thread() -> None:
    specs = [make_spec(seed) for seed in range(2 * NUM_LANES + 1)]
    sink = opened(Recorder())
    play(sink, specs)
    for spec in specs:
        assert [type(record) for record in sink.seen if record.run_id == spec.run_id] == [type(r) for r in make_records(spec)]
    assert all(len(threads) == 1 for threads in sink.threads.values())
    assert len(set.union(*sink.threads.values())) == NUM_LANES


def test_an_error_ends_one_run_only_and_is_told_once() -> None:
    specs = [make_spec(seed) for seed in range(2)]
    sink = opened(Recorder(broken=specs[0].run_id))
    play(sink, specs)
    assert {record.run_id for record in sink.seen} == {specs[1].run_id}
    assert sink.lost == ["W&B: recording stopped for 1 run (disk full)."]


def test_an_error_at_the_end_does_not_reach_the_caller() -> None:
    class Stumbling(Recorder):
        def _end(self) -> None:
            raise OSError("disk full")

    sink = opened(Stumbling())
    play(sink, [make_spec()])
    assert sink.messages == ["W&B: recording did not end well (disk full)."]


def test_closing_twice_ends_once_and_leaves_no_thread() -> None:
    before = threading.active_count()
    sink = opened(Recorder())
    play(sink, [make_spec(seed) for seed in range(4)])
    sink.close()
    assert sink.ended == 1
    assert threading.active_count() == before


def test_a_sink_without_records_starts_no_thread() -> None:
    before = threading.active_count()
    with Recorder() as sink:
        sink.begin([make_spec()])
        assert threading.active_count() == before
