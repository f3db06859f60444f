from __future__ import annotations

import numpy as np

from cer_fusion.fusion import compare, make_head, sweep
from cer_fusion.fusion.data.blocks import even_simplex
from cer_fusion.fusion.judging.comparison import members_of_head
from cer_fusion.fusion.page import page_html
from cer_fusion.fusion.page.sections import (
    configuration_section,
    explorer_section,
    provenance_section,
    report_sections,
    sweep_section,
)
from tests.fusion.kept import NOISE, rows


def test_a_comparison_and_a_sweep_become_one_page():
    train, test = rows(30, seed=0, split="train"), rows(21, seed=1, split="test")
    report = compare({"late": make_head("late")}, train, test, resamples=50)
    late = report.columns[0].fitted
    swept = sweep(late, even_simplex(tuple(NOISE), 21), train, test, folds=2, resamples=20)
    explorer = explorer_section(members_of_head(late, test), mix=late.mix, sweep=swept)
    assert explorer.explorer is not None
    assert explorer.explorer.presets == {"chosen on inner folds": tuple(swept.weights[swept.chosen])}
    sections = [*report_sections(report), explorer, sweep_section(swept), configuration_section(report)]
    sections.append(provenance_section(report, digests={"run a": "f" * 64}, environment={"threads": {"blas": 2}}))
    html = page_html("faces", sections).replace("<wbr>", "")
    assert "chosen on inner folds" in html
    for text in ("Sadly Angry (%)", "member=linear", "f" * 64, "blas 2", *report.fingerprints.values()):
        assert text in html
    assert html.count('class="matrix"') == 3


def test_a_sweep_over_other_blocks_offers_no_weights():
    train, test = rows(30, seed=0, split="train"), rows(21, seed=1, split="test")
    late = make_head("late", blocks=train.widths).fit(train.x(), train.y)
    turned = sweep(make_head("late"), even_simplex(("manet", "vit"), 11), train, test, folds=2, resamples=20)
    section = explorer_section(members_of_head(late, test), sweep=turned)
    assert section.explorer is not None
    assert np.array_equal(list(section.explorer.presets), [])
