"""What is published is read from offline files: which pictures a study shows, and what is left when nobody waits for it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from bnexp.config.options import WandbMode
from bnexp.config.schema import TrackConfig, WandbConfig
from bnexp.tracking.records import DataFacts, RecordedRun
from bnexp.tracking.store import Store, StoreSink
from bnexp.tracking.wandb import publishing
from bnexp.tracking.wandb.content import Member
from bnexp.tracking.wandb.holding import Item
from bnexp.tracking.wandb.publishing import Publisher
from bnexp.tracking.wandb.session import WandbSession
from tests.tracking.records import CLASSES, NUM_TEST, make_spec, play


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    """Three recorded runs."""
    specs = [make_spec(seed) for seed in range(3)]
    store = Store(tmp_path / "runs")
    play(StoreSink(store, "bnexp study demo", DataFacts(CLASSES, NUM_TEST, "content")), specs)
    return [Item(RecordedRun(store.run_path(spec)), Member.of_spec(spec)) for spec in specs]


@pytest.fixture
def publisher(wandb_home: Path) -> Publisher:
    return Publisher(WandbSession(WandbConfig(mode=WandbMode.offline)), TrackConfig(16))


def test_a_study_shows_the_500_images_that_most_of_its_runs_show(
    publisher: Publisher, items: list[Item], wandb_home: Path
) -> None:
    assert publisher.shown_images(items) is None  # no run is written
    list(publisher.publish(items[:2]))
    for item, ids in zip(items, (range(400), range(200, 701)), strict=False):
        (path,) = wandb_home.glob(f"*-{item.id}/files/media/table/predictions_*.json")
        path.write_text(json.dumps({"columns": ["truth", "image_id"], "data": [[f"class {i % 3}", i] for i in ids]}))
    table = publisher.shown_images(items)
    assert table is not None
    assert (table.columns, table.pictured, table.own_pictures) == (["image_id", "truth"], True, True)
    assert table.rows == sorted(table.rows)
    shown = dict(table.rows)
    assert len(table.rows) == len(shown) == 500
    assert set(range(200, 400)) < shown.keys()
    assert shown[301] == "class 1"


def test_runs_that_nobody_waits_for_are_not_begun(
    publisher: Publisher, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    ending, begun = Event(), list[str]()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(False, cancel_futures=cancel_futures)
            ending.set()
            super().shutdown(wait)

    def one(record: RecordedRun, member: Member) -> str:
        begun.append(record.run_id)
        if len(begun) == 2:
            ending.wait(30)
        return "written"

    monkeypatch.setattr(publishing, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(publisher, "one", one)
    done: Any = publisher.publish(items * 3)
    assert next(done)[1] == "written"
    done.close()
    assert len(begun) <= 2
