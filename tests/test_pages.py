"""Every command line of the README and of the pages in docs/ must parse; pages with a miniature run theirs as well."""

from __future__ import annotations

import re

import pytest

from cer_fusion.backbones import Recipe, options_of
from cer_fusion.commands.options import key_values
from tests.pages import ROOT, Page, parsed

PAGES = [Page("README.md"), *(Page(f"docs/{path.name}") for path in sorted((ROOT / "docs").glob("*.md")))]
LINES = [(page.name, line) for page in PAGES for line in page.commands if "KIND" not in line]


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{page}: {line}" for page, line in LINES])
def test_a_command_line_of_a_page_parses_and_its_recipe_and_options_are_real(page, line):
    command, found = parsed(line)
    if command == "finetune":
        Recipe.named(found["recipe"]).changed(key_values(found["changes"], "--set"))
    if command in ("finetune", "extract"):
        backbones = [found["backbone"]] if isinstance(found["backbone"], str) else found["backbone"]
        known = {key for name in backbones for option in options_of(name) for key in (option, f"{name}={option}")}
        assert {entry.rpartition("=")[0] for entry in found["option"] or []} <= known


def test_the_pages_have_command_lines_to_check():
    assert len(LINES) >= 80
    assert len(Page("README.md").commands) >= 10


def test_the_files_that_the_architecture_names_are_there():
    named = re.findall(r"`([a-z_]+(?:/[a-z_0-9]+)*/[a-z_0-9]*(?:\.py)?)`", Page("docs/architecture.md").text)
    assert len(named) > 25
    places = ("", "*/", "*/*/")
    assert [name for name in named if not any(any(ROOT.glob(f"{place}{name}")) for place in places)] == []


RUN_BY = {
    "CONTRIBUTING.md": {
        "tests/backbones/test_new_backbone.py": 1,
        "tests/backbones/test_own_network.py": 1,
        "tests/fusion/heads/test_new_head.py": 1,
        "tests/featstore/manifests/adapters/test_adapters.py": 1,
    },
    "README.md": {"tests/test_readme.py": 1},
    "docs/clusters.md": {"tests/commands/test_clusters_page.py": 2},
    "docs/explore.md": {"tests/commands/test_explore.py": 1},
    "docs/format.md": {"tests/featstore/test_golden.py": 1},
    "docs/hub.md": {"tests/commands/test_hub.py": 2},
    "docs/onnx.md": {"tests/commands/test_export.py": 1},
    "docs/report.md": {"tests/test_pages.py": 1},
    "docs/statistics.md": {"tests/commands/test_statistics_page.py": 2},
    "docs/submission.md": {"tests/commands/test_submission_page.py": 1},
    "docs/sweeps.md": {"tests/test_pages.py": 2},
}
"""Page to the tests that run its blocks of Python, and how many each runs."""


def test_every_python_block_of_a_page_is_run_by_a_test_that_names_the_page():
    pages = [*PAGES, *(Page(name) for name in ("CONTRIBUTING.md", "SECURITY.md", "benchmarks/RESULTS.md"))]
    blocks = {page.name: len(page.python) for page in pages if page.python}
    assert {name: sum(tests.values()) for name, tests in RUN_BY.items()} == blocks
    for name, tests in RUN_BY.items():
        named = f'"{name.rpartition("/")[2]}"' if name == "docs/format.md" else f'Page("{name}")'
        for test in tests:
            assert named in (ROOT / test).read_text(encoding="utf-8"), f"{test} does not run {name}"


def test_the_python_of_the_page_on_reports_writes_a_page(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    from cer_fusion.kit.table import Cell, Table

    monkeypatch.chdir(tmp_path)
    figure = Figure()
    figure.subplots().plot([0, 1])
    table = Table(title="Weights", header=("", "F1"), rows=((Cell("a"), Cell("1")),), notes=())
    [code] = Page("docs/report.md").python
    exec(code, {"table": table, "figure": figure})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(one in page for one in ("Ablation", "Weights", "<svg", "caption"))


def test_the_python_of_the_page_on_sweeps_runs(capsys):
    pytest.importorskip("pandas", reason="pandas is not installed")
    from tests.fusion.judging.test_comparison import rows

    weights, settings = Page("docs/sweeps.md").python
    names = {"train": rows(60, 0), "test": rows(30, 1)}
    exec(weights, names)
    assert capsys.readouterr().out.startswith("{'vit': ")
    exec(settings.replace("[0, 0.1, 1]", "[0, 1]").replace('"mlp"', '"mlp", epochs=2, members=1'), names)
    assert capsys.readouterr().out.startswith("{'locality': ")
