"""The page as a reader has it: in a browser, with its sliders moved. Skipped, saying so, where there is no browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cer_fusion.fusion.heads.weights import MIXES, counted, decisions
from cer_fusion.fusion.judging.comparison import Members
from cer_fusion.fusion.judging.metrics import Scores
from cer_fusion.fusion.page import Explorer, Section, write_page
from tests.fusion.page.browsing import IN_A_BROWSER, seen_at, surveyed

pytestmark = [*IN_A_BROWSER, pytest.mark.slow]


@pytest.fixture(scope="module")
def page(browser, members, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    truth = Scores(classes=members.classes, confusion=counted(members.y, np.zeros((1, 64), np.int16), 4)[0])
    explorer = Explorer(members=members, mix="geometric", presets={"chosen on inner folds": (0.5, 0.3, 0.2)})
    sections = [
        Section(title="Mix", explorer=explorer),
        Section(title="<b>Matrices</b>", matrices=(("<i>late</i>", truth),), facts=(("</dl><script>", "<svg>"),)),
    ]
    write_page(path, "<script>window.hacked = 3</script>", sections, subtitle="<iframe src=https://example.org>")
    browser.get(path.as_uri())
    return path


def shown(browser: Any, id: str) -> str:
    return str(browser.execute_script("return document.getElementById(arguments[0]).textContent", id))


def put(browser: Any, weights: tuple[float, ...], rule: str) -> None:
    """Move the sliders as a hand does: a value, then the event."""
    browser.execute_script(
        """const [weights, rule] = arguments;
        weights.forEach((weight, i) => {
          const slider = document.getElementById(`weight-${i}`);
          slider.value = weight;
          slider.dispatchEvent(new Event("input", { bubbles: true }));
        });
        document.getElementById(`rule-${rule}`).click();""",
        list(weights),
        rule,
    )


def expected(members, weights: tuple[float, ...], rule: str) -> Scores:
    y_pred = decisions(members.proba, np.array([weights]), rule)  # type: ignore[arg-type]
    return Scores(classes=members.classes, confusion=counted(members.y, y_pred, len(members.classes))[0])


def check_all(browser: Any, found: Scores) -> None:
    wanted = {"accuracy": f"{100 * found.accuracy:.2f} %", "macro-f1": f"{100 * found.macro_f1:.2f} %"}
    for c, (recall, f1) in enumerate(zip(found.recall, found.f1, strict=True)):
        wanted |= {f"recall-{c}": f"{100 * recall:.2f}", f"f1-{c}": f"{100 * f1:.2f}"}
    for (t, c), count in np.ndenumerate(found.confusion):
        wanted[f"cell-{t}-{c}"] = f"{100 * count / found.supports[t]:.0f}{count}"
    texts = "return Object.fromEntries(arguments[0].map((id) => [id, document.getElementById(id).textContent]))"
    assert browser.execute_script(texts, list(wanted)) == wanted


@pytest.mark.parametrize("rule", MIXES)
@pytest.mark.parametrize(
    "weights", [(1.0, 1.0, 1.0), (1.0, 0.0, 0.0), (0.37, 0.11, 0.93), (0.0, 0.5, 0.5), (0.01, 0.02, 0.0)]
)
def test_the_page_computes_what_python_computes_to_every_shown_digit(browser, page, members, weights, rule):
    put(browser, weights, rule)
    check_all(browser, expected(members, weights, rule))


def test_the_page_begins_with_the_chosen_weights_and_rule(browser, page, members):
    browser.refresh()
    check_all(browser, expected(members, (0.5, 0.3, 0.2), "geometric"))


def test_a_slider_obeys_the_keyboard_and_has_a_label(browser, page, members):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    put(browser, (0.5, 0.3, 0.2), "arithmetic")
    slider = browser.find_element(By.ID, "weight-0")
    slider.send_keys(Keys.ARROW_LEFT * 3)
    assert slider.get_attribute("value") == "0.47"
    assert slider.accessible_name == "vit"
    check_all(browser, expected(members, (0.47, 0.3, 0.2), "arithmetic"))


def test_all_weights_at_zero_mix_nothing_and_say_so(browser, page):
    put(browser, (0.0, 0.0, 0.0), "arithmetic")
    assert shown(browser, "accuracy") == "–"
    assert "All weights are 0" in browser.execute_script("return document.querySelector('.spoken').textContent")


@pytest.mark.parametrize("rule", MIXES)
def test_the_triangle_shows_the_macro_f1_of_every_mix_and_a_click_takes_its_weights(browser, page, members, rule):
    put(browser, (1.0, 1.0, 1.0), rule)
    surveyed(browser, rule)
    labels = browser.execute_script(
        "return [...document.querySelectorAll('.tile')].map((t) => [Number(t.dataset.vector), t.ariaLabel])"
    )
    steps = [(a / 20, b / 20, (20 - a - b) / 20) for a in range(21) for b in range(21 - a)]
    assert sorted(i for i, _ in labels) == list(range(231))
    for i, label in labels:
        found = expected(members, steps[i], rule)
        assert f": macro F1 {100 * found.macro_f1:.1f} %, " in label
    browser.execute_script("document.querySelector('[data-vector=\"100\"]').dispatchEvent(new MouseEvent('click'))")
    check_all(browser, expected(members, steps[100], rule))


def test_percentages_are_rounded_as_python_rounds_them(browser, page):
    shares = [i / n for n in (3, 7, 16, 32, 64, 116, 160, 800, 1600, 3200) for i in range(n + 1)]
    found = browser.execute_script("return arguments[0].map((share) => Mixing.percent(share))", shares)
    assert found == [f"{100 * share:.2f}" for share in shares]


def test_names_that_try_to_be_markup_are_inert_text(browser, page, members):
    assert browser.execute_script("return window.hacked") is None
    assert browser.title == "<script>window.hacked = 3</script>"
    assert browser.execute_script("return document.querySelectorAll('iframe, img, script:not([type])').length") == 4
    headings = browser.execute_script("return [...document.querySelectorAll('tbody th')].map((e) => e.textContent)")
    assert any(members.classes[1] in heading for heading in headings)


def test_the_policy_lets_no_foreign_script_run_and_no_request_leave(browser, page):
    tried = browser.execute_async_script(
        """const done = arguments[0], blocked = [];
        document.addEventListener("securitypolicyviolation", (event) => blocked.push(event.effectiveDirective));
        const script = document.createElement("script");
        script.textContent = "window.hacked = 4";
        document.body.append(script);
        fetch("https://example.org/").catch(() => setTimeout(() => done([window.hacked ?? null, blocked]), 50));"""
    )
    assert tried == [None, ["script-src-elem", "connect-src"]]
    browser.get_log("browser")  # the two violations above, asked for


def test_nothing_is_asked_of_the_network_and_nothing_complains(browser, page):
    browser.get_log("browser"), browser.get_log("performance")
    browser.refresh()
    put(browser, (0.2, 0.4, 0.1), "arithmetic")
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert page.as_uri() in asked
    assert [url for url in asked if url != page.as_uri() and not url.startswith("data:")] == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (400, "light")])
def test_the_page_is_never_wider_than_its_window_and_follows_the_readers_scheme(browser, page, width, scheme):
    seen_at(browser, width, scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(", "))) < 200) == (scheme == "dark")


@pytest.mark.parametrize("width", [1920, 1280, 1200, 1100, 1000, 800])
def test_nothing_of_the_explorer_is_cut_off_on_a_desk(browser, tmp_path, width):
    names = ("Fearfully", "Happily", "Sadly", "Disgustedly", "Angrily")
    classes = (*(f"{name} Surprised" for name in names), "Sadly Fearful", "Sadly Angry")
    y = np.arange(70) % 7
    proba = np.random.default_rng(0).dirichlet(np.ones(7), (3, 70))
    seven = Members(names=("vit", "manet", "resnet50"), classes=classes, proba=proba, y=y)
    write_page(tmp_path / "page.html", "Seven", [Section(title="Mix", explorer=Explorer(members=seven, presets={}))])
    seen_at(browser, width)
    browser.get((tmp_path / "page.html").as_uri())
    parts = browser.execute_script(
        "return [...document.querySelectorAll('#explorer .scroll')].map(one => [one.scrollWidth, one.clientWidth])"
    )
    assert parts
    assert all(needed <= there for needed, there in parts), parts
