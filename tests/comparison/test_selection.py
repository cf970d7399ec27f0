"""Which recorded runs the words and options of a command choose."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from bnexp.comparison.loading import load_runs
from bnexp.comparison.selection import one_run, one_study, select_runs
from bnexp.config.schema import ConfigError
from bnexp.tracking.store import Store
from tests.comparison.made_records import record, study_record


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Study ``first`` trained a0..a2, ``second`` trained b0 and also compares a0."""
    runs = tmp_path / "runs"
    for seed in range(3):
        record(runs, f"a{seed}0", study="first", seed=seed, optim__lr=0.1 * (seed + 1))
    record(runs, "b00", study="second", seed=7, arm="batch", metrics={"test/accuracy": 0.5})
    study_record(runs, "first", "12ab", ["a00", "a10", "a20"])
    study_record(runs, "second", "34cd", ["a00", "b00"])
    return Store(runs)


def ids(store: Store, *select: str, **options: object) -> list[str]:
    return list(select_runs(select, store=store, **options)["run"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("select", "found"),
    [
        ((), ["a00", "a10", "a20", "b00"]),
        (("first",), ["a00", "a10", "a20"]),
        (("second",), ["a00", "b00"]),  # a00 was trained by the other study
        (("34cd",), ["a00", "b00"]),
        (("second-34cd",), ["a00", "b00"]),
        (("study-34cd",), ["a00", "b00"]),  # as its folder is called
        (("second-3",), ["a00", "b00"]),  # a beginning, as the help says
        (("a1",), ["a10"]),
        (("a10", "second", "a00"), ["a00", "a10", "b00"]),  # each run once
    ],
)
def test_words_name_studies_and_runs(store: Store, select: tuple[str, ...], found: list[str]) -> None:
    assert ids(store, *select) == found


def test_paths_name_runs_studies_and_all_records_of_a_directory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    here = store.root
    elsewhere = Store(here.parent / "nothing here")
    assert ids(elsewhere, str(here / "first" / "a10")) == ["a10"]
    assert ids(elsewhere, f"{here}/first/") == ["a00", "a10", "a20"]
    assert ids(elsewhere, str(here / "second" / "study-34cd")) == ["a00", "b00"]
    assert ids(elsewhere, str(here)) == ["a00", "a10", "a20", "b00"]
    monkeypatch.chdir(here)
    assert ids(elsewhere, ".") == ["a00", "a10", "a20", "b00"]
    assert ids(elsewhere, "second") == ["b00"]
    monkeypatch.chdir(here.parent)
    (here.parent / "first").mkdir()
    assert ids(store, "first") == ["a00", "a10", "a20"]  # a study before a directory that happens to have its name


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("a", "fits several recorded runs: a00, a10, a20"),
        ("frist", "'frist' is neither a recorded study nor a run in .* Did you mean first?"),
        ("book", "'book' is not a recorded run in"),  # its folder holds no run
        ("zzz", "'zzz' is not a recorded run in"),
        ("./zzz", "zzz is no directory"),
    ],
)
def test_a_word_that_names_nothing_or_several_is_said(store: Store, word: str, sentence: str) -> None:
    (store.root / "book").mkdir()
    with pytest.raises(ConfigError, match=sentence) as error:
        ids(store, word)
    assert f"Did you mean {word}?" not in str(error.value)


def test_the_last_ones_are_those_that_finished_last_whatever_their_time_zone(tmp_path: Path) -> None:
    for name, time in (("late", "12:00:00+0000"), ("early", "13:00:00+0200"), ("latest", "11:30:00-0100")):
        record(tmp_path, name, finished_at=f"2026-01-01T{time}")
    store = Store(tmp_path)
    assert ids(store) == ["early", "late", "latest"]
    assert ids(store, last=2) == ["late", "latest"]
    assert ids(store, last=1) == ["latest"]
    with pytest.raises(ConfigError, match="last=0 is out of range"):
        ids(store, last=0)


def test_rows_are_sorted_by_a_column_with_missing_values_last(store: Store) -> None:
    record(store.root, "c00", metrics={"test/accuracy": None}, seed=9)
    assert ids(store, sort_by="-test/accuracy")[-2:] == ["b00", "c00"]
    assert ids(store, sort_by="test/accuracy")[0] == "b00"
    assert ids(store, sort_by="-optim.lr", last=3) == ["a20", "b00", "c00"]  # the last three, then sorted
    with pytest.raises(ConfigError, match=r"optim.lrr is not a column .* Did you mean optim.lr?"):
        ids(store, sort_by="optim.lrr")
    with pytest.raises(ConfigError, match=r"loss is not a column .* Did you mean test/loss?"):
        ids(store, sort_by="loss")


def test_runs_are_chosen_by_how_they_ended(store: Store) -> None:
    record(store.root, "d00", status="diverged")
    assert ids(store, status="diverged") == ["d00"]
    assert "d00" not in ids(store, status="finished")
    with pytest.raises(ConfigError, match=r"status=divergd does not exist: allowed are .* Did you mean diverged"):
        ids(store, status="divergd")


def test_of_many_damaged_records_some_are_named_and_the_rest_counted(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(8):
        (record(store.root, f"x{number}") / "summary.json").write_text("{")
    (record(store.root, "y0") / "config.yaml").write_text("a: [")
    assert "x0" not in ids(store)
    assert sum("is damaged" in line for line in caplog.messages) == 5
    assert caplog.messages[-1] == "4 more records are damaged; their runs are left out."
    caplog.clear()
    assert set(load_runs(store.root)["run"]) == {"a00", "a10", "a20", "b00"}
    assert len(caplog.messages) == 6


def test_a_whole_copy_of_a_damaged_run_counts(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    (record(store.root, "c00", study="aaa") / "summary.json").write_text("")
    record(store.root, "c00", study="zzz")
    with caplog.at_level(logging.WARNING):
        assert ids(store).count("c00") == 1


def test_one_run_is_the_one_named_or_the_latest(store: Store) -> None:
    assert one_run("b", store).run_id == "b00"
    assert one_run(str(store.root / "first" / "a20"), store).run_id == "a20"
    with pytest.raises(ConfigError, match="first names 3 runs, and one is needed: a00, a10, a20"):
        one_run("first", store)
    study = one_study("second", store)
    assert study is not None
    assert study.study_id == "34cd"
    assert one_study("a00", store) is None
    assert one_study(str(store.root / "second" / "b00"), store) is None
    assert one_study(str(study.folder), store) == study
    study_record(store.root, "second", "99ff", ["b00"])
    for study_id, age in (("34cd", 1), ("99ff", 2)):
        os.utime(store.root / "second" / f"study-{study_id}" / "study.json", (-age, -age))
    latest = one_study("second", store)
    assert latest is not None
    assert latest.study_id == "34cd"
    with pytest.raises(ConfigError, match=r"no finished runs are recorded in .*; start with: bnexp study"):
        one_run(None, Store(store.root / "empty"))
