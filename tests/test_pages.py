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
