"""``bnexp report --wandb``: sends what W&B lacks of the studies, and makes their report and workspaces there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from bnexp.cli.output import FAILED, message, sentence, stderr

if TYPE_CHECKING:
    from bnexp.comparison.record import StudyRecord
    from bnexp.comparison.result import StudyResult
    from bnexp.tracking.store import Store


class Dashboards:
    """The W&B report of some studies, and a workspace of the runs of each.

    Args:
        studies: records, each with the store of its runs.

    Raises:
        ConfigError: no W&B report can be made here, which is found out before anything is written.
    """

    def __init__(self, studies: Sequence[tuple[StudyRecord, Store]]) -> None:
        from bnexp.report.wandb_report import logging_of

        self._studies = [(record, store, logging_of(record, store)) for record, store in studies]

    def make(self, results: Sequence[StudyResult]) -> list[dict[str, str]]:
        """Send the runs that W&B lacks, make the report and the workspaces, and print where they are.

        Args:
            results: of the studies, in their order.

        Returns:
            Of each study the addresses of its ``report`` and ``workspace``.

        Raises:
            Exit: the server refused, or could not be reached.
        """
        from bnexp.comparison.recorded import label
        from bnexp.report.wandb_report import NotTaken, Study, make

        found = [
            Study(record, result, store, logging)
            for (record, store, logging), result in zip(self._studies, results, strict=True)
        ]
        with stderr().status("sending to W&B"):
            try:
                links = make(found)
            except NotTaken as problem:
                sentence(f"Error: {problem}")
                raise typer.Exit(FAILED) from problem
        for line in links.notes:
            message(line)
        for (record, _, _), url in zip(self._studies, links.workspaces, strict=True):
            which = f" of {label(record.folder)}" if len(found) > 1 else ""
            message(f"W&B workspace{which}: {url}")
        message(f"W&B report: {links.report}")
        return [{"report": links.report, "workspace": url} for url in links.workspaces]
