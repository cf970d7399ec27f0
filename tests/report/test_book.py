"""The book of claims: complete and escaped as HTML and as Markdown, and drawn in a real browser where there is one."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import escape
from pathlib import Path

import made_reports
import pytest
from pages import HOSTILE, Page, browse, drawn, hostile_study, needs_browser

from bnexp.comparison.result import StudyResult, Verdict
from bnexp.config.options import THEMES
from bnexp.config.schema import Published, ShowConfig
from bnexp.plan import compose
from bnexp.plan.session import groups
from bnexp.report import book, markdown
from bnexp.report.book import Book
from bnexp.report.claims import Claim, Contents, arrange, tell
from bnexp.report.published import references
from bnexp.report.published import told as told_findings
from bnexp.tracking.store import Store

STUDIES = groups()["study"]


def told(plan: made_reports.Synthetic, root: Path) -> Claim:
    """What the book says of a synthetic study."""
    result, store = made_reports.record(plan, root)
    return tell(made_reports.study_record(plan, result, root, [f"study.name={HOSTILE}"]), result, store, root / "book")


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Claim]:
    found = {}
    themes = {"placement": "layer design", "conv_bias": "layer design", "learning_rate": "robustness", "batchnorm": "accuracy"}
    for name, theme in themes.items():
        plan = made_reports.STUDIES[name]()
        plan.study.theme = theme
        found[name] = told(plan, tmp_path_factory.mktemp(name))
    plan = hostile_study()
    plan.study.name, plan.study.theme = "hostile", HOSTILE
    return found | {"hostile": told(plan, tmp_path_factory.mktemp("hostile"))}


@pytest.fixture(scope="module")
def made_book() -> Book:
    return Book([f"data.root={HOSTILE}"], missing={"absent": HOSTILE}, folder=Path("book-0"))


@pytest.fixture(scope="module")
def contents(claims: dict[str, Claim]) -> Contents:
    return arrange(claims.values())


@pytest.fixture(scope="module")
def html(made_book: Book, contents: Contents) -> str:
    return book.render(made_book, contents)


def test_each_claim_stands_with_source_setting_verdict_effect_and_command(claims: dict[str, Claim], html: str) -> None:
    page = Page(html)
    for name, claim in claims.items():
        assert claim.claim in page.text
        assert claim.sources in page.text
        assert claim.result.answer in page.text
        assert claim.command in page.text
        assert page.all("div", id=f"study-{name}")
        assert page.all("a", href=f"#study-{name}")
        assert claim.lead
        assert claim.lead.effect in page.text
    batchnorm = claims["batchnorm"]
    assert batchnorm.runs == "20 runs, 19 finished, 1 failed"
    assert batchnorm.setting["training images"] == "all"
    assert claims["learning_rate"].setting["learning rate"] == "varied"
    assert "diverged" in claims["learning_rate"].runs


def test_a_study_with_a_factor_shows_it_and_others_their_differences(claims: dict[str, Claim]) -> None:
    assert [figure.id for figure in claims["learning_rate"].figures] == ["learning_rate-factor-0"]
    assert [figure.id for figure in claims["placement"].figures] == ["placement-difference-0"]
    curves = ["batchnorm-curve-train-loss", "batchnorm-curve-val-accuracy"]
    assert [figure.id for figure in claims["batchnorm"].figures] == [
        "batchnorm-difference-0",
        *curves,
        "batchnorm-reliability",
    ]


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


def test_hostile_strings_stay_text_in_markdown(contents: Contents, made_book: Book) -> None:
    text = markdown.render(made_book.command, contents, made_book.missing)
    outside_code = re.sub(r"(`+).*?\1", "", re.sub(r"\\.", "", text))
    own_tags = re.sub(r'<a id="\w+"></a>', "", outside_code)
    assert "<" not in own_tags
    tables = re.findall(r"(?:^\|.*\n)+", re.sub(r"\\.", "", text), re.M)
    measured = [claim for claim in contents.claims if claim.measured]
    told = [claim for claim in contents.claims if claim.published]
    assert len(tables) == len(contents.themes) + len(contents.claims) + len(measured) + len(told)
    assert all(len({line.count("|") for line in table.splitlines()}) == 1 for table in tables)
    assert "{{7" in re.sub(r"\\", "", text)


def test_studies_that_could_not_be_told_are_named_with_the_reason(claims: dict[str, Claim]) -> None:
    text = markdown.render("bnexp report --book", arrange([claims["placement"]]), {"absent": "it is damaged"})
    assert "\n## Not in this book\n\n- absent: it is damaged\n" in text
    assert "Not in this book" not in markdown.render("bnexp report --book", arrange([claims["placement"]]), {})


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


def test_reference_values_stand_beside_those_of_the_same_data(claims: dict[str, Claim]) -> None:
    show = compose.compose(["study=batchnorm"]).study.show
    result = _at_reference(claims["batchnorm"].result)
    assert _references(result, show) == {"none": 61.7, "after_pool": 64.3}
    without = _at_reference(result, **{"optim.momentum": "0.0"})
    assert _references(without, show) == {"none": 51.0, "after_pool": 62.9}
    assert _references(_at_reference(result, **{"data.name": "svhn"}), show) == {}
    assert _references(replace(result, metric="test/loss"), show) == {}
    claim = replace(claims["batchnorm"], references=references(result, show))
    page = Page(book.render(Book([], folder=Path("book-0")), arrange([claim])))
    assert "59 to 64" in page.text
    assert "outside" in page.text  # the synthetic accuracies are those of MNIST
    assert "59 to 64" in markdown.render("", arrange([claim]), {})


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("optim.lr", "0.1", "optim.lr 0.01 (here 0.1)"),
        ("train.epochs", "5", "train.epochs 10 (here 5)"),
        ("data.train_size", "2000", "data.train_size all (here 2000)"),
    ],
)
def test_reference_values_at_other_settings_say_what_differs_and_expect_nothing(
    claims: dict[str, Claim], key: str, value: str, said: str
) -> None:
    show = compose.compose(["study=batchnorm"]).study.show
    result = _at_reference(claims["batchnorm"].result, **{key: value})
    (table,) = references(result, show)
    assert table.differs == said
    assert [(row.reference.value, row.expected, row.outside) for row in table.rows] == [(61.7, "–", False), (64.3, "–", False)]
    claim = replace(claims["batchnorm"], references=[table])
    page = Page(book.render(Book([], folder=Path("book-0")), arrange([claim])))
    assert f"Found at other settings: {said}." in page.text
    assert markdown.escape(said) in markdown.render("", arrange([claim]), {})
    varied = _at_reference(result)
    del varied.settings["optim.lr"]
    assert references(varied, show)[0].differs == "optim.lr 0.01 (here varied)"


def test_what_others_found_stands_beside_what_was_found_here(claims: dict[str, Claim]) -> None:
    entry = Published(source="Ioffe 2015", note="2.3 times fewer steps", differs="Inception on ImageNet")
    (row,) = told_findings(claims["batchnorm"].result, ShowConfig(published={"inception": entry}))
    assert row.here.startswith("after_pool is ")
    page = Page(book.render(Book([], folder=Path("book-0")), arrange([replace(claims["batchnorm"], published=[row])])))
    for text in ("Ioffe 2015", "2.3 times fewer steps", row.here, "Inception on ImageNet"):
        assert text in page.text
        assert markdown.escape(text) in markdown.render("", arrange([replace(claims["batchnorm"], published=[row])]), {})


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


def test_themes_come_in_their_order_a_users_own_after_them(contents: Contents, html: str) -> None:
    assert list(contents.themes) == ["accuracy", "robustness", "layer design", HOSTILE]
    assert [claim.name for claim in contents.themes["layer design"]] == ["conv_bias", "placement"]
    assert [a["data-theme"] for a in Page(html).all("tbody") if "data-theme" in a] == list(contents.themes)


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_file_has_a_theme(name: str) -> None:
    assert compose.compose([f"study={name}"]).study.theme in THEMES


def test_the_leading_effect_has_a_unit_and_says_what_is_compared(claims: dict[str, Claim]) -> None:
    lead = claims["batchnorm"].lead
    assert lead
    assert re.fullmatch(r"\+0\.\d\d pp \[0\.\d\d, 0\.\d\d\]", lead.effect)
    assert (lead.about, lead.n) == ("after_pool − none, test/accuracy", 9)


def test_the_book_says_how_many_verdicts_are_wrong_by_chance(contents: Contents, html: str) -> None:
    page, text = Page(html), markdown.render("", contents, {})
    assert contents.wrong_verdicts.startswith("4 claims were tested, each with a risk of at most 5\u00a0% of a wrong verdict")
    assert "up to 0.2 wrong ones, here among 4 verdicts" in contents.wrong_verdicts
    assert contents.wrong_verdicts.replace("\u00a0", " ") in page.text
    assert "up to 0.2 wrong ones" in text
    q = {claim.name: claim.q for claim in contents.claims}
    assert q["hostile"] is None  # three seeds
    assert 0 < (q["batchnorm"] or 0) < 0.05


@pytest.mark.parametrize(
    ("verdicts", "sentence"),
    [
        ([], "No claim has a verdict: a verdict needs at least six seeds."),
        ([Verdict.INCONCLUSIVE], "1 claim was tested, and none is settled."),
        ([Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE], "2 claims were tested, and none is settled."),
    ],
)
def test_a_book_without_verdicts_says_so(claims: dict[str, Claim], verdicts: list[Verdict], sentence: str) -> None:
    claim = claims["batchnorm"]
    assert arrange(replace(claim, result=replace(claim.result, verdict=v)) for v in verdicts).wrong_verdicts == sentence


def test_a_claim_names_the_settings_in_which_it_differs_from_most(claims: dict[str, Claim]) -> None:
    claim = claims["batchnorm"]
    other = replace(claim, setting=claim.setting | {"data": "cifar10", "epochs": "5"})
    found = arrange([claim, claim, other])
    assert found.usual == claim.setting
    assert [found.own_setting(one) for one in found.claims] == ["", "", "data cifar10, epochs 5"]


def test_what_was_also_measured_stands_apart_from_what_decides(claims: dict[str, Claim], made_book: Book) -> None:
    claim = claims["placement"]
    other = replace(claim, deciding=claim.deciding[:1], measured=[{"arm": "a", "difference": "+0.10 pp"}] * 7)
    page, text = book.render(made_book, arrange([other])), markdown.render("", arrange([other]), {})
    assert page.index("What decides") < page.index("<summary>Also measured (7)") < page.index("estimates without a verdict")
    assert text.index("SUPPORTED") < text.index("Also measured, without a verdict:") < text.index("0.10 pp")


def test_a_claim_links_to_its_report_if_there_is_one(tmp_path: Path, made_book: Book) -> None:
    plan = made_reports.batchnorm()
    without = told(plan, tmp_path)
    assert "bnexp report batchnorm-5f0c3a1b9d24" in Page(book.render(made_book, arrange([without]))).text
    (tmp_path / "study-1").mkdir(exist_ok=True)
    (tmp_path / "study-1" / "report.html").touch()
    claim = told(plan, tmp_path)
    assert Page(book.render(made_book, arrange([claim]))).all("a", href="../study-1/report.html")
    assert "](../study-1/report.html)" in markdown.render("", arrange([claim]), {})


@needs_browser
def test_a_link_opens_one_claim_and_draws_its_charts_alone(html: str, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(html, encoding="utf-8")
    page, console = browse(path, tmp_path / "profile", "#study-placement")
    assert console == ""
    assert [a["data-claim"] for a in page.all("details") if "data-claim" in a and "open" in a] == ["placement"]
    assert [a["data-spec"] for a in page.all("div") if "data-drawn" in a] == ["placement-difference-0"]


@needs_browser
def test_every_opened_claim_draws_every_chart_without_errors_or_network(html: str, tmp_path: Path) -> None:
    page = drawn(html.replace('<details class="claim"', '<details open class="claim"'), tmp_path)
    assert len([a for a in page.all("div") if "data-spec" in a]) >= 5


ON_A_PHONE = """<iframe style="width: 390px; height: 800px" srcdoc="{page}"></iframe>
<script>
onload = () => {{
  const page = document.querySelector("iframe").contentDocument, said = document.documentElement.dataset;
  const all = [...page.querySelectorAll("tr[data-claim]")];
  const rows = () => all.filter((row) => row.offsetHeight).map((row) => row.dataset.claim);
  const form = page.getElementById("claim-filter");
  const ask = (name, value) => {{
    form.reset();
    form.elements[name].value = value;
    form.dispatchEvent(new Event("input"));
    return rows();
  }};
  said.filtered = JSON.stringify([ask("text", "REDUNDANT bias"), ask("verdict", "SUPPORTED"), ask("theme", "layer design")]);
  ask("text", "");
  page.getElementById("open-all").click();
  said.open = page.querySelectorAll("details.claim[open]").length;
  said.width = page.documentElement.scrollWidth;
}};
</script>"""


@needs_browser
def test_the_page_is_filtered_and_fits_a_phone(html: str, contents: Contents, tmp_path: Path) -> None:
    path = tmp_path / "phone.html"
    path.write_text(ON_A_PHONE.format(page=escape(html)), encoding="utf-8")
    page, console = browse(path, tmp_path / "profile")
    assert console == ""
    said = page.all("html")[0]
    supported = [claim.name for claim in contents.claims if claim.result.verdict is Verdict.SUPPORTED]
    assert json.loads(said["data-filtered"] or "") == [["conv_bias"], supported, ["conv_bias", "placement"]]
    assert said["data-open"] == str(len(contents.claims))
    assert int(said["data-width"] or 0) <= 390
