"""Every command and the Python of docs/submission.md, run in order on a miniature."""

from __future__ import annotations

import re

import pytest

from tests.commands.videos import write_miniature
from tests.pages import Page, options

PAGE = Page("docs/submission.md")
COMMANDS = PAGE.commands


def test_every_command_of_the_page_runs(run, tmp_path):
    write_miniature(tmp_path)
    for line in COMMANDS:
        run(line)
    for name in ("submission.txt", "smooth.txt", "calmer.txt", "bbse.txt", "known.txt", "em.txt"):
        run(f"cer-fuse submit --check {name} --template template.csv")
    assert len(COMMANDS) >= 11


def test_the_python_of_the_page_runs(tmp_path, monkeypatch):
    write_miniature(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert PAGE.python
    for block in PAGE.python:
        exec(block, {})


@pytest.mark.parametrize("command", ["smooth", "submit", "choose"])
def test_every_option_the_page_names_exists(command):
    assert set(re.findall(r"`(--[a-z-]+)", PAGE.text)) <= options()
    assert any(line.startswith(f"cer-fuse {command} ") for line in COMMANDS)
