"""What a terminal shows of a verdict: as many columns as fit, and no cell broken."""

from __future__ import annotations

import pytest
from rich.console import Console

from bnexp.cli import study
from bnexp.cli.output import Format
from bnexp.compare.result import Outcome, Status, Verdict
from bnexp.compare.verdict import analyse
from bnexp.config import StudyConfig

ARMS = ("before_activation", "after_activation", "after_pool")


@pytest.mark.parametrize(("width", "last"), [(130, "n needed"), (110, "p adjusted"), (80, "difference")])
def test_a_narrow_terminal_has_fewer_columns_and_whole_verdicts(
    width: int, last: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = [
        Outcome(arm, "", {}, seed, Status.finished, 0.9 + 0.01 * ((seed * 7 + i * 3) % 5), f"{arm}-{seed}")
        for i, arm in enumerate(ARMS)
        for seed in range(6)
    ]
    made = StudyConfig(name="made", arms={arm: [] for arm in ARMS})
    result = analyse(made, outcomes, study_id="0", margin=1.0, chance=0.1, settings={})
    for module in ("study", "output"):
        monkeypatch.setattr(f"bnexp.cli.{module}.stdout", lambda: Console(width=width, highlight=False))
    study.print_result(result, Format.table)
    lines = capsys.readouterr().out.splitlines()
    (at,) = [i for i, line in enumerate(lines) if "baseline" in line]
    assert lines[at].removesuffix("verdict".ljust(12)).rstrip().endswith(last)
    assert all(row.rstrip().endswith(tuple(Verdict)) for row in lines[at + 1 : at + 4])
