"""The map of the errors in a browser, with keys and with a mouse. Skipped where there is no browser."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cer_fusion.fusion.page import Section, write_page
from tests.fusion.page.browsing import IN_A_BROWSER, seen_at
from tests.fusion.page.test_contrast_browser import contrasts
from tests.fusion.page.test_scatter import scatter

pytestmark = [*IN_A_BROWSER, pytest.mark.slow]


def face(grey: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (24, 24), (grey,) * 3).save(out, "JPEG")
    return out.getvalue()


MADE = scatter(thumbnails={i: face(8 * i) for i in range(28)}, classes=("Sadly_Angry", "b", "c"))


@pytest.fixture
def page(browser, tmp_path) -> Any:
    seen_at(browser, 1200)
    browser.get(write_page(tmp_path / "page.html", "x", [Section(title="Errors", scatter=MADE)]).as_uri())
    return browser


def row(page: Any) -> int:
    return int(page.execute_script("return document.getElementById('scatter-plane').dataset.row"))


def press(page: Any, key: str) -> int:
    page.execute_script(
        "const plane = document.getElementById('scatter-plane'); plane.focus();"
        "plane.dispatchEvent(new KeyboardEvent('keydown', { key: arguments[0], bubbles: true }))",
        key,
    )
    return row(page)


def wrong(name: str) -> list[int]:
    predicted, confidence = MADE.answers[name]
    found = np.flatnonzero(predicted != MADE.y_true)
    return sorted(found.tolist(), key=lambda i: (-round(float(confidence[i]), 3), i))


def choose(page: Any, what: str, value: int) -> None:
    page.execute_script(
        "const select = document.getElementById(arguments[0]); select.value = arguments[1];"
        "select.dispatchEvent(new Event('change'))",
        f"scatter-{what}", value,
    )  # fmt: skip


def told(page: Any) -> str:
    return str(page.execute_script("return document.querySelector('#scatter-readout p').textContent"))


def test_the_keyboard_goes_through_all_errors_from_the_surest_and_says_what_each_is(page):
    order, found = wrong("mlp"), []
    found.append(press(page, "Home"))
    for _ in order[1:]:
        found.append(press(page, "PageDown"))
    assert found == order
    assert press(page, "PageDown") == order[-1] == press(page, "End")
    predicted, confidence = MADE.answers["mlp"]
    names = ("Sadly Angry", "b", "c")
    i = press(page, "Home")
    assert told(page) == (
        f"{names[MADE.y_true[i]]}, taken for {names[predicted[i]]} by mlp "
        f"({round(100 * round(float(confidence[i]), 3))} % sure)."
    )
    source = page.execute_script("return document.querySelector('#scatter-readout img').src")
    assert source.startswith("data:image/jpeg;base64,")
    assert page.execute_script("return document.querySelector('#scatter-readout img').naturalWidth") == 24


def test_arrow_keys_lead_to_an_error_on_that_side_and_reach_all_of_them(page):
    ways = {"ArrowRight": (0, 1), "ArrowLeft": (0, -1), "ArrowUp": (1, 1), "ArrowDown": (1, -1)}
    seen, waiting = set(), [press(page, "Home")]
    while waiting:
        i = waiting.pop()
        if i in seen:
            continue
        seen.add(i)
        for key, (axis, sign) in ways.items():
            press(page, "Home")
            for _ in range(wrong("mlp").index(i)):
                press(page, "PageDown")
            j = press(page, key)
            if j != i:
                assert sign * (MADE.places[j, axis] - MADE.places[i, axis]) > 0
                waiting.append(j)
    assert seen == set(wrong("mlp"))


def test_the_mouse_picks_the_nearest_error_and_another_column_or_class_shows_its_own(page):
    i = press(page, "End")
    x, y = page.execute_script(
        "const ring = document.querySelector('#scatter .picked').getBoundingClientRect();"
        "return [ring.x + ring.width / 2, ring.y + ring.height / 2]"
    )
    press(page, "Home")
    page.execute_script(
        "const event = new MouseEvent('mousemove', { clientX: arguments[0], clientY: arguments[1] });"
        "document.getElementById('scatter-plane').dispatchEvent(event)",
        x + 3, y - 3,
    )  # fmt: skip
    assert row(page) == i
    choose(page, "column", 1)
    count = "return document.getElementById('scatter-count').textContent"
    assert page.execute_script(count) == f"{len(wrong('late'))} of 30 rows are wrong."
    choose(page, "class", 2)
    own = [i for i in wrong("late") if MADE.y_true[i] == 1]
    assert page.execute_script(count) == f"{len(own)} of 10 rows are wrong."


@pytest.mark.parametrize("width", [360, 1200])
def test_no_text_is_over_the_points_nothing_is_cut_off_and_nothing_is_asked_for(page, width):
    seen_at(page, width)
    page.execute_script("return 0")
    assert page.execute_script("return document.querySelectorAll('#scatter-plane text').length") == 0
    over = page.execute_script(
        """const plane = document.getElementById("scatter-plane").getBoundingClientRect();
        return [...document.querySelectorAll("#scatter label, #scatter p, #scatter img")].filter((one) => {
          const box = one.getBoundingClientRect();
          const aside = box.left >= plane.right || box.right <= plane.left;
          const apart = box.top >= plane.bottom || box.bottom <= plane.top;
          return box.width && !aside && !apart;
        }).length"""
    )
    assert over == 0
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    assert page.get_log("browser") == []
    assert page.execute_script("return performance.getEntriesByType('resource').length") == 0


HOSTILE = ("</script><script>window.evil = 1</script>", "<img src=x onerror='window.evil = 1'>", "\u202e" + "W" * 90)


def test_names_of_any_kind_stay_text_inside_the_card_and_turn_no_sentence(browser, tmp_path):
    answers = {f"{name}</script><b>{'x' * 60}": given for name, given in MADE.answers.items()}
    ids = tuple(f"<svg onload='window.evil = 1'>{i}/{'p' * 80}" for i in range(len(MADE.y_true)))
    made = replace(MADE, classes=HOSTILE, answers=answers, ids=ids)
    seen_at(browser, 360)
    browser.get(write_page(tmp_path / "page.html", "<b>x", [Section(title="<i>Errors", scatter=made)]).as_uri())
    i = press(browser, "Home")
    assert told(browser).startswith(f"{ids[i]}: {HOSTILE[MADE.y_true[i]]}, taken for ")
    assert browser.execute_script("return window.evil === undefined")
    assert browser.get_log("browser") == []
    beyond = browser.execute_script(
        """const card = document.getElementById("scatter").parentElement.getBoundingClientRect();
        return [...document.querySelectorAll("#scatter select, #scatter p, #scatter bdi")].filter((one) =>
          one.getBoundingClientRect().right > card.right).map((one) => one.textContent.slice(0, 40))"""
    )
    assert beyond == []
    names = "return [...document.querySelectorAll('#scatter-readout bdi')].map((one) => one.textContent)"
    assert len(browser.execute_script(names)) == 4


@pytest.mark.parametrize("scheme", ["light", "dark", "printed"])
def test_its_texts_can_be_read_in_every_scheme(page, scheme):
    seen_at(page, 1000, scheme)
    press(page, "Home")
    seen_at(page, 1000, scheme, height=page.execute_script("return document.documentElement.scrollHeight"))
    found = contrasts(page)
    assert any("rows are wrong" in text for text, _ in found)
    assert {text: ratio for text, ratio in found if ratio < 4.5} == {}
