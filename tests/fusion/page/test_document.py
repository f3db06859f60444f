"""The page, its sections and what is in them."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging.metrics import Scores
from cer_fusion.fusion.page import Explorer, Picture, Section, page_html, write_page
from cer_fusion.fusion.page.document import escape, json_html, matrix_html, picture_html, table_html
from cer_fusion.fusion.page.figures import new_figure
from cer_fusion.kit.table import Cell, Table

EVIL = "</script><script>alert(1)</script><img src=x onerror='alert(2)'>\" onload=\"alert(3)"


class Tags(HTMLParser):
    """The elements of a page with their attributes, as a parser that follows HTML's rules sees them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def drawn(title: str) -> Picture:
    figure = new_figure(2, 2)
    panel = figure.subplots()
    panel.plot([0, 1], [0, 1])
    panel.set_title(title)
    return Picture.of(figure, caption=title)


def evil_section(members) -> Section:
    confusion = np.arange(16).reshape(4, 4)
    table = Table(title=EVIL, header=("a", EVIL), rows=((Cell(EVIL), Cell(EVIL, 1.0, 0.5, 1.5)),), notes=(EVIL,))
    return Section(
        title=EVIL,
        prose=(EVIL,),
        tables=(table,),
        pictures=(drawn(EVIL),),
        matrices=((EVIL, Scores(classes=(EVIL, "b", "c", "d"), confusion=confusion)),),
        facts=((EVIL, EVIL),),
        explorer=Explorer(members=members),
    )


def test_whatever_a_text_holds_it_adds_no_element_and_no_handler(members):
    html = page_html(EVIL, [evil_section(members)], subtitle=EVIL)
    tame = page_html("x", [replace(evil_section(members), title="x")])
    tags = Tags(html).found
    assert [tag for tag, _ in tags].count("script") == [tag for tag, _ in Tags(tame).found].count("script") == 5
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert "img" not in {tag for tag, _ in tags}


def test_the_page_points_nowhere_outside_itself(members):
    tags = Tags(page_html("x", [evil_section(members)])).found
    pointers = [value for _, found in tags for name, value in found.items() if name in ("href", "src", "xlink:href")]
    assert all(value is not None and value.startswith(("#", "data:")) for value in pointers)
    policy = next(found["content"] for _, found in tags if found.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.partition("style-src")[0]
    assert "http" not in policy


def test_equal_sections_make_equal_pages_and_no_script_where_there_is_no_explorer():
    pages = {page_html("x", [Section(title="Results", pictures=(drawn("a"),))]) for _ in range(2)}
    assert len(pages) == 1
    (html,) = pages
    assert "script-src 'none'" in html.replace("&#x27;", "'")
    assert "<script" not in html


def test_sections_of_one_title_have_addresses_of_their_own():
    html = page_html("x", [Section(title="Results"), Section(title="Results"), Section(title="–")])
    assert re.findall(r'<section id="(.*?)"', html) == ["results", "results-2", "section"]
    assert re.findall(r'<a href="#(.*?)">', html)[:3] == ["results", "results-2", "section"]


def test_a_page_needs_a_section_at_most_one_explorer_and_a_name_that_ends_in_html(members, tmp_path):
    explorer = Section(title="Mix", explorer=Explorer(members=members))
    with pytest.raises(ReportError, match="at most one explorer, however: 2 and 2"):
        page_html("x", [explorer, explorer])
    with pytest.raises(ReportError, match="needs sections"):
        page_html("x", [])
    with pytest.raises(ReportError, match=r"must end in \.html"):
        write_page(tmp_path / "report.pdf", "x", [explorer])
    assert write_page(tmp_path / "deep" / "report.html", "x", [explorer]).read_bytes().startswith(b"<!DOCTYPE html>")


def test_json_inside_a_page_cannot_end_its_element_and_reads_back():
    html = json_html({"a": EVIL, "b": [1.5]}, id="data")
    assert html.count("<") == 2
    assert "\\u003c/script\\u003e" in html


def test_a_table_keeps_its_best_cells_rules_intervals_and_notes():
    rows = ((Cell("a"), Cell("75.00 [70.0, 80.0]", 75.0, 70.0, 80.0, best=True)), (Cell("b"), Cell("1")))
    html = table_html(Table(title="T", header=("Class", "mlp"), rows=rows, notes=("n = 3",), rules=(1,)))
    assert '<td class="best">75.00 <small>[70.0, 80.0]</small></td>' in html
    assert '<tr class="ruled"><th scope="row">b</th>' in html
    assert "<caption>T</caption>" in html
    assert "<li>n = 3</li>" in html


def test_a_matrix_gives_shares_of_the_true_class_and_counts_and_blanks_a_class_without_rows():
    html = matrix_html("late", Scores(classes=("a", "b", "c"), confusion=np.array([[3, 1, 0], [0, 0, 0], [0, 1, 1]])))
    assert '<td class="right" style="--share:75.0">75<small>3</small></td>' in html
    assert '<td class="none" style="--share:0.0">0<small>0</small></td>' in html
    assert html.count("<td>–</td>") == 3
    assert "accuracy 66.7 %" in html


def test_a_picture_takes_the_pages_colours_and_ids_of_its_own():
    html = picture_html(drawn("a $x$ < b"), "results-0")
    assert "fill: var(--card)" in html
    assert "#ffffff" not in html
    assert "a $x$ &lt; b" in html
    ids = re.findall(r' id="(.*?)"', html)
    assert all(name.startswith("results-0-") for name in ids)
    assert set(re.findall(r"url\(#(.*?)\)", html)) <= set(ids)


@pytest.mark.parametrize(
    "svg",
    [
        "<script>alert(1)</script>",
        '<g onclick="alert(1)"/>',
        "<foreignObject/>",
        '<use href="https://example.org/x.svg#a"/>',
        '<image xmlns:xlink="http://www.w3.org/1999/xlink" xlink:href="file:///etc/passwd"/>',
        '<a href="javascript:alert(1)"/>',
    ],
)
def test_a_picture_that_is_more_than_a_drawing_is_refused(svg):
    picture = Picture(svg=f'<svg xmlns="http://www.w3.org/2000/svg">{svg}</svg>', caption="x")
    with pytest.raises(ReportError, match="a picture may"):
        picture_html(picture, "p")


def test_an_explorer_refuses_one_member_too_many_bytes_and_weights_that_weigh_nothing(members):
    one = replace(members, names=("vit",), proba=members.proba[:1])
    with pytest.raises(ReportError, match="two members or more, however: 1"):
        Explorer(members=one)
    with pytest.raises(ReportError, match="not all 0"):
        Explorer(members=members, presets={"none": (0.0, 0.0, 0.0)})
    many = replace(
        members, y=np.zeros(2_000_000, np.int64), proba=np.broadcast_to(members.proba[:, :1], (3, 2_000_000, 4))
    )
    with pytest.raises(ReportError, match="96 MB of probabilities, more than 60"):
        Explorer(members=many)


def test_text_is_escaped_for_content_and_attributes():
    assert escape("<a href=\"x\" id='y'>&") == "&lt;a href=&quot;x&quot; id=&#x27;y&#x27;&gt;&amp;"
