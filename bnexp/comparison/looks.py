"""How often a question has been looked at: it chooses the tests, so that verdicts stay valid however often one looks.

A *question* is what is read of which runs, whatever their seeds and the rule that judges them. A look at a part of the planned
runs counts as one, too. With the fixed-n t test, looking again after each further seed finds an effect where there is none in
14 to 28 % of all questions. So only the first conclusion at the planned number of seeds uses it. Every other look uses an
anytime-valid test (``sequential``): one that was declared beforehand with its largest number of seeds (``study.max_seeds``) at
.05, any other at .01.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bnexp.comparison.questions import PastLook
from bnexp.comparison.result import StudyResult
from bnexp.comparison.sequential import Rule
from bnexp.comparison.stats import ALPHA


@dataclass(frozen=True)
class Look:
    """A look at the results of a question.

    Args:
        rule: the anytime-valid rule; None for the first conclusion at the planned number of seeds.
        earlier: the conclusions before this one, oldest first.
        unfinished: whether some planned runs have not been made yet.
        whole: the conclusion of this study while it had runs of more seeds, which are gone now; None if none are gone.
    """

    rule: Rule | None = None
    earlier: Sequence[PastLook] = ()
    unfinished: bool = False
    whole: PastLook | None = None

    @property
    def alpha(self) -> float:
        """Level of the tests of this look."""
        return ALPHA if self.rule is None else self.rule.alpha

    @property
    def sentence(self) -> str:
        """Which look this is and why the test is not the usual one; empty for the first conclusion at a planned number."""
        if self.rule is None:
            return ""
        level = f"{self.rule.alpha:g}".removeprefix("0")
        valid = f"a test that is valid however often one looks decides, at level {level}"
        if self.whole is not None:
            before = f"was {self.whole.verdict} with {self.whole.num_seeds} seeds"
            return f"Its verdict {before}, of which runs are gone since, so {valid}."
        if self.rule.max_seeds is not None:
            return (
                f"Seeds are added until it is settled, at most {self.rule.max_seeds}. This was declared before the first run, "
                f"so the test is valid at every look (level {level})."
            )
        if not self.earlier:
            return f"Not all planned runs are made yet, so {valid}."
        before = f"was {self.earlier[0].verdict} with {self.earlier[0].num_seeds} seeds"
        return f"This is look {len(self.earlier) + 1} at this question, which {before}, so {valid}."


FIRST = Look()


def look_at(earlier: Sequence[PastLook], max_seeds: int | None, *, unfinished: bool, whole: PastLook | None = None) -> Look:
    """What kind of look a conclusion is.

    Args:
        earlier: the conclusions of the question before this study, oldest first.
        max_seeds: the declared largest number of seeds; None if their number is fixed.
        unfinished: whether some planned runs have not been made yet.
        whole: the conclusion of this study with more seeds than now; None if it has lost none.
    """
    if earlier:
        return Look(Rule.again(), earlier, unfinished, whole)
    if max_seeds is not None:
        return Look(Rule.declared(max_seeds), unfinished=unfinished, whole=whole)
    return Look(Rule.again(), unfinished=True, whole=whole) if unfinished else FIRST


def rule_of(result: StudyResult) -> Rule:
    """The rule with which a result was looked at. After a first conclusion it is that of a further look."""
    most = result.study.get("max_seeds")
    return Rule.declared(int(most)) if result.rule == "declared" and most else Rule.again()
