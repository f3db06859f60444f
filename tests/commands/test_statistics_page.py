"""The command lines of docs/statistics.md parse, and its Python runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from commands import fuse
from tests.fusion.test_comparison import rows

PAGE = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text()
COMMANDS = re.findall(r"^\$ cer-fuse ([^#\n]*)", PAGE, flags=re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_lines_parse(line):
    command, *args = shlex.split(line)
    typer.main.get_command(fuse.app).commands[command].make_context(command, args)  # type: ignore[attr-defined]


def test_the_python_runs(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(block, {"rows": rows(30, 0), "train": rows(30, 0), "test": rows(15, 1)})
    assert "manet.local" in capsys.readouterr().out
    assert len(COMMANDS) == 6
