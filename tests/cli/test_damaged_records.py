"""Records that are damaged, or made by a stranger: whatever a file holds, it is named and the rest is shown.

Real records are made once. Each test damages files of a copy and runs the commands that read them.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bnexp.plan import session
from bnexp.tracking.store import Store
from tests.cli.conftest import Cli, Result

# Words of Python, of libraries, and of a traceback, which no user should have to read.
INTERNAL = re.compile(
    r"Traceback|NoneType|object is not|has no attribute|not subscriptable|unexpected keyword|positional argument|codec can't|"
    r"Expecting|maximum recursion|panicked|Exceeds the limit|KeyError|invalid literal|could not convert|unhashable|Warning|"
    r"must be (str|real)|not supported between|--debug"
)


@pytest.fixture(scope="module")
def recorded(digits_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of a study of two arms with two seeds, with a book, and of a run that failed."""
    from bnexp.cli.app import main

    root = tmp_path_factory.mktemp("recorded")
    known = session.groups() | {"study": ["batchnorm"]}
    bad = ("norm=batch", "norm.linear=true", "data.train_size=100", "train.batch_size=99", "data.val_fraction=0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "disabled")
        patch.setenv("BNEXP_RUNS_DIR", str(root / "runs"))
        patch.setenv("BNEXP_CACHE_DIR", str(digits_cache))
        patch.setattr(session, "groups", lambda: known)
        for command in (
            ("study", "--all", "budget=smoke", "train.epochs=1", "executor=inline"),
            ("train", "data=digits", "train.epochs=1", "executor=inline", *bad),
        ):
            patch.setattr("sys.argv", ["bnexp", *command])
            with pytest.raises(SystemExit):
                main()
    return root / "runs"


@pytest.fixture
def runs(recorded: Path, tmp_path: Path) -> Path:
    """A copy of the records, where commands look for them."""
    return Path(shutil.copytree(recorded, tmp_path / "runs"))


@pytest.fixture
def ask(cli: Cli, runs: Path, caplog: pytest.LogCaptureFixture) -> Cli:
    """Runs a command; what is logged counts as said. It never speaks of Python, and writes nothing beside the records."""

    def run(*command: str) -> Result:
        caplog.clear()
        before = beside(runs)
        result = cli(*command)
        said = result.err + caplog.text
        assert not INTERNAL.search(said + result.out), (command, said, result.out)
        assert beside(runs) == before
        return Result(result.code, result.out, said)

    return run


def beside(runs: Path) -> set[Path]:
    return {path for path in runs.parent.rglob("*") if not path.is_relative_to(runs)}


def trained(runs: Path) -> list[Path]:
    return sorted(path.parent for path in runs.glob("batchnorm/*/summary.json"))


Damage = Callable[[Path], object]


def truncated(part: float) -> Damage:
    return lambda path: path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])


def holding(content: bytes) -> Damage:
    return lambda path: path.write_bytes(content)


def in_place(make: Callable[[Path], object]) -> Damage:
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def zeros(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10 * 2**30)  # takes no room


# What cannot pass for a whole file of any kind.
DAMAGES: dict[str, Damage] = {
    "half": truncated(0.5),
    "a tenth": truncated(0.1),
    "almost whole": truncated(0.98),
    "empty": holding(b""),
    "null": holding(b"null"),
    "number": holding(b"7"),
    "list": holding(b"[]"),
    "deep": holding(b"[" * 100_000),
    "deep mapping": holding(b'{"a": ' * 100_000),
    "digits": holding(b"1" * 5000),
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe" + path.read_bytes()),
    "zeros": holding(bytes(1000)),
    "ten gigabytes": in_place(zeros),
    "directory": in_place(Path.mkdir),
    "device": in_place(lambda path: path.symlink_to("/dev/zero")),
    "pipe": in_place(os.mkfifo),
}
FILES = ("summary.json", "config.yaml", "metrics.jsonl", "predictions.parquet")


CHOICE = {"arm": "none", "levels": {}, "setting": "optim.lr", "value": 0.1, "at_edge": False}  # of a tuned value


