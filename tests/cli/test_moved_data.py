"""Records are self-contained: a report is drawn again on another machine, without the data, a network or torch."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bnexp.data import download
from bnexp.plan import session
from bnexp.tracking.store import Store
from tests.cli.conftest import Cli

PICTURE, NO_PICTURES = '<img src="data:image/png', "The gallery has no pictures"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``runs`` of a study on ``mine.npz``, asked for by a relative path, and their ``cache``; the file moved."""
    from bnexp.cli.app import main

    root = tmp_path_factory.mktemp("made")
    (root / "here").mkdir()
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (120, 16, 16), np.uint8), np.arange(120) % 3
    np.savez(root / "here" / "mine.npz", x_train=images[:90], y_train=labels[:90], x_test=images[90:], y_test=labels[90:])
    known = session.groups() | {"study": ["batchnorm"]}
    asked = ("data=npz", "data.root=mine.npz", "study.seeds=2", "train.epochs=1", "executor=inline")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root / "here")
        patch.setenv("WANDB_MODE", "disabled")
        patch.setenv("BNEXP_RUNS_DIR", str(root / "runs"))
        patch.setenv("BNEXP_CACHE_DIR", str(root / "cache"))
        patch.setattr(session, "groups", lambda: known)
        patch.setattr("sys.argv", ["bnexp", "study", "--all", *asked])
        with pytest.raises(SystemExit):
            main()
    (root / "here" / "mine.npz").rename(root / "moved.npz")
    return root


@pytest.fixture
def elsewhere(made: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The records on another machine: copied, with an empty cache, no network, no data, and another working directory."""

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("something was downloaded")

    monkeypatch.setattr(download, "urlopen", refused)
    monkeypatch.setenv("BNEXP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("BNEXP_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(made / "runs", tmp_path / "runs"))


def page(runs: Path) -> str:
    return next(runs.glob("batchnorm/study-*/report.html")).read_text()


def test_everything_but_the_pictures_is_drawn_without_the_data(cli: Cli, made: Path, elsewhere: Path) -> None:
    verdict = json.loads(next(elsewhere.glob("batchnorm/study-*/verdict.json")).read_text())
    result = cli("report", "batchnorm", "--json")
    assert (result.code, json.loads(result.out)) == (0, verdict)
    assert any("guessing reaches up to" in note for note in verdict["notes"])  # by classes and number of test images
    assert NO_PICTURES in result.err
    text = page(elsewhere)
    assert NO_PICTURES in text
    assert PICTURE not in text
    for heading in ("Learning curves", "Where arms disagree", "Confusion matrices", "Gallery"):
        assert heading in text
    assert not list((elsewhere.parent / "cache").glob("packed/*"))


def test_pictures_come_from_the_packed_data_wherever_the_file_lies_now(
    cli: Cli, made: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BNEXP_CACHE_DIR", str(made / "cache"))
    result = cli("report", "batchnorm")
    assert NO_PICTURES not in result.err
    assert page(elsewhere).count(PICTURE) > 10


def test_the_advice_about_pictures_helps(cli: Cli, made: Path, elsewhere: Path) -> None:
    cli("data", "npz", f"data.root={made / 'moved.npz'}")
    assert NO_PICTURES not in cli("report", "batchnorm").err
    assert PICTURE in page(elsewhere)


def test_the_book_is_written_again_without_the_data(cli: Cli, elsewhere: Path) -> None:
    (book,) = elsewhere.glob("book/*/book.md")
    before = book.read_text()
    book.unlink()
    assert cli("report", book.parent.name.removeprefix("book-"), "--book").code == 0
    assert book.read_text() == before


def test_records_of_an_earlier_version_tell_by_their_predictions(cli: Cli, elsewhere: Path) -> None:
    before = json.loads(cli("report", "batchnorm", "--json").out)
    for path in elsewhere.glob("batchnorm/*/summary.json"):
        kept = {
            key: value
            for key, value in json.loads(path.read_text()).items()
            if key not in ("class_names", "num_test", "sha256")
        }
        path.write_text(json.dumps(kept))
    assert json.loads(cli("report", "batchnorm", "--json").out) == before
    assert "Confusion matrices" in page(elsewhere)
    for path in elsewhere.glob("batchnorm/*/predictions.parquet"):
        path.unlink()
    result = cli("report", "batchnorm", "--json")
    assert (result.code, json.loads(result.out)["comparisons"]) == (0, before["comparisons"])
    assert "Confusion matrices" not in page(elsewhere)


def test_a_place_that_may_only_be_read_costs_the_files_and_not_the_answer(
    cli: Cli, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = {path: path.stat().st_mtime_ns for path in elsewhere.rglob("*")}

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("os.replace", read_only)
    monkeypatch.setattr("shutil.rmtree", read_only)
    report, book = cli("report", "batchnorm", "--json"), cli("report", "--book", "--json")
    assert (report.code, book.code) == (0, 0)
    assert json.loads(report.out)["verdict"] == json.loads(book.out)[0]["verdict"] == "ESTIMATE"
    assert "may not be written (Read-only file system)" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in elsewhere.rglob("*") if path.is_file()} == {
        path: time for path, time in before.items() if path.is_file()
    }


def test_a_report_needs_neither_torch_nor_wandb(elsewhere: Path) -> None:
    code = (
        "import sys\nfrom bnexp.cli.app import main\nsys.argv = ['bnexp', 'report', 'batchnorm']\n"
        "try:\n    main()\nexcept SystemExit as exit:\n    assert not exit.code, exit.code\n"
        "heavy = {'torch', 'torchvision', 'wandb'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)
    assert len(list(Store().runs())) == 4
