"""Reports of synthetic studies, built once a session."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from made_reports import STUDIES, make_report

from bnexp.report.sections import Report


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Report]:
    """Name of a synthetic study -> its report, built once."""
    made: dict[str, Report] = {}

    def get(name: str) -> Report:
        if name not in made:
            made[name] = make_report(STUDIES[name](), tmp_path_factory.mktemp(name))
        return made[name]

    return get
