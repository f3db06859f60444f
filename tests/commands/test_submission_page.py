"""Every command and the Python of docs/submission.md, run in order on a miniature."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from commands.fuse import app
from tests.commands.videos import write_miniature

PAGE = (Path(__file__).parents[2] / "docs" / "submission.md").read_text()
COMMANDS = re.findall(r"^\$ (cer-fuse .*)$", PAGE, flags=re.MULTILINE)


def test_every_command_of_the_page_runs(run, tmp_path):
    write_miniature(tmp_path)
    for line in COMMANDS:
        run(line)
    for name in ("submission.txt", "calmer.txt", "bbse.txt", "known.txt", "em.txt"):
        run(f"cer-fuse submit --check {name} --template template.csv")
    assert len(COMMANDS) >= 11


def test_the_python_of_the_page_runs(tmp_path, monkeypatch):
    write_miniature(tmp_path)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, {})


@pytest.mark.parametrize("command", ["smooth", "submit", "choose"])
def test_every_option_the_page_names_exists(command):
    import typer.main

    known = {option for one in typer.main.get_command(app).commands.values() for p in one.params for option in p.opts}
    named = {word for line in COMMANDS for word in shlex.split(line) if word.startswith("--")}
    named |= set(re.findall(r"`(--[a-z-]+)", PAGE))
    assert named <= known
    assert any(line.startswith(f"cer-fuse {command} ") for line in COMMANDS)
