"""Code that the user names: where it is found, what each mistake is told, and that a record's is never loaded."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from bnexp.config.factory import Named, load_factory, name_code, run_factory, source_fingerprint
from bnexp.config.schema import ConfigError
from bnexp.plan.spec import plain

KEY = "model.factory"
BUILD = "def build(width=1):\n    return width\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that bnexp is called from, and Python's state as it was afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [*sys.modules]:
        if name.split(".")[0] in ("nets", "helpers", "shop"):
            monkeypatch.delitem(sys.modules, name)
    return tmp_path


def load(text: str) -> object:
    return load_factory(name_code(text, KEY), KEY)()


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_function_is_named_by_file_or_module_from_anywhere(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(here / "nets.py", f"{BUILD}class Shop:\n    small = staticmethod(lambda: 'small')\n")
    write(here / "shop/__init__.py", "")
    write(here / "shop/deep.py", "from shop.parts import build\n")
    write(here / "shop/parts.py", "def build():\n    return 'shop'\n")
    monkeypatch.setenv("HOME", str(here))
    found = [load(text) for text in ("nets.py:build", "./nets.py:build", f"{file}:build", "~/nets.py:build", "nets:build")]
    assert found == [1] * 5
    assert load("nets.py:Shop.small") == "small"
    assert load("shop.deep:build") == "shop"
    assert sys.path.count(str(here)) == 1, "looked in once, however often code is named"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nets.py", "model.factory=nets.py names no function: allowed is FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION, like "),
        (":build", "model.factory=:build names no function: "),
        ("nets.py:", "model.factory=nets.py: names no function: "),
        ("my nets:build", "model.factory=my nets:build names no module: "),
        (
            "gone.py:build",
            "model.factory=gone.py:build: there is no file {here}/gone.py; a relative path begins where bnexp is ",
        ),
        ("gone:build", "model.factory=gone:build: there is no module gone; looked in {here}"),
        ("gone:build", " and among the installed packages. A file is named by its path: gone.py:build."),
        ("nets.nope:build", "model.factory=nets.nope:build: there is no module nets.nope; looked in {here}"),
        ("math:sin", "model.factory=math:sin: the module math has no Python source, so a change of it would not be noticed."),
        ("nets.py:biuld", "model.factory=nets.py:biuld: there is no biuld in nets.py. Did you mean build?"),
        ("nets.py:build.more", "model.factory=nets.py:build.more: there is no more in nets.py.build."),
        ("nets.py:WIDTH.more", "model.factory=nets.py:WIDTH.more: there is no more in nets.py.WIDTH."),
        ("nets.py:WIDTH", "model.factory=nets.py:WIDTH: WIDTH is an int, not a function; name a function."),
        (
            "raises.py:build",
            "model.factory=raises.py:build cannot be imported: ZeroDivisionError: division by zero (nested.py, line 2).",
        ),
        ("exits.py:build", "model.factory=exits.py:build cannot be imported: SystemExit: 3 (exits.py, line 1)."),
        (
            "wrong.py:build",
            "model.factory=wrong.py:build cannot be imported: SyntaxError: '(' was never closed (wrong.py, line 2).",
        ),
        (
            "lacks.py:build",
            "cannot be imported: ModuleNotFoundError: No module named 'nowhere' (lacks.py, line 1).",
        ),
        ("part.py:build", "relative import with no known parent package (part.py, line 1); a file of a package is named as a "),
    ],
)
def test_each_mistake_has_its_sentence(here: Path, text: str, sentence: str) -> None:
    write(here / "nets.py", f"{BUILD}WIDTH = 3\n")
    write(here / "raises.py", "import nested\n")
    write(here / "nested.py", "\n1 / 0\n")
    write(here / "exits.py", "raise SystemExit(3)\n")
    write(here / "wrong.py", "\nbuild = (\n")
    write(here / "lacks.py", "import nowhere\n")
    write(here / "part.py", "from . import nets\n")
    with pytest.raises(ConfigError) as raised:
        load(text)
    assert sentence.format(here=here) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_only_functions_are_suggested(here: Path) -> None:
    write(here / "nets.py", "WIDTH = 3\n\ndef _build():\n    pass\n")
    for name in ("WIDHT", "build"):
        with pytest.raises(ConfigError) as raised:
            load(f"nets.py:{name}")
        assert str(raised.value) == f"model.factory=nets.py:{name}: there is no {name} in nets.py."
    with pytest.raises(ConfigError, match=r"model.factory=gone.py:build: there is no file"):
        source_fingerprint("gone.py:build")


def test_a_text_of_a_record_is_never_loaded(here: Path) -> None:
    write(here / "nets.py", "open('ran', 'w')\n" + BUILD)
    for text in ("nets.py:build", "os:system", str(name_code("nets.py:build", KEY))):
        with pytest.raises(
            ConfigError, match="is from a record, and bnexp never runs code that a record names; name it yourself"
        ):
            load_factory(text, KEY)
    assert not Path("ran").exists()


def test_a_name_survives_copies_and_pickles_and_is_plain_text_in_records(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here / "nets.py", BUILD)
    named = name_code("nets.py:build", KEY)
    monkeypatch.chdir("/")
    for other in (copy.deepcopy(named), pickle.loads(pickle.dumps(named))):
        assert load_factory(other, KEY)(width=7) == 7
        assert other == "nets.py:build"
    assert type(plain({"a": [named]})["a"][0]) is str


def test_a_changed_source_is_imported_anew_and_refused_under_its_old_name(here: Path) -> None:
    write(here / "helpers.py", "WIDTH = 1\n")
    write(here / "nets.py", "import helpers\n\ndef build():\n    return helpers.WIDTH\n")
    first = name_code("nets.py:build", KEY)
    assert (load("nets.py:build"), load("nets:build")) == (1, 1)
    write(here / "helpers.py", "WIDTH = 2\n")  # of the same size, and within the same second
    assert (load("nets.py:build"), load("nets:build")) == (2, 2)
    with pytest.raises(ConfigError, match="the source has changed since this command began; run the command again"):
        load_factory(first, KEY)


def test_an_unchanged_source_is_imported_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "nets.py", f"print('run')\n{BUILD}")
    assert [load("nets.py:build") for _ in range(3)] == [1, 1, 1]
    assert capsys.readouterr().err == "run\n"


def test_of_files_with_the_same_name_each_finds_the_one_beside_it(here: Path) -> None:
    for number in (1, 2):
        write(here / f"p{number}/helpers.py", f"WIDTH = {number}\n")
        write(here / f"p{number}/nets.py", "from helpers import WIDTH\n\ndef build():\n    return WIDTH\n")
    assert [load(f"p{number}/nets.py:build") for number in (1, 2, 1)] == [1, 2, 1]
    functions = [load_factory(name_code(f"p{number}/nets.py:build", KEY), KEY) for number in (1, 2)]
    assert [pickle.loads(pickle.dumps(function))() for function in functions] == [1, 2]


def test_what_the_code_prints_does_not_reach_the_results(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "nets.py", "print('imported')\n\ndef build():\n    print('called')\n")
    run_factory(name_code("nets.py:build", KEY), KEY)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "imported\ncalled\n")


def test_an_error_of_the_function_names_the_users_line(here: Path) -> None:
    write(here / "nets.py", "import json\n\ndef build(text):\n    return json.loads(text)\n")
    with pytest.raises(ConfigError) as raised:
        run_factory(name_code("nets.py:build", KEY), KEY, text="{")
    assert str(raised.value).startswith("model.factory=nets.py:build failed: JSONDecodeError: Expecting property name")
    assert str(raised.value).endswith("(nets.py, line 4).")


def test_a_script_that_starts_itself_is_told_how_to_stop_that(here: Path) -> None:
    write(
        here / "nets.py",
        "from bnexp.config.factory import load_factory, name_code\nload_factory(name_code('nets.py:build', 'f'), 'f')\n"
        + BUILD,
    )
    with pytest.raises(ConfigError, match='put what is to run as a script under if __name__ == "__main__"'):
        load("nets.py:build")


def test_another_process_loads_what_was_named_here(here: Path) -> None:
    write(here / "shop/nets.py", "import helpers\n\ndef build():\n    return helpers.WIDTH\n")
    write(here / "shop/helpers.py", "WIDTH = 5\n")
    data = pickle.dumps([name_code("shop/nets.py:build", KEY), name_code("shop.nets:build", KEY)])
    code = (
        "import pickle, sys\nfrom bnexp.config.factory import load_factory\n"
        "print([load_factory(name, 'f')() for name in pickle.loads(bytes.fromhex(sys.argv[1]))[:1]])"
    )
    done = subprocess.run([sys.executable, "-c", code, data.hex()], cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout == "[5]\n"


def test_the_fingerprint_is_that_of_the_text_and_of_what_it_imports(here: Path) -> None:
    write(here / "a/nets.py", f"import helpers\nfrom shop import parts\n{BUILD}")
    write(here / "a/helpers.py", "import more\n")
    write(here / "a/more.py", "import helpers\n")
    write(here / "a/shop/__init__.py", "")
    write(here / "a/shop/parts.py", "from . import paint\nfrom .deep import inner\n")
    write(here / "a/shop/paint.py", "")
    write(here / "a/shop/ground.py", "")
    write(here / "a/shop/deep/__init__.py", "")
    write(here / "a/shop/deep/inner.py", "from ..ground import *\n")
    write(here / "a/unused.py", "")
    before = source_fingerprint("a/nets.py:build")
    (here / "a").rename(here / "b")
    (here / "b/nets.py").rename(here / "b/networks.py")
    assert source_fingerprint("b/networks.py:build") == before
    assert source_fingerprint("b/networks.py:other") == before  # the name counts by itself
    (here / "b/networks.py").write_bytes((here / "b/networks.py").read_bytes().replace(b"\n", b"\r\n"))
    assert source_fingerprint("b/networks.py:build") == before
    write(here / "b/unused.py", "changed = 1\n")
    assert source_fingerprint("b/networks.py:build") == before
    for name in (
        "networks.py",
        "helpers.py",
        "more.py",
        "shop/__init__.py",
        "shop/parts.py",
        "shop/ground.py",
        "shop/deep/inner.py",
    ):
        text = (here / "b" / name).read_text()
        write(here / "b" / name, f"{text}\n# changed\n")
        assert source_fingerprint("b/networks.py:build") != before, name
        write(here / "b" / name, text)


def test_a_module_is_covered_with_its_package_and_installed_packages_are_not(here: Path) -> None:
    write(here / "shop/__init__.py", "")
    write(here / "shop/nets.py", f"import json, bnexp, numpy, not_there\nimport bare.inside.x\n{BUILD}")
    write(here / "bare/inside/x.py", "")  # a folder without __init__.py is a package too
    named = name_code("shop.nets:build", KEY)
    assert isinstance(named, Named)
    write(here / "shop/__init__.py", "x = 1\n")
    assert source_fingerprint("shop.nets:build") != named.fingerprint
    from bnexp.config.source import read_source

    assert list(read_source(here / "shop/nets.py", "shop.nets").files) == ["", "shop", "bare.inside.x"]
    assert (
        "torchvision/models/_utils.py" in read_source(_file_of("torchvision.models.resnet"), "torchvision.models.resnet").files
    )


def _file_of(module: str) -> Path:
    from bnexp.config.source import find_module

    spec = find_module(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)