@pytest.mark.parametrize("name", ["half", "empty", "null", "deep", "no UTF-8", "zeros", "ten gigabytes", "directory"])
def test_every_damaged_file_of_a_run_is_named_and_the_rest_is_shown(ask: Cli, runs: Path, name: str) -> None:
    """Each of the four runs has another file damaged."""
    damaged = [path / file for path, file in zip(trained(runs), FILES, strict=True)]
    (failed,) = runs.glob("train/*/failure.json")
    for path in (*damaged, failed):
        DAMAGES[name](path)

    listed = ask("runs", "--json")
    assert listed.code == 0
    assert {row["run"] for row in json.loads(listed.out)} == {path.parent.name for path in damaged[2:]}
    assert all(f"{path} is damaged" in listed.err for path in damaged[:2])

    report = ask("report", "batchnorm", "--json")
    assert report.code == 0
    outcomes = {outcome["run_id"]: outcome["status"] for outcome in json.loads(report.out)["outcomes"]}
    assert sorted(outcomes.values()) == ["damaged", "finished", "finished", "finished"]
    assert outcomes[damaged[0].parent.name] == "damaged"
    page = next(runs.glob("batchnorm/study-*/report.html")).read_text()
    for path in damaged:
        assert f"{path} is damaged" in report.err
        assert f"{path} is damaged" in page

    for path in damaged[:3]:  # predictions are not shown
        shown = ask("show", path.parent.name)
        assert shown.code == 0
        assert f"{path} is damaged" in shown.err
        assert ("data.name: digits" in shown.out) == (path.name != "config.yaml")  # the rest of it
    assert "the reason cannot be read" in ask("show", failed.parent.name).out


def test_the_book_names_damaged_files_and_is_written_all_the_same(ask: Cli, runs: Path) -> None:
    damaged = [path / file for path, file in zip(trained(runs), FILES, strict=True)]
    for path in damaged:
        DAMAGES["half"](path)
    book = ask("report", "--book", "--json")
    assert (book.code, [row["study"] for row in json.loads(book.out)]) == (0, ["batchnorm"])
    assert f"{damaged[0]} is damaged" in book.err
    assert f"{damaged[2]} is damaged" in book.err
    assert "3 finished, 1 damaged" in (runs / "book" / "book-recorded" / "book.html").read_text()


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_study_or_book_is_named(ask: Cli, runs: Path, name: str) -> None:
    (study,), (verdict,), (book,) = (runs.glob(f"*/*/{file}.json") for file in ("study", "verdict", "book"))
    DAMAGES[name](study)
    DAMAGES[name](verdict)
    report = ask("report", "batchnorm")
    assert report.code == 2
    assert f"{study} is damaged: " in report.err
    assert "finished runs are kept" in report.err
    told = ask("report", "--book")
    assert told.code == 2
    assert f"batchnorm-{study.parent.name.removeprefix('study-')}: {study} is damaged" in told.err
    book_id = book.parent.name.removeprefix("book-")
    told = ask("report", book_id, "--book")
    assert told.code == 2
    assert f"study batchnorm-{study.parent.name.removeprefix('study-')} is left out: {study} is damaged" in told.err
    DAMAGES[name](book)
    assert f"{book} is damaged: " in ask("report", book_id, "--book").err
    assert len(json.loads(ask("runs", "--json").out)) == 4


def test_of_two_studies_the_damaged_one_costs_not_the_other(ask: Cli, runs: Path) -> None:
    (study,), (book,) = runs.glob("*/*/study.json"), runs.glob("*/*/book.json")
    newer = Path(shutil.copytree(study.parent, study.parent.with_name(f"{study.parent.name}0")))
    (newer / "study.json").write_text("null")
    for name in ("study.json", "verdict.json"):
        os.utime(newer / name, (2**31, 2**31))
    for command in (("report",), ("report", "batchnorm")):
        result = ask(*command)
        assert result.code == 0
        assert "0/" in result.err
        assert "is damaged: it is null, not a mapping. The one recorded before it is shown." in result.err
    result = ask("report", "--book", "--json")
    assert [row["id"] for row in json.loads(result.out)] == [study.parent.name.removeprefix("study-")]
    assert f"batchnorm-{newer.name.removeprefix('study-')} is not in the book: {newer / 'study.json'} is damaged" in result.err
    both = json.loads(book.read_text())
    book.write_text(json.dumps(both | {"studies": [*both["studies"], f"{both['studies'][0]}0", "absent-1a2b"]}))
    result = ask("report", "--book", book.parent.name.removeprefix("book-"))
    assert result.code == 0
    assert result.err.count("is left out") == 2
    assert "study.json is damaged: it is not there" in (book.parent / "book.html").read_text()


