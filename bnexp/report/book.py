"""The book of claims: what sources claim of batch norm, each claim with what was measured, as one HTML page and as Markdown.

A book belongs to one ``bnexp study --all`` with its overrides. ``<runs>/book/book-<id>/`` holds ``book.json`` (which studies,
and why others are not there), ``book.html``, ``book.md`` and ``figures/``, which the Markdown shows.
"""

from __future__ import annotations

import math
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import altair as alt
import polars as pl

from bnexp.compare.analyses import ANALYSES
from bnexp.compare.record import StudyRecord
from bnexp.compare.result import ArmSummary, Comparison, Status, StudyResult
from bnexp.compare.select import study_outcomes
from bnexp.compare.tables import comparison_rows
from bnexp.compare.text import SETTINGS
from bnexp.compare.verdict import analyse
from bnexp.config.options import Analysis
from bnexp.plan.spec import digest
from bnexp.plan.study import varied_keys
from bnexp.report import figures, markdown
from bnexp.report.html import Chart, page
from bnexp.report.published import ERRATA, PUBLISHED, Reference, references
from bnexp.report.sections import CURVES, DIFFERENCE_SCHEMA, LEFT_OUT, histories, run_curves, study_factor
from bnexp.tracking.reading import MIB, DamagedRecord, read_as
from bnexp.tracking.store import Store, write_atomic, write_if_allowed, write_json

TEMPLATE = Path(__file__).parent / "book.html.jinja"
COLUMNS = ("arm", "baseline", "level", "measure", "n", "difference", "95 % interval", "p adjusted", "verdict")
# Named beside every verdict, varied or not; other settings only where they are not at their default.
LABELS = {"data.name": "data", "model.name": "network", **SETTINGS}
# Studies whose learning curves are shown, too.
WITH_CURVES = ("batchnorm", "blog")
# Study -> another metric of its runs that a second figure shows.
BESIDE = {
    "activation": "activations/dead",
    "depth": "gradients/log_ratio",
    "sorted_batches": "gap/mode_accuracy",
    "similar_samples": "similar/output_deviation",
    "cost": "cost/activation_mib",
}


@dataclass(frozen=True)
class _Content:
    """What ``book.json`` holds."""

    overrides: list[str]
    studies: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Book(_Content):
    """Which studies the book in ``folder`` is of: ``name-id`` each, and by name why others are missing; ``overrides`` of all.

    ``folder`` is where ``book.json`` was read, or is to be written.
    """

    folder: Path = field(kw_only=True)

    @property
    def id(self) -> str:
        return self.folder.name.removeprefix("book-")

    @property
    def command(self) -> str:
        """The command that runs the studies and writes the book again."""
        return shlex.join(["bnexp", "study", "--all", *self.overrides])

    def save(self) -> None:
        content = asdict(self)
        del content["folder"]
        write_json(self.folder / "book.json", content)


def planned(overrides: list[str], store: Store) -> Book:
    """The book of all studies with these overrides, still without any."""
    return Book(overrides, folder=store.root / "book" / f"book-{digest(sorted(overrides), 8)}")


def load(folder: Path) -> Book:
    """Read the ``book.json`` of ``folder``. Raises DamagedRecord if it cannot be used."""
    path = folder / "book.json"
    content = read_as(_Content, path, MIB)
    for study in content.studies:
        if not re.fullmatch(r"[\w-][\w.-]*-\w+", study):  # it becomes a path
            raise DamagedRecord(path, f"studies has {study!r}, which is no name and id of a study")
    return Book(**vars(content), folder=folder)


@dataclass(frozen=True)
class Figure:
    """A chart of a claim, and what it shows in words."""

    id: str
    chart: alt.LayerChart = field(repr=False)
    description: str

    @property
    def page_chart(self) -> Chart:
        return Chart(self.id, figures.spec(self.chart), self.description)


@dataclass(frozen=True)
class Claim:
    """One study as the book tells it. ``setting``: name -> value; ``rows``: comparisons as text; ``runs``: what came of them;
    ``references``: arms beside values found by others; ``published``: a sentence on other networks, or empty."""

    result: StudyResult
    setting: dict[str, str]
    rows: list[dict[str, str]]
    runs: str
    figures: list[Figure] = field(repr=False)
    references: list[tuple[ArmSummary, Reference]]
    published: str
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
        """The row that the summary shows: of the study's verdict, where one is, that with the largest effect."""
        rows = list(zip(self.result.comparisons, self.rows, strict=True))
        shown = [(c, row) for c, row in rows if c.verdict is self.result.verdict] or rows
        return max(shown, key=lambda pair: _size(pair[0]))[1] if shown else None


def _size(comparison: Comparison) -> float:
    return abs(comparison.effect) if math.isfinite(comparison.effect) else -1.0


