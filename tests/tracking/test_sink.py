"""A background sink never holds up its caller, keeps the order of a run, and tells errors once."""

from __future__ import annotations

import threading

from bnexp.metrics import EpochMetrics, Record
from bnexp.plan.spec import RunSpec
from bnexp.tracking.sink import BackgroundSink
from tests.tracking.records import make_records, make_spec, play


class Recorder(BackgroundSink):
    def __init__(self, workers: int = 1, broken: str = "") -> None:
        super().__init__(workers)
        self.gate = threading.Event()
        self.seen: list[Record] = []
        self.threads: dict[str, set[int]] = {}
        self.finished = 0
        self.broken = broken

    def handle(self, spec: RunSpec, record: Record) -> None:
        assert self.gate.wait(30)
        if spec.run_id == self.broken:
            raise OSError("disk full")
        self.threads.setdefault(spec.run_id, set()).add(threading.get_ident())
        self.seen.append(record)

    def finish(self) -> None:
        self.finished += 1


def test_recording_does_not_wait_and_closing_does() -> None:
    spec = make_spec()
    sink = Recorder()
    for record in make_records(spec):
        sink.record(spec, record)
    assert sink.seen == []
    sink.gate.set()
    sink.close()
    assert [record.epoch for record in sink.seen if isinstance(record, EpochMetrics)] == [1, 2, 3]
    assert len(sink.seen) == 5


def test_each_run_keeps_its_order_and_its_thread() -> None:
    specs = [make_spec(seed) for seed in range(7)]
    sink = Recorder(workers=3)
    sink.gate.set()
    play(sink, specs)
    for spec in specs:
        assert [type(record) for record in sink.seen if record.run_id == spec.run_id] == [type(r) for r in make_records(spec)]
    assert all(len(threads) == 1 for threads in sink.threads.values())
    assert len(set.union(*sink.threads.values())) == 3


def test_an_error_ends_one_run_only_and_is_told_once() -> None:
    specs = [make_spec(seed) for seed in range(2)]
    sink = Recorder(broken=specs[0].run_id)
    sink.gate.set()
    play(sink, specs)
    assert {record.run_id for record in sink.seen} == {specs[1].run_id}
    assert sink.messages == ["Recorder stopped recording 1 run (OSError: disk full)."]


def test_an_error_at_the_end_does_not_reach_the_caller() -> None:
    class Stumbling(Recorder):
        def finish(self) -> None:
            raise OSError("disk full")

    sink = Stumbling()
    sink.gate.set()
    play(sink, [make_spec()])
    assert sink.messages == ["Stumbling did not end well (OSError: disk full)."]


def test_closing_twice_finishes_once_and_leaves_no_thread() -> None:
    before = threading.active_count()
    sink = Recorder(workers=4)
    sink.gate.set()
    play(sink, [make_spec(seed) for seed in range(4)])
    sink.close()
    assert sink.finished == 1
    assert threading.active_count() == before


def test_a_sink_without_records_starts_no_thread() -> None:
    before = threading.active_count()
    with Recorder() as sink:
        sink.begin([make_spec()])
        assert threading.active_count() == before