def with_values(text: str, change: dict[str, object]) -> str:
    """The JSON of a study with other values; a dotted key names one inside."""
    content = json.loads(text)
    for key, value in change.items():
        *parts, last = key.split(".")
        place = content
        for part in parts:
            place = place[part]
        place[last] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"study.name": "../../x"}, "study.name '../../x' is not possible"),
        ({"study.name": "/x"}, "study.name '/x' is not possible"),
        ({"study_id": "../x"}, "study_id '../x' is not possible"),
        ({"runs": [{"run_id": "../../*", "arm": "none", "levels": {}, "seed": 0}]}, "the run id '../../*' is not possible"),
        ({"runs": [{"run_id": "aaa", "arm": "none", "levels": {}}]}, "runs[0].seed is missing"),
        ({"runs": [{"run_id": "aaa", "arm": "none", "levels": {"lr": [1]}, "seed": 0}]}, "runs[0].levels.lr is a list"),
        ({"study.arms": None}, "study.arms is null, not a mapping"),
        ({"study.arms": {"none": 1}}, "study.arms.none is 1, not a list"),
        ({"study.factors": {"norm": {"none": 5}}}, "study.factors.norm is a mapping, not a list or a mapping"),
        ({"study.direction": "up"}, "study.direction is 'up', not one of "),
        ({"study.arms": {}}, "study batchnorm needs at least two arms"),
        ({"study.baseline": "zzz"}, "study.baseline=zzz is not an arm of study batchnorm"),
        ({"study.analysis": "trend"}, "study.analysis=trend needs exactly one factor"),
        ({"study.margin": -1}, "study.margin=-1 is out of range"),
        ({"study.tune": []}, "study.tune is a list, not a mapping"),
        ({"data": {"name": "ghosts"}}, "data.name is 'ghosts', not one of "),
        ({"settings": {"optim.lr": 1}}, "settings.optim.lr is 1, not text"),
        ({"tuning": [{}]}, "tuning[0].arm is missing"),
        ({"tuning": [CHOICE | {"accuracies": [[0.1, 0.5], [0.2]]}]}, "tuning[0].accuracies are no pairs"),
        ({"tuning": [CHOICE | {"accuracies": [[0.2, 0.5]]}]}, "tuning.accuracies lacks the chosen value"),
        ({"overrides": "x"}, "overrides is 'x', not a list"),
        ({"study.max_seeds": 1}, "study.max_seeds=1 is out of range"),
        ({"study.max_seeds": 10**9}, "study.max_seeds=1e+09 is out of range"),  # its test would be simulated for weeks
        ({"question_id": "../../x"}, "question_id '../../x' is not possible"),
        ({"earlier": [{"study_id": "aaa"}]}, "earlier[0].num_seeds is missing"),
        ({"study.decides": [{"arm": "zzz"}]}, "study.decides[0] of study batchnorm names zzz"),
    ],
)
def test_what_is_wrong_with_a_study_is_said(ask: Cli, runs: Path, change: dict[str, object], reason: str) -> None:
    (path,) = runs.glob("*/*/study.json")
    path.write_text(with_values(path.read_text(), change))
    result = ask("report", "batchnorm")
    assert result.code == 2
    assert f"{path} is damaged: {reason}" in result.err


@pytest.mark.parametrize("studies", ["../../x-1", "x", "a/b-1", "-", 7, None])
def test_a_book_names_studies_and_no_other_places(ask: Cli, runs: Path, studies: object) -> None:
    (path,) = runs.glob("book/*/book.json")
    path.write_text(with_values(path.read_text(), {"studies": [studies] if isinstance(studies, str) else studies}))
    result = ask("report", path.parent.name.removeprefix("book-"), "--book")
    assert result.code == 2
    assert f"{path} is damaged: studies " in result.err


