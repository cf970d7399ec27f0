"""``scripts/mutate``: which changes it makes, and that it tells tests that notice from tests that do not."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "mutate"


@pytest.fixture(scope="module")
def mutate() -> ModuleType:
    spec = spec_from_loader("mutate", SourceFileLoader("mutate", str(SCRIPT)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["mutate"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("a < b", {"a <= b"}),
        ("a and b", {"a or b", "a", "b"}),
        ("a - b", {"a + b", "a"}),
        ("f(x, k=y)", {"f(x)"}),
        ("min(a, b)", {"max(a, b)"}),
        ("x[7]", {"x[8]"}),
        ("d['key']", {"d['key_']"}),
        ("not a", {"a"}),
        ("a if b else c", {"a", "c"}),
        ("s += x", {"s = x", "pass"}),
        ("f()", {"pass"}),
        ("[x for x in y if x.ok]", {"[x for x in y if True]"}),
    ],
)
def test_each_change_is_one_that_a_test_should_notice(
    mutate: ModuleType, code: str, changed: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutate, "ROOT", tmp_path)
    (tmp_path / "code.py").write_text(f"é = {code}\n" if "+=" not in code and code != "f()" else f"{code}\n")
    text = (tmp_path / "code.py").read_text()
    found = {mutant.apply(text).removeprefix("é = ").strip() for mutant in mutate.mutants_of("code.py")}
    assert {ast.unparse(ast.parse(line)) for line in found} == changed


def test_texts_for_people_annotations_and_docstrings_are_left_alone(
    mutate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutate, "ROOT", tmp_path)
    (tmp_path / "code.py").write_text(
        '"""doc"""\ndef f(x: Literal["a"]) -> Literal["b"]:\n    "doc"\n    return f"is {x + 1}", "a text"\n'
    )
    assert mutate.mutants_of("code.py") == []


def test_a_line_that_runs_on_import_is_for_all_tests_of_its_file_or_for_all(mutate: ModuleType) -> None:
    reach = mutate.Reach({"some.py": {"1": {""}, "2": {"b"}}, "constants.py": {"1": {""}}}, {"a": 1.0, "b": 0.5})

    def tests(path: str) -> list[str]:
        found: list[str] = reach.of(mutate.Mutant(path, 1, "x = 1", (1,), 4, 5, "1", "2"), 60)
        return found

    assert (tests("some.py"), tests("constants.py"), tests("other.py")) == (["b"], ["b", "a"], [])


def test_a_line_of_a_compiled_function_which_coverage_cannot_see_is_for_all_tests(
    mutate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutate, "ROOT", tmp_path)
    (tmp_path / "kernel.py").write_text("@compiled\ndef kernel(x):\n    x[0] = 1\n")
    reach = mutate.Reach({"kernel.py": {"1": {""}, "2": {""}}}, {"a": 1.0, "b": 0.5})
    assert {tuple(reach.of(mutant, 60)) for mutant in mutate.mutants_of("kernel.py")} == {("b", "a")}


def test_every_mutant_named_as_equivalent_is_one_of_the_code(mutate: ModuleType) -> None:
    named = set(mutate.known_equivalents())
    made = {
        (m.path, m.code, mutate.one_line(m.before), mutate.one_line(m.after))
        for path in {n[0] for n in named}
        for m in mutate.mutants_of(path)
    }
    assert named - made == set()


@pytest.mark.slow
def test_a_test_that_notices_kills_and_one_that_does_not_lets_live() -> None:
    test = "tests/data/test_batches.py::test_augmentation_draws_what_its_name_says"
    lines = (SCRIPT.parent.parent / "bnexp/rng.py").read_text().splitlines()
    line = 1 + next(i for i, text in enumerate(lines) if text.endswith(">> 1"))
    command = [sys.executable, str(SCRIPT), "bnexp/rng.py", "--line", str(line), "--jobs", "1", "--tests", test]
    found = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert found.returncode == 1, found.stdout + found.stderr
    assert f"survived  bnexp/rng.py:{line}  1  ->  2  [1 tests]" in found.stdout
    assert "2 of 3     66.7 %  all" in found.stdout
