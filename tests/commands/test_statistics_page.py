"""The Python of docs/statistics.md runs."""

from __future__ import annotations

from tests.fusion.judging.test_comparison import rows
from tests.pages import Page


def test_the_python_runs(capsys):
    metrics, diagnosis = Page("docs/statistics.md").python
    given = {"rows": rows(30, 0), "train": rows(30, 0), "test": rows(15, 1)}
    exec(metrics, dict(given))
    assert "'cohen_kappa_score': " in capsys.readouterr().out
    exec(diagnosis, given)
    assert "manet.local" in capsys.readouterr().out
