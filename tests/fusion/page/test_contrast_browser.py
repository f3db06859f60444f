"""Every text of a page against the pixels under its letters, in both schemes. Skipped where there is no browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cer_fusion.fusion.judging.comparison import Members
from cer_fusion.fusion.judging.metrics import Scores
from cer_fusion.fusion.page import Explorer, Picture, Section, write_page
from cer_fusion.fusion.page.colours import READABLE, contrast
from cer_fusion.kit.table import Cell, Table
from tests.fusion.page.browsing import IN_A_BROWSER, pictured, seen_at, surveyed
from tests.fusion.page.test_colours import FIGURES

pytestmark = [*IN_A_BROWSER, pytest.mark.slow]

SHARES = (0, 1, 20, 40, 56, 60, 61, 64, 70, 80, 92, 93, 100)


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory) -> Path:
    """All that a page can hold: text of every kind, cells of every shade."""
    k = len(SHARES)
    confusion = np.zeros((k, k), np.int64)
    for c, share in enumerate(SHARES):
        confusion[c, c] += share
        confusion[c, (c + 1) % k] += 100 - share
    confusion[0] = 0  # a class without rows
    scores = Scores(classes=tuple(f"class_{share}" for share in SHARES), confusion=confusion)
    rng, y = np.random.default_rng(0), np.repeat(np.arange(4), 25)
    proba = rng.dirichlet(np.ones(4), (3, 100)) + np.eye(4)[y] * 0.4
    proba /= proba.sum(axis=2, keepdims=True)
    members = Members(names=("vit", "manet.multi_scale", "resnet50"), classes=("a", "b", "c", "d"), proba=proba, y=y)
    row = (
        Cell("Accuracy (%)"),
        Cell("75.00 [70.0, 80.0]", 75.0, 70.0, 80.0, best=True),
        Cell("70.00 [65.0, 75.0]", 70.0, 65.0, 75.0),
    )
    table = Table(
        title="Heads compared", header=("Class", "mlp", "late"), rows=(row, row), notes=("A note.",), rules=(1,)
    )
    sections = [
        Section(title="Results", prose=("Words.",), tables=(table,), facts=(("report", "f" * 64), ("head", "late"))),
        Section(title="Mix", explorer=Explorer(members=members, presets={"chosen": (0.5, 0.3, 0.2)})),
        Section(title="Matrices", matrices=(("late", scores),)),
        Section(
            title="Pictures",
            pictures=tuple(Picture.of(FIGURES[name](), name) for name in ("confusion", "cka", "triangle", "line")),
        ),
    ]
    return write_page(tmp_path_factory.mktemp("page") / "report.html", "A report", sections, subtitle="100 test rows")


TEXTS = """
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
function rgb(colour) {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
}
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
while (walker.nextNode()) {
  const node = walker.currentNode, of = node.parentElement, style = getComputedStyle(of);
  if (!node.data.trim() || of.closest("script, noscript, .spoken, .skip") || style.visibility !== "visible") continue;
  const range = document.createRange();
  range.selectNodeContents(node);
  let opacity = 1;
  for (let at = of; at; at = at.parentElement) opacity *= getComputedStyle(at).opacity;
  const colour = rgb(of instanceof SVGElement ? style.fill : style.color);
  for (const box of range.getClientRects()) {
    const under = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    const shown = under && (under === of || of.contains(under) || under.contains(of));
    if (!box.width || !shown) continue;
    const place = [box.left, box.top, box.right, box.bottom];
    found.push([node.data.trim(), place, colour.slice(0, 3), opacity * colour[3] / 255]);
  }
}
return found;
"""

PAINT = """
let style = document.getElementById("painted");
if (!style) style = Object.assign(document.createElement("style"), { id: "painted" });
document.head.append(style);
const paint = `${arguments[0]} !important`;
style.textContent = arguments[0] && `* { color: ${paint} } svg text, svg tspan { fill: ${paint} }`;
"""


def contrasts(browser: Any) -> list[tuple[str, float]]:
    """Every text that is seen, and the contrast of its colour with the worst pixel under its letters."""
    texts = browser.execute_script(TEXTS)
    browser.execute_script(PAINT, "#ff00ff")
    coloured = pictured(browser).astype(np.int64)
    browser.execute_script(PAINT, "transparent")
    bare = pictured(browser).astype(np.int64)
    browser.execute_script(PAINT, "")
    found = []
    for text, (left, top, right, bottom), colour, opacity in texts:
        place = np.s_[max(0, int(top)) : int(bottom) + 1, max(0, int(left)) : int(right) + 1]
        letters = np.abs(coloured[place] - bare[place]).sum(axis=2) > 60
        grounds = np.unique(bare[place][letters], axis=0) / 255
        assert len(grounds), f"nothing is seen of {text!r}"
        ratios = (
            contrast(tuple(opacity * np.array(colour) / 255 + (1 - opacity) * one), tuple(one)) for one in grounds
        )
        found.append((text, min(ratios)))
    return found


@pytest.mark.parametrize(
    ("scheme", "state"),
    [(scheme, state) for scheme in ("light", "dark") for state in ("at rest", "pointed at")]
    + [("dark", "nothing mixed"), ("printed", "at rest")],
)
def test_every_text_of_a_page_has_a_contrast_of_4_5_or_more(browser, page, scheme, state):
    seen_at(browser, 1000, scheme)
    browser.get(page.as_uri())
    surveyed(browser, "geometric")
    seen_at(browser, 1000, scheme, height=browser.execute_script("return document.documentElement.scrollHeight"))
    if state == "nothing mixed":
        browser.execute_script(
            "for (const one of document.querySelectorAll('[type=range]'))"
            " one.value = 0, one.dispatchEvent(new Event('input'))"
        )
    if state == "pointed at":
        _point_at_everything(browser)
    found = contrasts(browser)
    words = " ".join(text for text, _ in found)
    for kind in ("Accuracy (%)", "A note.", "[65.0, 75.0]", "class 56", "f" * 64, "multi_", "predicted class"):
        assert kind in words
    assert {text: round(ratio, 2) for text, ratio in found if ratio < READABLE} == {}


def _point_at_everything(browser: Any) -> None:
    """Put all whose text reacts to the mouse into the state in which it is pointed at."""
    root = browser.execute_cdp_cmd("DOM.getDocument", {"depth": 0})["root"]["nodeId"]
    browser.execute_cdp_cmd("CSS.enable", {})
    wanted = {"nodeId": root, "selector": "tr, a, button"}
    for node in browser.execute_cdp_cmd("DOM.querySelectorAll", wanted)["nodeIds"]:
        browser.execute_cdp_cmd("CSS.forcePseudoState", {"nodeId": node, "forcedPseudoClasses": ["hover"]})
