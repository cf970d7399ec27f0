"""``bnexp report`` with several studies: one page with all of them, and their answers in the terminal."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from bnexp.cli.output import Format, message, print_json, print_rows
from bnexp.config.schema import ConfigError

if TYPE_CHECKING:
    from bnexp.comparison.record import StudyRecord
    from bnexp.comparison.result import StudyResult
    from bnexp.report.export import Pictures
    from bnexp.tracking.store import Store


def report_together(
    records: Sequence[StudyRecord],
    store: Store,
    format: Format,
    metric: str | None,
    pictures: Pictures,
    *,
    wandb: bool = False,
) -> None:
    """Compare the studies again, each within itself, and write one page beside the record of the first.

    Args:
        records: at least two studies.
        store: where names were looked up; a study that lies elsewhere has its runs there.
        format: of what is printed.
        metric: another metric to read them by; None for the one that each was planned with.
        pictures: where the figures are written as files of their own.
        wandb: whether to make a report and workspaces on W&B too.
    """
    from bnexp.cli.wandb_report import Dashboards
    from bnexp.comparison.recorded import label, store_of
    from bnexp.report import together
    from bnexp.report.export import slug
    from bnexp.tracking.store import write_if_allowed

    names = [label(record.folder) for record in records]
    if len({record.folder.resolve() for record in records}) < len(records):
        raise ConfigError(f"one study is named twice ({', '.join(names)}): give different ones.")
    dashboards = Dashboards([(record, store_of(record.folder, store)) for record in records]) if wandb else None
    studies = [(*_read(record, store_of(record.folder, store), metric), store_of(record.folder, store)) for record in records]
    results = [result for _, result, _ in studies]
    if dashboards is None or format is not Format.json:
        _print(results, names, format)
    found = together.gather(studies)
    command = shlex.join(["bnexp", "report", *names, *(["--metric", metric] if metric else [])])
    path = records[0].folder / f"{slug(' '.join(['report with', *names[1:], *([metric] if metric else [])]))}.html"
    if write_if_allowed(path, together.render(found, command)):
        message(f"\nReport: {path}")
    for line in pictures.write(found.figures, slug(" ".join(names))) if pictures.wanted else ():
        message(line)
    if dashboards is not None:
        links = dashboards.make(results)
        if format is Format.json:
            print_json([result.to_dict() | {"wandb": where} for result, where in zip(results, links, strict=True)])


def _read(record: StudyRecord, store: Store, metric: str | None) -> tuple[StudyRecord, StudyResult]:
    """The study with its result, by ``metric`` if that is not the one that it was planned with."""
    from bnexp.comparison.conclude import conclude, conclude_by, read_by

    if metric is not None and metric != record.study.metric:
        return read_by(record, metric), conclude_by(record, metric, store)
    result = conclude(record, store)
    record.save_verdict(result, again=True)
    return record, result


def _print(results: Sequence[StudyResult], names: Sequence[str], format: Format) -> None:
    """The answer of each study, or the data behind them."""
    from bnexp.comparison.tables import decided_and_measured

    if format is Format.json:
        print_json([result.to_dict() for result in results])
    elif format is Format.csv:
        rows = [{"study": name} | asdict(c) for name, result in zip(names, results, strict=True) for c in result.comparisons]
        print_rows(rows, format)
    elif format is Format.md:
        rows = [
            {"study": name, **row}
            for name, result in zip(names, results, strict=True)
            for group in decided_and_measured(result)
            for row in group
        ]
        print_rows(rows, format)
    else:
        pairs = zip(names, results, strict=True)
        print_rows([{"study": name, "verdict": r.verdict.value, "answer": r.answer} for name, r in pairs], format)
