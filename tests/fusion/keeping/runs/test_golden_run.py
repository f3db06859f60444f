"""Runs kept by every released format version read for ever, with the figures of the day they were made."""

from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.fusion import Report, load_head
from cer_fusion.fusion.keeping.comparison import compare_runs
from cer_fusion.fusion.keeping.runs import FORMAT_VERSION, read_run
from tests.fusion.keeping.runs.golden_run import GOLDEN, GROUPS
from tests.fusion.kept import CLASSES, rows

VERSIONS = range(1, FORMAT_VERSION + 1)


def test_there_is_a_golden_run_of_every_version():
    assert {path.name for path in GOLDEN.iterdir()} == {f"v{version}" for version in VERSIONS}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_golden_run_reads_with_all_that_it_kept(version):
    folder = GOLDEN / f"v{version}"
    run = read_run(folder)
    assert (run.config.head, run.config.classes, run.config.seed) == ("linear", CLASSES, 0)
    assert run.groups == GROUPS
    assert run.environment["device"] == "cpu"
    told = Report.load(folder / "report.json").columns[0].scores
    assert run.scores.to_dict() == told.to_dict()
    head = load_head(folder / "head", classes=CLASSES)
    asked = rows(21, seed=1, split="test")
    np.testing.assert_allclose(head.predict_proba(asked.x()), run.predictions.proba, rtol=0, atol=2e-6)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_golden_run_stands_beside_others(version):
    run = read_run(GOLDEN / f"v{version}")
    report = compare_runs({"then": run, "again": run}, resamples=100)
    assert [column.name for column in report.columns] == ["then", "again"]
