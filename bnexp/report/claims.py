"""One study as the book of claims tells it: its claim, settings, verdict, figures, and what others found."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from bnexp.comparison.analyses import ANALYSES
from bnexp.comparison.discovery import Discoveries, discoveries
from bnexp.comparison.record import StudyRecord
from bnexp.comparison.result import Comparison, Outcome, Status, StudyResult
from bnexp.comparison.select import study_facts
from bnexp.comparison.tables import comparison_rows
from bnexp.comparison.text import LABELS, RATIO, difference, p_text
from bnexp.config.options import theme_order
from bnexp.plan.shown import CURVES, RELIABILITY
from bnexp.plan.study import varied_keys
from bnexp.report import charts
from bnexp.report.beside import other_metrics
from bnexp.report.charts import Figure
from bnexp.report.courses import histories, run_curves, summarise
from bnexp.report.predictions import load
from bnexp.report.published import ReferenceTable, Told, references, told
from bnexp.report.sections import LEFT_OUT, focus_level
from bnexp.tracking.records import RecordedRun
from bnexp.tracking.store import Store

MEASURED = ("arm", "baseline", "level", "measure", "n", "difference", "95 % interval")
TESTED = (*MEASURED, "p adjusted", "p equivalence", "verdict")
COURSES = ("train/loss", "val/accuracy")  # of the learning curves

Row = dict[str, str]


@dataclass(frozen=True)
class Lead:
    """The strongest deciding comparison, for the summary.

    Args:
        effect: the difference with its unit and interval.
        about: what is compared with what, where, and in which measure.
        n: number of pairs.
    """

    effect: str
    about: str
    n: int


@dataclass(frozen=True)
class Claim:
    """One study in the book.

    Args:
        result: what the comparison found.
        setting: name -> value of the settings that the verdict holds for.
        lead: the strongest deciding comparison; None without any.
        deciding: the comparisons that decide, as text, the strongest first.
        measured: what was also measured, as text.
        runs: how many runs there are, and what came of them.
        figures: what the book draws.
        references: values that others found for the same data set.
        published: what others found in other settings, in words, beside the study's own effect.
        errata: what the sources have wrong.
        notes: what the reader must know beside the answer.
        command: the command that runs exactly this study again.
        report: relative link from the book to the study's own report; empty if it is not written.
        q: its q value among the claims of the book; None if it has no verdict.
    """

    result: StudyResult
    setting: dict[str, str]
    lead: Lead | None
    deciding: list[Row]
    measured: list[Row]
    runs: str
    figures: list[Figure] = field(repr=False)
    references: list[ReferenceTable]
    published: list[Told]
    errata: list[str]
    notes: list[str]
    command: str
    report: str = ""
    q: float | None = None

    @property
    def name(self) -> str:
        return str(self.result.study["name"])

    @property
    def theme(self) -> str:
        return str(self.result.study.get("theme") or "other")

    @property
    def claim(self) -> str:
        return str(self.result.study.get("claim") or self.result.question)

    @property
    def sources(self) -> str:
        return "; ".join(map(str, self.result.study.get("sources") or ["no source named"]))

    @property
    def report_command(self) -> str:
        """The command that writes the study's own report."""
        return f"bnexp report {self.name}-{self.result.study_id}"

    @property
    def q_text(self) -> str:
        return "–" if self.q is None else p_text(self.q)


@dataclass(frozen=True)
class Contents:
    """All claims of a book.

    Args:
        themes: theme -> its claims, in the order of the book.
        usual: name -> value of the settings that more than half of the claims have.
        found: the claims corrected for their number.
    """

    themes: dict[str, list[Claim]]
    usual: dict[str, str]
    found: Discoveries

    @property
    def claims(self) -> list[Claim]:
        return [claim for group in self.themes.values() for claim in group]

    def own_setting(self, claim: Claim) -> str:
        """The settings of a claim that are not the usual ones, as one text; empty if there are none."""
        known = {name: claim.setting.get(name, "–") for name in [*claim.setting, *self.usual]}
        return listed({name: value for name, value in known.items() if self.usual.get(name) != value})

    @property
    def wrong_verdicts(self) -> str:
        """How many wrong verdicts are to be expected, as a sentence."""
        found = self.found
        if not found.num_tested:
            return "No claim has a verdict: a verdict needs at least six seeds."
        tested = f"{found.num_tested} claim{'s were' if found.num_tested > 1 else ' was'} tested"
        if not found.num_verdicts:
            return f"{tested}, and none is settled."
        risk = f"{100 * found.risk:g}"
        verdicts = f"{found.num_verdicts} verdict{'s' if found.num_verdicts > 1 else ''}"
        wrong = f"{tested}, each with a risk of at most {risk}\u00a0% of a wrong verdict: on average that makes up to "
        wrong += f"{found.expected_false:.2g} wrong ones, here among {verdicts}."
        kept = f" Of the verdicts with q ≤ .05 ({found.num_kept} here) on average at most {risk}\u00a0% are wrong."
        return wrong + (kept if found.num_kept else " None has q ≤ .05.")


