"""The Python of docs/statistics.md runs."""

from __future__ import annotations

from tests.fusion.judging.test_comparison import rows
from tests.pages import Page


def test_the_python_runs(capsys):
    (block,) = Page("docs/statistics.md").python
    exec(block, {"rows": rows(30, 0), "train": rows(30, 0), "test": rows(15, 1)})
    assert "manet.local" in capsys.readouterr().out
