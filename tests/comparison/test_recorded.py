"""Recorded studies by what a person types, and which of them was concluded last."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bnexp.comparison.recorded import find_study, label, recorded_studies, store_of
from bnexp.config.schema import ConfigError
from bnexp.tracking.store import Store

Study = Callable[..., Path]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """``study("blog", "1a2b", 5)``: a folder whose verdict is of the fifth second; without a time it has no verdict."""

    def made(name: str, study_id: str, concluded: int | None = None, root: str = "runs") -> Path:
        folder = tmp_path / root / name / f"study-{study_id}"
        folder.mkdir(parents=True)
        (folder / "study.json").write_text("{}")
        if concluded is not None:
            (folder / "verdict.json").write_text("{}")
            os.utime(folder / "verdict.json", (concluded, concluded))
        return folder

    return made


def test_a_study_is_found_by_name_id_both_and_beginnings(study: Study, tmp_path: Path) -> None:
    older, newer = study("learning_rate", "1a2b", 1), study("learning_rate", "77cc", 9)
    blog, store = study("blog", "1f00", 5), Store(tmp_path / "runs")
    assert [label(folder) for folder in recorded_studies(store)] == ["learning_rate-1a2b", "blog-1f00", "learning_rate-77cc"]
    assert find_study(None, store) == [newer, blog, older]
    for text in ("learning_rate", "learning", "l"):
        assert find_study(text, store) == [newer, older]
    for text in ("1a2b", "1a", "learning_rate-1a2b", "learning_rate-1", "study-1a2b"):
        assert find_study(text, store) == [older]
    assert find_study("blog", store) == find_study("1f", store) == [blog]


def test_a_whole_name_counts_before_a_beginning(study: Study, tmp_path: Path) -> None:
    rate, _ = study("learning_rate", "1a", 1), study("learning_rate_scaling", "2b", 2)
    assert find_study("learning_rate", Store(tmp_path / "runs")) == [rate]


def test_a_study_elsewhere_is_found_by_its_path(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study("blog", "1f00", 5)
    far, store = study("blog", "2e00", 1, root="archive"), Store(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    for path in (far, far / "study.json", far.parent, Path("archive/blog/study-2e00")):
        assert find_study(str(path), store) == [far]
    assert store_of(far, store).root == tmp_path / "archive"
    assert store_of(tmp_path / "runs" / "blog" / "study-1f00", store) is store


def test_a_study_without_a_verdict_is_never_the_one_concluded_last(study: Study, tmp_path: Path) -> None:
    study("new", "aa")
    study("old", "bb", 1)
    assert [label(folder) for folder in find_study(None, Store(tmp_path / "runs"))] == ["old-bb", "new-aa"]


def test_what_fits_nothing_or_several_studies_is_refused(study: Study, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    with pytest.raises(ConfigError, match=r"no study is recorded in .*run one first"):
        find_study(None, store)
    study("batchnorm", "1a2b", 1)
    study("batch_size", "1c3d", 2)
    for text in ("batch", "1"):
        with pytest.raises(ConfigError, match=r"fits several recorded studies: batch_size-1c3d, batchnorm-1a2b\. Give more"):
            find_study(text, store)
    with pytest.raises(
        ConfigError, match=r"batchnrm is not a recorded study\. Did you mean batchnorm\? Allowed are batch_size-1c3d, "
    ):
        find_study("batchnrm", store)
    with pytest.raises(ConfigError, match="An empty name is not a recorded study"):
        find_study("", store)
    with pytest.raises(ConfigError, match=r"nowhere/study-1 does not exist; give a folder with study\.json"):
        find_study("nowhere/study-1", store)
    with pytest.raises(ConfigError, match=r"runs has no recorded study"):
        find_study(str(tmp_path / "runs"), store)