def arrange(claims: Iterable[Claim]) -> Contents:
    """Put claims in the order of their themes, and correct their verdicts for their number."""
    ordered = sorted(claims, key=lambda claim: (theme_order(str(claim.result.study.get("theme") or "")), claim.name))
    found = discoveries([claim.result for claim in ordered])
    known = [replace(claim, q=q) for claim, q in zip(ordered, found.q, strict=True)]
    themes = {theme: list(group) for theme, group in groupby(known, key=lambda claim: claim.theme)}
    counts = Counter(item for claim in known for item in claim.setting.items())
    usual = dict(item for item, number in counts.items() if 2 * number > len(known))
    return Contents(themes, usual, found)


def listed(setting: Mapping[str, str]) -> str:
    """``data digits, epochs 10``"""
    return ", ".join(f"{name} {value}" for name, value in setting.items())


def tell(record: StudyRecord, result: StudyResult, store: Store, folder: Path) -> Claim:
    """Gather what the book in ``folder`` says of one study from its records."""
    counts = Counter(outcome.ending for outcome in result.outcomes)
    bad = [f"{counts[ending]} {ending}" for ending in ("diverged", "stuck", "failed", "damaged", "missing") if counts[ending]]
    drawn, missing = _figures(record, result, store)
    show = record.study.show
    deciding, measured = _rows(result)
    return Claim(
        result=result,
        setting=_setting(record, result),
        lead=_lead(result.lead),
        deciding=deciding,
        measured=measured,
        runs=", ".join([f"{len(result.outcomes)} runs", f"{counts[Status.finished]} finished", *bad]),
        figures=drawn,
        references=references(result, show),
        published=told(result, show),
        errata=show.errata,
        notes=[*result.unpaired, *result.notes, *missing],
        command=record.command,
        report=_link(record.folder / "report.html", folder),
    )


def _lead(c: Comparison | None) -> Lead | None:
    if c is None:
        return None
    pair = f"{c.arm} {'÷' if c.unit == RATIO else '−'} {c.baseline}"
    unit = "" if c.unit else " (no unit)"
    return Lead(difference(c) if c.n else "–", ", ".join(part for part in (pair, c.level, c.measure + unit) if part), c.n)


def _rows(result: StudyResult) -> tuple[list[Row], list[Row]]:
    """The deciding comparisons as text, the leading one first, and what was also measured."""
    first, rows = result.lead, list(zip(result.comparisons, comparison_rows(result), strict=True))
    rows.sort(key=lambda pair: pair[0] is not first)
    deciding = [row for c, row in rows if c.decides]
    measured = [row for c, row in rows if not c.decides]
    tests = [name for name in TESTED if name != "p equivalence" or any(row[name] != "–" for row in deciding)]
    return [_only(row, tests) for row in deciding], [_only(row, MEASURED) for row in measured]


def _only(row: Row, columns: Sequence[str]) -> Row:
    return {name: row[name] for name in columns if name in row}


def _link(path: Path, folder: Path) -> str:
    return quote(Path(os.path.relpath(path, folder)).as_posix()) if path.exists() else ""


def errata(claims: Sequence[Claim]) -> list[str]:
    """What the sources of all claims have wrong, each once."""
    return list(dict.fromkeys(text for claim in claims for text in claim.errata))


def _setting(record: StudyRecord, result: StudyResult) -> dict[str, str]:
    shared: Mapping[str, str] = result.settings
    varied = varied_keys(record.study)
    found = {}
    for key, label in LABELS.items():  # named beside every verdict, varied or not; other settings only if not at their default
        if key in shared:
            found[label] = shared[key]
        elif key in varied or (key.startswith("data") and varied & {key, "data"}):
            found[label] = "varied"
        elif key == "data.train_size":
            found[label] = "all"
    return found | {key: value for key, value in shared.items() if key not in LABELS}


def _figures(record: StudyRecord, result: StudyResult, store: Store) -> tuple[list[Figure], list[str]]:
    """The main figure of a study and those that it shows beside, and a note on each that is missing."""
    arms, by_epoch = list(record.study.arms), CURVES in record.study.show.figures
    timed = ANALYSES[record.study.analysis].follows_training
    courses = _courses(result, arms, store) if timed or by_epoch else []
    found = (courses[-1:] if timed else []) or charts.main(result, arms)
    found += [figure for figure in courses if by_epoch and figure.id not in [shown.id for shown in found]]
    others, missing = other_metrics(record, result, store)
    found += charts.beside(others, arms)
    found += _reliability(record, result, arms, store) if RELIABILITY in record.study.show.figures else []
    return [replace(figure, id=f"{record.study.name}-{figure.id}") for figure in found], missing


def _reliability(record: StudyRecord, result: StudyResult, arms: Sequence[str], store: Store) -> list[Figure]:
    """Accuracy over confidence at the level with the best mean."""
    level = focus_level(result)
    runs = [(outcome, run) for outcome, run in _finished(result, store) if outcome.level == level]
    frames, problems = load(runs, arms, study_facts(record.runs, store))
    for damage in problems:
        store.report_damage(damage, LEFT_OUT)
    return charts.reliability(frames, arms, level)


def _finished(result: StudyResult, store: Store) -> list[tuple[Outcome, RecordedRun]]:
    return [(o, run) for o in result.outcomes if o.status is Status.finished and (run := store.find(o.run_id))]


def _courses(result: StudyResult, arms: Sequence[str], store: Store) -> list[Figure]:
    """Training loss and validation accuracy by epoch."""
    courses, problems = histories(_finished(result, store))
    for damage in problems:
        store.report_damage(damage, LEFT_OUT)
    return charts.curves(summarise(run_curves(courses)), COURSES, arms, focus_level(result))
