"""The book of claims: complete and escaped as HTML and as Markdown, and drawn in a real browser where there is one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import made_reports
import pytest
from pages import HOSTILE, Page, drawn, hostile_study, needs_browser

from bnexp.comparison.result import StudyResult, Verdict
from bnexp.config.schema import ShowConfig
from bnexp.plan import compose
from bnexp.report import book, markdown
from bnexp.report.book import Book
from bnexp.report.claims import Claim, tell
from bnexp.report.published import references
from bnexp.tracking.store import Store


def told(plan: made_reports.Synthetic, root: Path) -> Claim:
    """What the book says of a synthetic study."""
    result, store = made_reports.record(plan, root)
    return tell(made_reports.study_record(plan, result, root, [f"study.name={HOSTILE}"]), result, store)


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Claim]:
    made = ("batchnorm", "placement", "learning_rate", "conv_bias")
    found = {name: told(made_reports.STUDIES[name](), tmp_path_factory.mktemp(name)) for name in made}
    plan = hostile_study()
    plan.study.name = "hostile"
    return found | {"hostile": told(plan, tmp_path_factory.mktemp("hostile"))}


@pytest.fixture(scope="module")
def made_book() -> Book:
    return Book([f"data.root={HOSTILE}"], missing={"absent": HOSTILE}, folder=Path("book-0"))


@pytest.fixture(scope="module")
def html(made_book: Book, claims: dict[str, Claim]) -> str:
    return book.render(made_book, list(claims.values()))


def test_each_claim_stands_with_source_setting_verdict_effect_and_command(claims: dict[str, Claim], html: str) -> None:
    page = Page(html)
    for name, claim in claims.items():
        assert claim.claim in page.text
        assert claim.sources in page.text
        assert claim.result.answer in page.text
        assert claim.command in page.text
        assert page.all("section", id=f"study-{name}")
        assert page.all("a", href=f"#study-{name}")
        assert claim.lead in claim.rows
    batchnorm = claims["batchnorm"]
    assert batchnorm.runs == "20 runs, 19 finished, 1 failed"
    assert batchnorm.setting["training images"] == "all"
    assert claims["learning_rate"].setting["learning rate"] == "varied"
    assert "diverged" in claims["learning_rate"].runs


def test_a_study_with_a_factor_shows_it_and_others_their_differences(claims: dict[str, Claim]) -> None:
    assert [figure.id for figure in claims["learning_rate"].figures] == ["learning_rate-factor-0"]
    assert [figure.id for figure in claims["placement"].figures] == ["placement-difference-0"]
    curves = ["batchnorm-curve-train-loss", "batchnorm-curve-val-accuracy"]
    assert [figure.id for figure in claims["batchnorm"].figures] == ["batchnorm-difference-0", *curves]


def test_hostile_strings_stay_text_on_the_page(html: str) -> None:
    page = Page(html)
    assert "document.documentElement.dataset.pwned=1</script>" not in html
    assert not [a for _, a in page.elements if "onerror" in a]
    assert len([a for a in page.all("script") if a.get("type") != "application/json"]) == 2
    assert HOSTILE in page.text
    for tag, attributes in page.elements:
        for key in ("src", "href"):
            value = attributes.get(key) or "#"
            assert value.startswith(("#", "data:image/png;base64,")), f"<{tag} {key}={value[:60]}>"
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))


def test_hostile_strings_stay_text_in_markdown(claims: dict[str, Claim], made_book: Book) -> None:
    text = markdown.render(made_book.command, list(claims.values()), made_book.missing)
    outside_code = re.sub(r"(`+).*?\1", "", re.sub(r"\\.", "", text))
    own_tags = re.sub(r'<a id="\w+"></a>', "", outside_code)
    assert "<" not in own_tags
    tables = re.findall(r"(?:^\|.*\n)+", re.sub(r"\\.", "", text), re.M)
    assert len(tables) == 1 + len(claims)
    assert all(len({line.count("|") for line in table.splitlines()}) == 1 for table in tables)
    assert "{{7" in re.sub(r"\\", "", text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a|b", r"a\|b"), ("<b>", r"\<b\>"), ("*x*_y_", r"\*x\*\_y\_"), ("two\nlines", "two lines"), ("p < .05", r"p \< .05")],
)
def test_markdown_escapes_what_has_a_meaning(text: str, shown: str) -> None:
    assert markdown.escape(text) == shown


def test_code_keeps_backticks_inside() -> None:
    assert markdown.code("a b") == "`a b`"
    assert markdown.code("a ` b") == "`` a ` b ``"


def _at_reference(result: StudyResult, **settings: str) -> StudyResult:
    fitting = {
        "data.name": "cifar10",
        "model.name": "lenet",
        "optim.name": "sgd",
        "optim.lr": "0.01",
        "optim.momentum": "0.9",
        "train.batch_size": "64",
        "train.epochs": "10",
    }
    return replace(result, settings=fitting | settings)


def _references(result: StudyResult, show: ShowConfig) -> dict[str, float]:
    return {row.arm.arm: row.reference.value for table in references(result, show) for row in table.rows}


def test_reference_values_stand_beside_matching_settings_only(claims: dict[str, Claim]) -> None:
    show = compose.compose(["study=batchnorm"]).study.show
    result = _at_reference(claims["batchnorm"].result)
    assert _references(result, show) == {"none": 61.7, "after_pool": 64.3}
    without = _at_reference(result, **{"optim.momentum": "0.0"})
    assert _references(without, show) == {"none": 51.0, "after_pool": 62.9}
    for key, value in (("optim.lr", "0.1"), ("train.epochs", "5"), ("data.train_size", "2000"), ("data.name", "svhn")):
        assert _references(_at_reference(result, **{key: value}), show) == {}
    varied = _at_reference(result)
    del varied.settings["optim.lr"]
    assert _references(varied, show) == {}
    assert _references(replace(result, metric="test/loss"), show) == {}
    claim = replace(claims["batchnorm"], references=references(result, show))
    page = Page(book.render(Book([], folder=Path("book-0")), [claim]))
    assert "59 to 64" in page.text
    assert "outside" in page.text  # the synthetic accuracies are those of MNIST
    assert "59 to 64" in markdown.render("", [claim], {})


def test_the_summary_counts_verdicts(claims: dict[str, Claim], html: str) -> None:
    text = " ".join(re.sub(r"<[^>]*>", " ", html.split("<dl")[1]).split())
    for verdict in {claim.result.verdict for claim in claims.values()}:
        number = sum(claim.result.verdict is verdict for claim in claims.values())
        assert f"{verdict.lower()} {number} " in text
    assert claims["batchnorm"].result.verdict is Verdict.SUPPORTED


def test_a_book_has_one_id_whatever_the_order_of_overrides(tmp_path: Path) -> None:
    store = Store(tmp_path)
    ids = [book.planned(overrides, store).id for overrides in (["a=1", "b=2"], ["b=2", "a=1"], ["a=1"])]
    assert ids[0] == ids[1] != ids[2]


@needs_browser
def test_the_page_draws_every_chart_without_errors_or_network(html: str, tmp_path: Path) -> None:
    page = drawn(html, tmp_path)
    assert len([a for a in page.all("div") if "data-spec" in a]) >= 5