def write(book: Book, studies: Sequence[tuple[StudyRecord, StudyResult]], store: Store) -> Path | None:
    """Write ``book.html``, ``book.md`` and the figures; the path of the page, None where files may only be read."""
    claims = [tell(record, result, store) for record, result in studies]
    if not write_if_allowed(book.folder / "book.html", render(book, claims)):
        return None
    pictures = book.folder / "figures"
    if pictures.is_symlink() or pictures.is_file():
        pictures.unlink()  # a link could lead anywhere
    shutil.rmtree(pictures, ignore_errors=True)
    for claim in claims:
        for figure in claim.figures:
            write_atomic(pictures / f"{figure.id}.png", figures.png(figure.chart))
    write_atomic(book.folder / "book.md", markdown.render(book.command, claims, book.missing))
    return book.folder / "book.html"


def render(book: Book, claims: Sequence[Claim]) -> str:
    """The book as the text of one HTML document."""
    verdicts = Counter(claim.result.verdict.value for claim in claims)
    return page(TEMPLATE, book=book, claims=claims, columns=COLUMNS, errata=ERRATA, verdicts=dict(verdicts.most_common()))


def tell(record: StudyRecord, result: StudyResult, store: Store) -> Claim:
    """Gather what the book says of one study."""
    counts = Counter(outcome.status for outcome in result.outcomes)
    bad = [
        f"{counts[status]} {status}"
        for status in (Status.diverged, Status.failed, Status.damaged, Status.missing)
        if counts[status]
    ]
    return Claim(
        result=result,
        setting=_setting(record, result),
        rows=[{name: row[name] for name in COLUMNS if name in row} for row in comparison_rows(result)],
        runs=", ".join([f"{len(result.outcomes)} runs", f"{counts[Status.finished]} finished", *bad]),
        figures=_figures(record, result, store),
        references=references(result),
        published=PUBLISHED.get(record.study.name, ""),
        command=record.command,
    )


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


def _figures(record: StudyRecord, result: StudyResult, store: Store) -> list[Figure]:
    """The main figure of a study, a panel each where there are two factors, and one of another metric of its runs."""
    name, arms = record.study.name, list(record.study.arms)
    found = []
    if ANALYSES[record.study.analysis].follows_training:
        found = _curves(name, arms, result, store)[-1:]
    elif study_factor(result) is not None:
        found = _over_factor(name, arms, result)
    if not found:
        found = _differences(name, arms, result)
    if name in WITH_CURVES:
        found += _curves(name, arms, result, store)
    other = _beside(record, result, store)
    if other is None:
        return found
    return found + (_over_factor(f"{name}-beside", arms, other) or _differences(f"{name}-beside", arms, other))


def _curves(name: str, arms: list[str], result: StudyResult, store: Store) -> list[Figure]:
    """Training loss and validation accuracy by epoch."""
    runs = [(o, run) for o in result.outcomes if o.status is Status.finished and (run := store.find(o.run_id))]
    courses, problems = histories(runs)
    for damage in problems:
        store.report_damage(damage, LEFT_OUT)
    summary = figures.summarise(run_curves(courses))
    return [
        Figure(
            f"{name}-{metric.replace('/', '-')}",
            figures.learning_curve(summary, metric, arms, str(summary["level"][0])),
            f"{CURVES[metric]} by epoch, a line for each of {', '.join(arms)}.",
        )
        for metric in ("train/loss", "val/accuracy")
        if metric in set(summary["metric"])
    ]


def _over_factor(name: str, arms: list[str], result: StudyResult) -> list[Figure]:
    factor = study_factor(result)
    if factor is None:
        return []
    words = f"{result.metric} over {factor.name}, a series for each of {', '.join(arms)}"
    return [
        Figure(
            f"{name}-{k}",
            figures.factor_plot(factor, panel, arms, result.metric, result.unit),
            f"{words}{', ' if panel else ''}{panel}.",
        )
        for k, panel in enumerate(factor.panels)
    ]


def _differences(name: str, arms: list[str], result: StudyResult) -> list[Figure]:
    """The paired differences of the study's first measure."""
    known = [c for c in result.comparisons if math.isfinite(c.difference)]
    shown = [c for c in known if c.measure == known[0].measure]
    if not shown:
        return []
    rows = [
        (c.arm, c.baseline, c.level, c.measure, seed, difference)
        for c in shown
        for seed, difference in zip(c.seeds, c.differences, strict=True)
    ]
    frame = pl.DataFrame(rows, schema=DIFFERENCE_SCHEMA, orient="row")
    words = "; ".join(f"{c.arm} minus {c.baseline} {c.level}: {c.difference:+.3g} {c.unit}" for c in shown)
    chart = figures.difference_plot(frame, shown, arms)
    return [Figure(f"{name}-differences", chart, f"Paired differences in {shown[0].measure}. {words}.")]


def _beside(record: StudyRecord, result: StudyResult, store: Store) -> StudyResult | None:
    """The study in another metric of the same runs, where there is one to show."""
    metric = BESIDE.get(record.study.name)
    if metric is None or not any(outcome.status is Status.finished for outcome in result.outcomes):
        return None
    study = replace(record.study, metric=metric, analysis=Analysis.levels, margin=None)
    outcomes = study_outcomes(record.runs, store, metric)
    return analyse(study, outcomes, study_id=record.study_id, margin=math.nan, settings=record.settings)
