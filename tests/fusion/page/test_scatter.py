from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from hashlib import sha256

import numpy as np
import pytest

from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.page import Scatter, Section, page_html
from cer_fusion.fusion.page.colours import DARK, LIGHT, PRINTED, contrast
from cer_fusion.fusion.page.document import SCATTER_SCRIPTS, _packaged
from tests.fusion.page.test_document import EVIL, Tags

JPEG = b"\xff\xd8\xff\xe0" + bytes(20)


def scatter(n: int = 30, **changes) -> Scatter:
    rng = np.random.default_rng(1)
    y = np.arange(n) % 3
    answers = {
        name: (np.where(rng.random(n) < share, y, (y + 1) % 3), rng.uniform(0.4, 1, n))
        for name, share in (("mlp", 0.6), ("late", 0.9))
    }
    given = {
        "places": rng.normal(size=(n, 2)) * (3, 1), "axes": ("first", "second"), "y_true": y,
        "classes": ("Sadly_Angry", "b", EVIL), "answers": answers,
    }  # fmt: skip
    return Scatter(**{**given, **changes})


def data_of(html: str) -> dict:
    [text] = re.findall(r'id="scatter-data">(.*?)</script>', html)
    return json.loads(text)


def test_the_page_carries_places_on_one_scale_answers_and_thumbnails_and_its_policy_knows_the_script():
    made = scatter(thumbnails={3: JPEG}, ids=tuple(f"face {i}" for i in range(30)))
    html = page_html("x", [Section(title="Errors", scatter=made)])
    data = data_of(html)
    places = np.stack([data["x"], data["y"]], axis=1)
    scale = np.ptp(made.places, axis=0).max()
    np.testing.assert_allclose(places - places[0], (made.places - made.places[0]) / scale, atol=2e-4)
    assert np.abs(places).max() <= 0.5
    assert data["columns"][1]["predicted"] == made.answers["late"][0].tolist()
    assert b64decode(data["thumbnails"]["3"]) == JPEG
    assert data["classes"] == ["Sadly Angry", "b", EVIL.replace("_", " ")]
    for script in map(_packaged, SCATTER_SCRIPTS):
        assert f"&#x27;sha256-{b64encode(sha256(script.encode()).digest()).decode()}&#x27;" in html
    assert [tag for tag, _ in Tags(html).found].count("script") == 3
    assert "img-src data:" in html
    assert html == page_html("x", [Section(title="Errors", scatter=made)])


def test_nothing_is_there_that_nobody_asked_for():
    html = page_html("x", [Section(title="Errors", scatter=scatter())])
    assert (data_of(html)["ids"], data_of(html)["thumbnails"]) == (None, {})
    assert "scatter.js" not in html
    assert "scatter-data" not in page_html("x", [Section(title="Results")])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"places": np.zeros((29, 2))}, "finite places and answers for the same rows"),
        ({"places": np.full((30, 2), np.nan)}, "finite places"),
        ({"ids": ("a",)}, "for the same rows"),
        ({"thumbnails": {0: b"GIF89a"}}, "must be JPEG"),
        ({"thumbnails": {i: b"\xff\xd8\xff" + bytes(2_000_000) for i in range(30)}}, "more than 60"),
    ],
)
def test_what_a_page_cannot_show_is_refused(changes, message):
    with pytest.raises(ReportError, match=message):
        scatter(**changes)


def test_a_page_has_one_scatter_at_most_and_rows_in_one_place_are_no_fault():
    with pytest.raises(ReportError, match="at most one scatter, however: 2"):
        page_html("x", [Section(title=str(i), scatter=scatter()) for i in range(2)])
    data = data_of(page_html("x", [Section(title="Errors", scatter=scatter(places=np.ones((30, 2))))]))
    assert set(data["x"]) == {0.0}


@pytest.mark.parametrize("scheme", [LIGHT, DARK, PRINTED])
def test_the_signs_are_told_from_their_ground_in_every_scheme_and_from_each_other_by_their_form(scheme):
    for colour in (scheme.warm, scheme.muted, scheme.ink):
        assert contrast(colour, scheme.card) >= 3  # WCAG 2.2, success criterion 1.4.11
    script = _packaged(SCATTER_SCRIPTS[-1])
    assert "l8 8m0 -8l-8 8" in script  # a cross
    assert "h0" in script  # a dot
