"""One study as the book of claims tells it: its claim, settings, verdict, figures, and what others found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from bnexp.comparison.analyses import ANALYSES
from bnexp.comparison.record import StudyRecord
from bnexp.comparison.result import Comparison, Status, StudyResult
from bnexp.comparison.tables import comparison_rows
from bnexp.comparison.text import SETTINGS
from bnexp.plan.shown import CURVES
from bnexp.plan.study import varied_keys
from bnexp.report import charts
from bnexp.report.beside import other_metrics
from bnexp.report.charts import Figure
from bnexp.report.courses import histories, run_curves, summarise
from bnexp.report.published import ReferenceTable, references, sentences
from bnexp.report.sections import LEFT_OUT, focus_level
from bnexp.tracking.store import Store

COLUMNS = ("arm", "baseline", "level", "measure", "n", "difference", "95 % interval", "p adjusted", "verdict")
# Named beside every verdict, varied or not; other settings only if they are not at their default.
LABELS = {"data.name": "data", "model.name": "network", **SETTINGS}
COURSES = ("train/loss", "val/accuracy")  # of the learning curves


@dataclass(frozen=True)
class Claim:
    """One study in the book.

    Args:
        result: what the comparison found.
        setting: name -> value of the settings that the verdict holds for.
        rows: the comparisons as text.
        runs: how many runs there are, and what came of them.
        figures: what the book draws.
        references: values that others found at the same settings.
        published: sentences on what others found, at other settings, too.
        errata: what the sources have wrong.
        notes: what the reader must know beside the answer.
        command: the command that runs exactly this study again.
    """

    result: StudyResult
    setting: dict[str, str]
    rows: list[dict[str, str]]
    runs: str
    figures: list[Figure] = field(repr=False)
    references: list[ReferenceTable]
    published: list[str]
    errata: list[str]
    notes: list[str]
    command: str

    @property
    def name(self) -> str:
        return str(self.result.study["name"])

    @property
    def claim(self) -> str:
        return str(self.result.study.get("claim") or self.result.question)

    @property
    def sources(self) -> str:
        return "; ".join(map(str, self.result.study.get("sources") or ["no source named"]))

    @property
    def lead(self) -> dict[str, str] | None:
        """The row for the summary: the largest effect among the comparisons that share the study's verdict, else among all."""
        rows = list(zip(self.result.comparisons, self.rows, strict=True))
        shown = [(c, row) for c, row in rows if c.verdict is self.result.verdict] or rows
        return max(shown, key=lambda pair: _size(pair[0]))[1] if shown else None


def _size(comparison: Comparison) -> float:
    return abs(comparison.effect) if math.isfinite(comparison.effect) else -1.0


def tell(record: StudyRecord, result: StudyResult, store: Store) -> Claim:
    """Gather what the book says of one study from its records."""
    counts = Counter(outcome.ending for outcome in result.outcomes)
    bad = [f"{counts[ending]} {ending}" for ending in ("diverged", "stuck", "failed", "damaged", "missing") if counts[ending]]
    drawn, missing = _figures(record, result, store)
    show = record.study.show
    return Claim(
        result=result,
        setting=_setting(record, result),
        rows=[{name: row[name] for name in COLUMNS if name in row} for row in comparison_rows(result)],
        runs=", ".join([f"{len(result.outcomes)} runs", f"{counts[Status.finished]} finished", *bad]),
        figures=drawn,
        references=references(result, show),
        published=sentences(show),
        errata=show.errata,
        notes=[*result.unpaired, *result.notes, *missing],
        command=record.command,
    )


def errata(claims: Sequence[Claim]) -> list[str]:
    """What the sources of all claims have wrong, each once."""
    return list(dict.fromkeys(text for claim in claims for text in claim.errata))


def _setting(record: StudyRecord, result: StudyResult) -> dict[str, str]:
    shared: Mapping[str, str] = result.settings
    varied = varied_keys(record.study)
    found = {}
    for key, label in LABELS.items():
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
    return [replace(figure, id=f"{record.study.name}-{figure.id}") for figure in found], missing


def _courses(result: StudyResult, arms: Sequence[str], store: Store) -> list[Figure]:
    """Training loss and validation accuracy by epoch."""
    runs = [(o, run) for o in result.outcomes if o.status is Status.finished and (run := store.find(o.run_id))]
    courses, problems = histories(runs)
    for damage in problems:
        store.report_damage(damage, LEFT_OUT)
    return charts.curves(summarise(run_curves(courses)), COURSES, arms, focus_level(result))
