"""What the explorer says about chance, against Python on the same draws. Skipped where there is no browser."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cer_fusion.fusion.data.blocks import even_simplex
from cer_fusion.fusion.heads.weights import counted, decisions, totals
from cer_fusion.fusion.judging.comparison import Members
from cer_fusion.fusion.judging.metrics import Scores
from cer_fusion.fusion.judging.resampling import Jackknife, by_group, jackknife, wilson
from cer_fusion.fusion.judging.resampling import members as numbered
from cer_fusion.fusion.page import Explorer, Picture, Section, write_page
from cer_fusion.fusion.page.figures import new_figure
from cer_fusion.fusion.sweeps import curve
from cer_fusion.kit.table import Cell, Table
from tests.fusion.page.browsing import IN_A_BROWSER, seen_at, surveyed

pytestmark = [*IN_A_BROWSER, pytest.mark.slow]

NAMES = ("vit", "manet.multi_scale", "resnet50")
LONG = ("vit_base_patch16_224.augreg_in21k", "manet.multi_scale_attention_features", "resnet50")
WEIGHTS = [(0.5, 0.3, 0.2), (0.0, 0.25, 0.75), (0.37, 0.11, 0.93)]


def some(
    *,
    m: int = 3,
    n: int = 96,
    groups: bool = False,
    knowing: tuple[float, ...] = (0.9, 0.5, 0.1),
    alone: float = 1.0,
) -> Members:
    """Members that know this much about four classes of unequal size; `alone` is how far each errs by itself."""
    rng = np.random.default_rng(5)
    y = np.sort(rng.choice(4, size=n, p=(0.4, 0.3, 0.2, 0.1)))
    errors = alone * rng.normal(size=(m, n, 4)) + np.sqrt(1 - alone**2) * rng.normal(size=(n, 4))
    scores = np.exp(np.eye(4)[y] * np.array(knowing[:m])[:, None, None] * 2 + errors)
    proba = (scores / scores.sum(axis=2, keepdims=True)).astype(np.float32).astype(np.float64)
    names = NAMES[:m] if m <= 3 else tuple(f"block_{i}" for i in range(m))
    videos = tuple(f"video {i // 3}" for i in range(n)) if groups else None
    return Members(names=names, classes=("a", "b", "c", "d"), proba=proba, y=y, groups=videos)


def opened(browser: Any, folder: Path, members: Members, mix: Any = "arithmetic") -> None:
    seen_at(browser, 1280)
    page = write_page(folder / "page.html", "x", [Section(title="Mix", explorer=Explorer(members=members, mix=mix))])
    browser.get(page.as_uri())
    surveyed(browser, mix)


def put(browser: Any, weights: tuple[float, ...]) -> None:
    browser.execute_script(
        """arguments[0].forEach((weight, i) => {
          const slider = document.getElementById(`weight-${i}`);
          slider.value = weight;
          slider.dispatchEvent(new Event("input", { bubbles: true }));
        });""",
        list(weights),
    )


def shown(browser: Any, *ids: str) -> list[str]:
    texts = "return arguments[0].map((id) => document.getElementById(id).textContent)"
    return list(browser.execute_script(texts, list(ids)))


def numbers(seed: int, count: int) -> NDArray[np.uint64]:
    """The page's 32-bit numbers."""
    with np.errstate(over="ignore"):
        state = np.uint32(seed) + np.uint32(0x9E3779B9) * np.arange(1, count + 1, dtype=np.uint32)
        z = (state ^ (state >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        z = (z ^ (z >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        found: NDArray[np.uint64] = (z ^ (z >> np.uint32(16))).astype(np.uint64)
    return found


def signs(draws: int, g: int, seed: int) -> NDArray[np.float64]:
    """The page's signs, (draws, g)."""
    bits = numbers(seed + 1, draws * -(-g // 32)).astype("<u4").view(np.uint8).reshape(draws, -1)
    return np.unpackbits(bits, axis=1, bitorder="little")[:, :g] * 2.0 - 1.0


def written(low: float, high: float) -> str:
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def close(text: str, low: float, high: float) -> bool:
    """Whether the text is this interval, but for the last digit where rounding is a matter of the last bit."""
    ends = [float(end) for end in text.strip("[]").split(", ")]
    return bool(np.abs(np.array(ends) - 100 * np.array([low, high])).max() <= 0.0501)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_intervals_of_independent_rows_are_wilsons_and_those_of_stratified_resamples(browser, tmp_path, weights):
    members = some()
    opened(browser, tmp_path, members)
    put(browser, weights)
    y_pred = decisions(members.proba, np.array([weights]))
    found = Scores(classes=members.classes, confusion=counted(members.y, y_pred, 4)[0])
    rows = [np.repeat(np.arange(4), counts) for counts in found.confusion]
    draws = numbers(0, 2000 * members.y.size).reshape(2000, -1)
    f1, start = np.zeros((2000, 4)), 0
    right, called = np.zeros((2000, 4)), np.zeros((2000, 4))
    for c, own in enumerate(rows):
        part = draws[:, start : start + own.size]
        answers = own[((part * np.uint64(own.size)) >> np.uint64(32)).astype(np.int64)]
        start += own.size
        right[:, c] = (answers == c).sum(axis=1)
        called += (answers[:, :, None] == np.arange(4)).sum(axis=1)
    f1 = 2 * right / np.maximum(1, called + found.supports)
    accuracy, macro_f1 = shown(browser, "accuracy-interval", "macro-f1-interval")
    correct = int(np.trace(found.confusion))
    assert accuracy == written(*_ends(wilson(correct, members.y.size)))
    assert close(macro_f1, *np.quantile(f1.mean(axis=1), [0.025, 0.975]))
    for c in range(4):
        of_recall, of_f1 = shown(browser, f"recall-{c}-interval", f"f1-{c}-interval")
        assert of_recall == written(*_ends(wilson(int(found.confusion[c, c]), int(found.supports[c]))))
        assert close(of_f1, *np.quantile(f1[:, c], [0.025, 0.975]))


def _ends(interval: Any) -> tuple[float, float]:
    return interval.low, interval.high


@pytest.mark.parametrize("weights", WEIGHTS)
def test_intervals_of_rows_that_share_groups_are_those_of_the_jackknife(browser, tmp_path, weights):
    members = some(groups=True)
    opened(browser, tmp_path, members)
    put(browser, weights)
    member = numbered(members.groups)
    assert member is not None
    y_pred = decisions(members.proba, np.array([weights]))
    left = jackknife(members.y, y_pred, 4, member)
    for id, metric in (("accuracy", "accuracy"), ("macro-f1", "macro_f1")):
        (text,) = shown(browser, f"{id}-interval")
        low, high = left[metric].scores()
        assert close(text, low[0], high[0])
    right, whole = by_group(members.y, y_pred, 4, member)
    f1 = Jackknife(
        _share(right.sum(axis=1), whole.sum(axis=1))[0], _share(right.sum(1) - right, whole.sum(1) - whole)[0]
    )
    for c, (low, high) in enumerate(zip(*f1.scores(), strict=True)):
        (text,) = shown(browser, f"f1-{c}-interval")
        assert close(text, low, high)
    assert "jackknife over whole groups" in browser.execute_script("return document.body.innerText")


def _share(right: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(2 * right / np.maximum(1, whole))


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("mix", ["arithmetic", "geometric", "harmonic", "rank"])
def test_the_set_of_mixes_that_cannot_be_told_from_the_best_is_that_of_a_sweep(
    browser, tmp_path, monkeypatch, groups, mix
):
    members = some(groups=groups)
    opened(browser, tmp_path, members, mix)
    monkeypatch.setattr(curve, "signs", signs)
    weights = even_simplex(members.names, 300).weights
    found = curve.decision_curve(members.proba, members.y, weights, mix=mix, groups=members.groups)
    alike = browser.execute_script(
        "const of = (one) => one.dataset.alike === 'true', tiles = [...document.querySelectorAll('.tile')];"
        "return tiles.sort((a, b) => a.dataset.vector - b.dataset.vector).map(of)"
    )
    assert alike == found.alike.tolist()
    assert 1 < sum(alike) < len(alike)
    (told,) = shown(browser, "scale")
    assert told.startswith(f"{sum(alike)} of 231 mixes cannot be told from the best")


def test_the_verdict_on_the_weights_is_the_set_with_them_in_it(browser, tmp_path, monkeypatch):
    members = some()
    opened(browser, tmp_path, members)
    monkeypatch.setattr(curve, "signs", signs)
    grid, words = even_simplex(members.names, 300).weights, []
    for weights in ((0.93, 0.04, 0.03), (0.02, 0.11, 0.93), (0.61, 0.33, 0.04)):
        put(browser, weights)
        every = np.vstack([grid, weights])
        found = curve.decision_curve(members.proba, members.y, every)
        words.append("among them" if found.alike[-1] else "worse")
        assert shown(browser, "verdict")[0].endswith(f"These weights are {words[-1]}.")
    assert len(set(words)) == 2


def tiles(browser: Any) -> list[tuple[bool, list[int]]]:
    of = "(one) => [one.dataset.alike === 'true', one.getAttribute('fill')]"
    found = browser.execute_script(f"return [...document.querySelectorAll('.tile')].map({of})")
    return [(alike, [int(part) for part in re.findall(r"\d+", fill)]) for alike, fill in found]


def test_noise_is_not_drawn_as_a_landscape(browser, tmp_path):
    """Members that err alike: every mix is as good as the best, and all are of the last quarter of the colours."""
    members = some(knowing=(0.5, 0.5, 0.5), alone=0.4)
    opened(browser, tmp_path, members)
    values = totals(counted(members.y, decisions(members.proba, even_simplex(members.names, 300).weights), 4))[1]
    assert np.ptp(values) > 0.03  # three points, which filled the whole map
    found = tiles(browser)
    assert all(alike for alike, _ in found)
    assert all(green >= 201 for _, (_, green, _) in found)
    assert "None of 231 mixes can be told from the best" in shown(browser, "scale")[0]


def test_noise_takes_a_quarter_of_the_colours_even_where_scores_are_low(browser, tmp_path):
    members = some(n=40, knowing=(0.0, 0.0, 0.0))
    opened(browser, tmp_path, members)
    assert all(green >= 200 for alike, (_, green, _) in tiles(browser) if alike)
    assert browser.execute_script("return document.querySelector('.legend').textContent").startswith("0.0 % ")


def test_what_is_worse_is_drawn_so_and_the_legend_says_what_the_scale_is(browser, tmp_path):
    members = some(n=240, knowing=(1.4, 0.4, 0.0))
    opened(browser, tmp_path, members)
    found = tiles(browser)
    assert all(green >= 201 for alike, (_, green, _) in found if alike)
    assert min(green for _, (_, green, _) in found) < 60
    values = 100 * totals(counted(members.y, decisions(members.proba, even_simplex(members.names, 300).weights), 4))[1]
    legend = browser.execute_script("return document.querySelector('.legend').textContent")
    assert legend.split() == [f"{values.min():.1f}", "%", f"{values.max():.1f}", "%"]
    assert f"the scale runs from {values.min():.1f} % to the best" in shown(browser, "scale")[0]


def test_two_members_have_a_strip(browser, tmp_path):
    opened(browser, tmp_path, some(m=2))
    assert len(tiles(browser)) == 21
    assert re.match(r"Of 21 mixes (\d+ are|only)", shown(browser, "verdict")[0])
    assert browser.get_log("browser") == []


def test_more_than_three_members_have_a_strip_each_of_the_best_that_a_share_reaches(browser, tmp_path, monkeypatch):
    from selenium.webdriver.common.keys import Keys

    members = some(m=4, knowing=(0.9, 0.7, 0.3, 0.0))
    opened(browser, tmp_path, members)
    monkeypatch.setattr(curve, "signs", signs)
    weights = even_simplex(members.names, 300).weights
    found = curve.decision_curve(members.proba, members.y, weights)
    rows = browser.execute_script(
        "const of = (one) => [Number(one.dataset.vector), one.dataset.alike === 'true'];"
        "const rows = [...document.querySelectorAll('#map [role=row]')];"
        "return rows.map((row) => [...row.querySelectorAll('.tile')].map(of))"
    )
    assert [len(row) for row in rows] == [11] * 4
    for member, row in enumerate(rows):
        for share, (vector, alike) in enumerate(row):
            those = np.flatnonzero(np.isclose(weights[:, member], share / 10))
            assert vector in those
            assert np.isclose(found.macro_f1.value[vector], found.macro_f1.value[those].max())
            assert alike == found.alike[those].any()
    assert len({alike for row in rows for _, alike in row}) == 2
    browser.execute_script("document.querySelector('.tile').focus()")
    press(browser, Keys.ARROW_DOWN, Keys.END, Keys.ARROW_LEFT, Keys.ENTER)
    sliders = browser.find_elements("css selector", "input[type=range]")
    taken = weights[int(focused(browser).get_attribute("data-vector"))]
    assert [float(one.get_attribute("value")) for one in sliders] == taken.round(2).tolist()
    assert taken[1] == 0.9
    assert focused(browser).accessible_name.startswith("block_1 0.90, at best with block_0 ")
    assert focused(browser).get_attribute("aria-selected") == "true"
    assert browser.get_log("browser") == []


def test_the_f1_of_a_class_that_is_always_missed_has_no_interval(browser, tmp_path):
    members = some()
    proba = np.zeros_like(members.proba)
    proba[:, np.arange(96), np.where(members.y == 3, 0, members.y)] = 1  # the last class is taken for the first
    opened(browser, tmp_path, replace(members, proba=proba))
    assert shown(browser, "f1-3", "f1-3-interval") == ["0.00", ""]  # all resamples agree, which is not certainty
    assert shown(browser, "recall-3-interval")[0].startswith("[0.0, ")


def test_too_few_groups_are_told(browser, tmp_path):
    members = replace(some(), groups=tuple(f"video {i // 32}" for i in range(96)))
    opened(browser, tmp_path, members)
    assert "No interval or test of macro F1 can be trusted here" in browser.execute_script(
        "return document.querySelector('.controls').textContent"
    )


def focused(browser: Any) -> Any:
    return browser.switch_to.active_element


def press(browser: Any, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser, duration=0).send_keys(*keys).perform()


def place(browser: Any) -> tuple[float, ...]:
    """The shares of the tile that has the focus."""
    vector = int(focused(browser).get_attribute("data-vector"))
    return tuple(even_simplex(NAMES, 300).weights[vector].round(2).tolist())


def test_tiles_are_walked_and_taken_by_the_keyboard(browser, tmp_path):
    from selenium.webdriver.common.keys import Keys

    opened(browser, tmp_path, some())
    assert (
        len(browser.find_elements("css selector", ".tile[tabindex='0']")) == 1
    )  # one stop on the way through the page
    browser.execute_script("document.querySelector('.tile[tabindex=\"0\"]').focus()")
    assert place(browser) == (0, 0, 1)
    press(browser, Keys.ARROW_UP)
    assert place(browser) == (0, 0, 1)  # there is nothing above
    press(browser, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    assert place(browser) == (0.05, 0.05, 0.9)
    press(browser, Keys.ARROW_RIGHT, Keys.ARROW_UP)
    assert place(browser) == (0, 0.05, 0.95)
    press(browser, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_LEFT)
    assert place(browser) == (0.15, 0, 0.85)
    press(browser, Keys.END)
    assert place(browser) == (0, 0.15, 0.85)
    press(browser, Keys.HOME)
    assert place(browser) == (0.15, 0, 0.85)
    for key, weights in ((Keys.ENTER, [0.15, 0, 0.85]), (Keys.SPACE, [0.1, 0.05, 0.85])):
        press(browser, key)
        assert [
            float(one.get_attribute("value")) for one in browser.find_elements("css selector", "input[type=range]")
        ] == weights
        assert focused(browser).get_attribute("aria-selected") == "true"
        assert len(browser.find_elements("css selector", ".tile[aria-selected=true]")) == 1
        press(browser, Keys.ARROW_RIGHT)
    assert browser.execute_script("return document.querySelectorAll('.tile[tabindex=\"0\"]').length") == 1
    assert focused(browser).get_attribute("tabindex") == "0"


def test_a_screen_reader_hears_what_a_tile_is_and_a_reader_sees_it(browser, tmp_path):
    opened(browser, tmp_path, some())
    grid = browser.find_element("id", "map")
    assert (grid.aria_role, grid.accessible_name[:24]) == ("grid", "Macro F1 of all shares o")
    rows = browser.find_elements("css selector", "#map [role=row]")
    assert [len(row.find_elements("css selector", "[role=gridcell]")) for row in rows] == list(range(1, 22))
    browser.execute_script("document.querySelector('.tile').focus()")
    told = focused(browser).accessible_name
    shares, score = told.split(": ")
    assert shares == "vit 0.00, manet.multi_scale 0.00, resnet50 1.00"
    assert re.fullmatch(r"macro F1 \d+\.\d\d % \[\d+\.\d, \d+\.\d\], worse than the best", score)
    assert shown(browser, "readout") == [told]


def test_the_keyboard_reaches_all_that_the_mouse_does_and_shows_where_it_is(browser, tmp_path):
    from selenium.webdriver.common.keys import Keys

    members = replace(some(), names=LONG)
    truth = Scores(classes=members.classes, confusion=counted(members.y, members.y[None], 4)[0])
    explorer = Explorer(members=members, mix="arithmetic", presets={f"as {LONG[0]}": (0.5, 0.3, 0.2)})
    sections = [Section(title="Mix", explorer=explorer), Section(title="Matrices", matrices=(("late", truth),))]
    browser.get(write_page(tmp_path / "page.html", "x", sections).as_uri())
    surveyed(browser, "arithmetic")
    look = """
    const one = document.activeElement, style = getComputedStyle(one), ring = document.querySelector(".ring");
    const ringed = one.matches(".tile") && getComputedStyle(ring).visibility === "visible";
    const lined = style.outlineStyle !== "none" && style.outlineWidth !== "0px";
    return [one.tagName, one.matches(":focus-visible") && (ringed || lined)];
    """
    stops = []
    for _ in range(40):
        press(browser, Keys.TAB)
        name, visible = browser.execute_script(look)
        if name == "BODY":
            break
        stops.append((focused(browser).aria_role, focused(browser).accessible_name))
        assert visible, stops[-1]
    wanted = {
        ("link", "Skip to the results"), ("link", "Mix"), ("link", "Matrices"), ("radio", "arithmetic"),
        ("button", f"as {LONG[0]}"), ("region", "Per class (%)"), ("region", "Confusion matrix of this mix"),
        ("region", "confusion matrix, late"),
        *(("slider", name) for name in LONG),
    }  # fmt: skip
    assert wanted - set(stops) == set()
    assert [role for role, _ in stops].count("gridcell") == 1
    listening = browser.execute_script("return document.querySelectorAll('[tabindex]:not(.tile):not(.scroll)').length")
    assert listening == 0


ABSURD = "a_backbone_whose_name_is_longer-than-a-telephone-is-wide.and_then_some_more_of_it"
UNBROKEN = "Backbonewhosenameisoneverylongwordindeed"

BROKEN = """
const kinds = "p, li, td, th, caption, figcaption, dt, dd, h1, h2, h3, label, button, a, text, .corners > span";
const broken = [], seen = new Set(), blocks = new Map();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) { // the letters of a block run on over the elements in it
  const node = walker.currentNode, block = node.parentElement.closest(kinds);
  if (!block || node.parentElement.closest("script, .spoken")) continue;
  if (!blocks.has(block)) blocks.set(block, []);
  for (let i = 0; i < node.length; i++) blocks.get(block).push([node, i]);
}
for (const [block, letters] of blocks) {
  const text = letters.map(([node, i]) => node.data[i]).join("");
  for (const name of arguments[0]) {
    for (let at = text.indexOf(name); at >= 0; at = text.indexOf(name, at + 1)) {
      seen.add(name);
      const boxes = [...name].map((_, j) => {
        const [node, i] = letters[at + j], range = document.createRange();
        range.setStart(node, i);
        range.setEnd(node, i + 1);
        return range.getBoundingClientRect();
      });
      const room = block.clientWidth - boxes.reduce((sum, box) => sum + box.width, 0);
      boxes.forEach((box, j) => {
        if (j && box.bottom - boxes[j - 1].bottom > 3) broken.push([name.slice(0, j), room]);
      });
    }
  }
}
return [broken, [...seen]];
"""


@pytest.mark.parametrize("width", [1280, 1000, 400])
def test_names_of_blocks_and_heads_are_never_broken_within_a_word(browser, tmp_path, width):
    """Whole wherever they fit a line; longer ones after a dot, an underscore or a hyphen. The page does not widen."""
    heads = ("mlp-large_hidden.temperature-scaled", "late", UNBROKEN)
    members = replace(some(), names=LONG)
    truth = Scores(classes=members.classes, confusion=counted(members.y, members.y[None], 4)[0])
    names = (*LONG, *heads, ABSURD)
    told = f"Of the blocks {', '.join(names)} and once more {' + '.join(names)}: what each of them says."
    table = Table(
        title=told,
        header=("Block", *heads),
        rows=tuple((Cell(name), *(Cell("1.00", 1.0) for _ in heads)) for name in (*LONG, ABSURD)),
        notes=(told,),
    )
    sections = [
        Section(title=told, prose=(told,), tables=(table,), facts=tuple((name, told) for name in names)),
        Section(title="Mix", explorer=Explorer(members=members, presets={f"chosen for {LONG[0]}": (0.5, 0.3, 0.2)})),
        Section(title="Other", matrices=tuple((name, truth) for name in heads), pictures=(_picture(told),)),
    ]
    page = write_page(tmp_path / "page.html", told, sections, subtitle=told)
    seen_at(browser, width)
    browser.get(page.as_uri())
    surveyed(browser, "geometric")
    browser.execute_script("document.querySelector('.tile').focus()")  # its names are read out
    broken, seen = browser.execute_script(BROKEN, list(names))
    assert set(seen) == set(names)
    assert {head[-1] for head, _ in broken} <= {".", "_", "-"}
    assert {head: room for head, room in broken if room > 8} == {}
    if width >= 1000:
        assert all(ABSURD.startswith(head) for head, _ in broken)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def _picture(caption: str) -> Picture:
    figure = new_figure(3, 2)
    figure.subplots().set_title(LONG[0])
    return Picture.of(figure, caption)


@pytest.mark.parametrize("width", [1280, 1000, 400])
def test_nothing_of_a_name_is_cut_off(browser, tmp_path, width):
    members = replace(some(), names=LONG)
    seen_at(browser, width)
    explorer = Section(title="Mix", explorer=Explorer(members=members))
    browser.get(write_page(tmp_path / "page.html", "x", [explorer]).as_uri())
    surveyed(browser, "geometric")
    outside = browser.execute_script(
        """return [...document.querySelectorAll("#explorer .name")].filter((one) => {
          const box = one.getBoundingClientRect(), around = one.closest("section").getBoundingClientRect();
          return box.left < around.left || box.right > around.right || one.scrollWidth > one.clientWidth + 1;
        }).map((one) => one.textContent)"""
    )
    assert outside == []
