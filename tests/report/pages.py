"""Pages of reports and books: their elements and text, and what a real browser makes of them where there is one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import made_reports
import pytest

from bnexp.config.schema import Published, ShowConfig

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--virtual-time-budget=20000"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
]
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
HOSTILE = "</script><script>document.documentElement.dataset.pwned=1</script><img src=x onerror=alert(1)>'\"&{{7*7}}"


class Page(HTMLParser):
    """All elements with their attributes, and the text outside scripts and styles, in which every space is a plain one."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._raw = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._raw = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._raw = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._raw else data.replace("\u00a0", " ")

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [a for t, a in self.elements if t == tag and all(a.get(k.replace("_", "-")) == v for k, v in wanted.items())]


def browse(path: Path, profile: Path, fragment: str = "", flags: Sequence[str] = ()) -> tuple[Page, str]:
    """The page as the browser made it, and what it wrote to the console.

    Args:
        path: of the page.
        profile: folder of the browser.
        fragment: what its address ends with.
        flags: more flags of the browser.
    """
    assert CHROMIUM
    command = [CHROMIUM, *FLAGS, *flags, f"--user-data-dir={profile}", "--dump-dom", path.as_uri() + fragment]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return Page(done.stdout), "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


def drawn(html: str, folder: Path) -> Page:
    """The page as the browser draws it: every chart, no word on the console, nothing of a hostile text carried out."""
    path = folder / "page.html"
    path.write_text(html, encoding="utf-8")
    page, console = browse(path, folder / "profile")
    assert console == ""
    charts = [a for a in page.all("div") if "data-spec" in a]
    assert charts
    assert all("data-drawn" in a for a in charts)
    assert "data-pwned" not in page.all("html")[0]
    return page


def hostile_study() -> made_reports.Synthetic:
    plan = made_reports.batchnorm()
    study = plan.study
    plan.classes = [f"{k}{HOSTILE}" for k in range(10)]
    study.question = study.claim = HOSTILE
    study.sources = [HOSTILE]
    study.arms = {HOSTILE: [f"norm={HOSTILE}"], "b]['.$%": ["norm=batch"]}
    study.factors = {"optim.lr" + HOSTILE: [0.1, 0.2]}
    study.baseline = HOSTILE
    study.seeds = 3
    study.show = ShowConfig(published={HOSTILE: Published(source=HOSTILE, note=HOSTILE)}, errata=[HOSTILE])

    def configure(config: Any, arm: str, levels: dict[str, Any]) -> None:
        config.norm.eps = 1e-5 if arm == HOSTILE else 1e-3
        config.data.root = HOSTILE
        config.optim.lr = next(iter(levels.values()))

    plan.configure, plan.failed = configure, {(HOSTILE, 2)}
    return plan