def test_a_report_is_written_where_its_record_lies(ask: Cli, runs: Path, tmp_path: Path) -> None:
    """Not where the record says, nor where a link in its folder leads."""
    (study,), (book,) = runs.glob("*/*/study.json"), runs.glob("*/*/book.json")
    elsewhere = tmp_path / "precious"
    elsewhere.mkdir()
    for name in ("report.html", "verdict.json", "notes.txt"):
        (elsewhere / name).write_text("precious")
    moved = study.parent.rename(runs / "batchnorm" / "study-received")
    (moved / "study.json").write_text(with_values((moved / "study.json").read_text(), {"study.name": "other"}))
    (moved / "verdict.json").unlink()
    for name in ("report.html", "verdict.json"):
        (moved / name).symlink_to(elsewhere / name)
    shutil.rmtree(book.parent / "figures")
    (book.parent / "figures").symlink_to(elsewhere)
    book.write_text(with_values(book.read_text(), {"studies": ["batchnorm-received"], "overrides": ["data=other"]}))
    assert ask("report", "batchnorm").code == 0
    assert not (moved / "report.html").is_symlink()
    assert ask("report", book.parent.name.removeprefix("book-"), "--book").code == 0
    assert (book.parent / "figures" / "other-difference-0.png").is_file()
    assert len(list(runs.glob("book/*"))) == 1
    assert not (runs / "other").exists()
    assert {path.name: path.read_text() for path in elsewhere.iterdir()} == dict.fromkeys(
        ("report.html", "verdict.json", "notes.txt"), "precious"
    )


def flips(path: Path, seed: int) -> Iterator[bytes]:
    """The content of a file with a few bits changed."""
    generator, content = random.Random(seed), path.read_bytes()
    for _ in range(3):
        made = bytearray(content)
        for _ in range(generator.choice([1, 4])):
            made[generator.randrange(len(made))] ^= 1 << generator.randrange(8)
        yield bytes(made)


@pytest.mark.parametrize("seed", range(3))
def test_random_changes_of_every_file_end_in_an_answer(ask: Cli, runs: Path, seed: int) -> None:
    for path in sorted(path for name in (*FILES, "failure.json", "verdict.json") for path in runs.rglob(name)):
        path.write_bytes(next(flips(path, seed)))
    assert ask("runs").code == 0
    assert ask("report", "batchnorm").code in (0, 2)
    for name in ("study.json", "book.json"):
        (path,) = runs.glob(f"*/*/{name}")
        for content in flips(path, seed):
            path.write_bytes(content)
            book_id = path.parent.name.removeprefix("book-")
            assert ask("report", *([book_id, "--book"] if name == "book.json" else [])).code in (0, 2)


def test_a_damaged_record_is_trained_again(ask: Cli, runs: Path) -> None:
    path = trained(runs)[0] / "summary.json"
    for content in ("null", '{"run_id": 3}'):
        path.write_text(content)
        again = ask("study", "batchnorm", "budget=smoke", "train.epochs=1", "executor=inline", "--json")
        assert (again.code, "3 finished before" in again.err, f"{path} is damaged" in again.err) == (0, True, True)
    assert len(list(Store().runs())) == 4


def test_a_record_of_an_older_version_without_the_studys_metric_is_trained_again(ask: Cli, runs: Path) -> None:
    paths = [path / "summary.json" for path in trained(runs)]
    for path in paths:
        summary = json.loads(path.read_text())
        del summary["metrics"]["test/ece"]
        path.write_text(json.dumps(summary))
    untouched = [path.read_text() for path in paths]
    study = ("study", "batchnorm", "budget=smoke", "train.epochs=1", "executor=inline")
    assert "finished before" in ask(*study).err  # the study compares accuracies
    assert [path.read_text() for path in paths] == untouched
    result = ask(*study, "study.metric=test/ece")
    assert result.code == 0, result.err
    assert all("test/ece" in json.loads(path.read_text())["metrics"] for path in paths)


def test_a_run_cannot_start_from_damaged_weights(ask: Cli, recorded: Path, runs: Path) -> None:
    path = trained(runs)[0]
    quick = ("train", "data=digits", "train.epochs=1", "executor=inline", "data.train_size=100")
    start = (
        *quick,
        f"train.init_from={path.name}",
        "norm=batch" if "kind: batch" in (path / "config.yaml").read_text() else "",
    )
    for name, content in (("model.safetensors", b"x"), ("config.yaml", b"null"), ("summary.json", b"null")):
        (path / name).write_bytes(content)
        result = ask(*filter(None, start))
        assert result.code in (1, 2)
        assert f"{path / name} is damaged" in result.err
    for name in ("summary.json", "config.yaml"):
        shutil.copy(recorded / "batchnorm" / path.name / name, path)
    (path / "model.safetensors").unlink()
    assert f"names a run without {path / 'model.safetensors'}; train it again" in ask(*filter(None, start)).err
