"""Tables are whole at 80, 100 and 120 columns: no name and no number cut or broken, no line too long."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from cer_fusion.commands import tables
from cer_fusion.commands.tables import Grid, broken, laid_out, out_table, records
from cer_fusion.kit.table import rounded
from tests.commands.wide import HEADS, SCREENS, WIDTHS, screen, sheet

_TREE = Path(__file__).resolve().parents[2]
_PRINTED = sorted(name for name in SCREENS if name not in ("show",))


def _whole(text: str, lines: list[str]) -> bool:
    return any(text in line for line in lines)


def check(grids: list[Grid], text: str, width: int) -> None:
    """All that stands in a table stands in the text on one line, words of a title or a list one by one."""
    lines = text.splitlines()
    for grid in grids:
        for c, title in enumerate(grid.header):
            named = grid.named and c >= grid.labels
            turned = grid.named and not _whole(title, lines) and c == 0  # a turned table has a title of its own there
            assert turned or all(_whole(word, lines) for word in ([title] if named else title.split()))
        for row in grid.rows:
            for c, cell in enumerate(row):
                parts = cell.split() if c in grid.words else cell.split("\n")
                label = grid.named and c == 0 and not _whole(cell, lines)  # a title of a turned table
                for part in cell.split() if label else parts:
                    assert _whole(part, lines), part
    for line in lines:
        words = line.split() if not line.startswith(("│", "┃")) else [line]
        assert cell_len(line) <= width or max(map(cell_len, words)) > width - 6, line


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", SCREENS)
def test_every_table_is_whole_on_a_narrow_terminal(name: str, width: int) -> None:
    text, grids = screen(name, width)
    assert (name in ("show",)) or grids
    check(grids, text, width)


@pytest.mark.parametrize("name", SCREENS)
def test_numbers_for_people_have_four_digits(name: str) -> None:
    """A decimal fraction has four digits at most, and a hundred per cent its two decimals; whole numbers have all."""
    text, _ = screen(name, None)
    numbers = re.findall(r"(?<![\w.,])\d[\d,]*\.\d+(?![\w.])", text)
    long = [number for number in numbers if len(re.sub(r"[,.]", "", number).lstrip("0")) > 4]
    assert set(long) <= {"100.00"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"), (0.004, "0.00"), (0.974, "0.97"), (6.1, "6.10"), (75.491, "75.49"), (123.456, "123.5"),
        (1234.56, "1,235"), (123456.7, "123,457"), (-12.345, "-12.35"), (float("nan"), "nan"),
    ],
)  # fmt: skip
def test_a_number_is_rounded_in_one_place(value: float, text: str) -> None:
    assert rounded(value) == text


@pytest.mark.parametrize("width", WIDTHS)
def test_every_table_looks_as_it_was_looked_at(width: int) -> None:
    """After a change that is meant: python -m tests.commands.wide, and look at what it changed."""
    kept = (Path(__file__).parent / "screens" / f"{width}.txt").read_text(encoding="utf-8")
    assert sheet(width) == kept


@pytest.mark.parametrize("name", _PRINTED)
def test_a_pipe_gets_every_table_in_one_piece(name: str) -> None:
    text, grids = screen(name, None)
    for grid in grids:
        assert any(all(title in line for title in grid.header) for line in text.splitlines())
        for row in grid.rows:
            assert any(all(part in line for part in row) for line in text.splitlines()) or any(
                "\n" in one for one in row
            )


def test_a_comparison_of_nine_heads_is_turned_a_row_a_head() -> None:
    lines = screen("compare", 120)[0].splitlines()
    assert [line.split()[1] for line in lines if line.startswith("│")][:9] == list(HEADS)
    assert sum(line.startswith("┃ Head ") for line in lines) >= 2  # in groups of columns


def test_every_table_of_the_commands_has_a_screen() -> None:
    """No module draws tables of its own, and each that prints one stands among the screens."""
    printing = re.compile(r"\b(?:out_table|out_facts|show_table|print_tables?)\(")
    found = {}
    for path in (_TREE / "commands").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "rich.table import Table" not in text or path.name == "tables.py", path
        if printing.search(text) and path.name not in ("tables.py", "outputs.py"):
            found[path.relative_to(_TREE / "commands").as_posix()] = len(printing.findall(text))
    assert set(found) == {
        "doctor/__init__.py", "feat/backbones.py", "feat/cloud.py", "feat/demo.py", "feat/frames.py",
        "feat/manifest.py", "feat/store.py", "feat/upkeep.py", "fuse/ablate.py", "fuse/check_table.py",
        "fuse/compare.py", "fuse/diagnose.py", "fuse/evaluate.py", "fuse/heads.py", "fuse/predict.py",
        "fuse/recipes.py", "fuse/smooth.py", "fuse/submit.py", "fuse/train.py",
    }  # fmt: skip


_NAMES = st.text(st.sampled_from("abc_-.@/字é 1"), min_size=1, max_size=50).map(str.strip).filter(bool)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    columns = draw(st.integers(2, 10))
    rows = draw(st.integers(0, 6))
    line = st.tuples(*[_NAMES] * columns)
    return Grid(
        header=draw(line),
        rows=tuple(draw(line) for _ in range(rows)),
        labels=1,
        words=frozenset(draw(st.sets(st.integers(1, columns - 1), max_size=2))),
        named=draw(st.sampled_from(["", "Head"])),
        rules=frozenset(draw(st.sets(st.integers(0, max(rows - 1, 0)), max_size=2))) if rows else frozenset(),
    )


@settings(max_examples=60, deadline=None)
@given(grids(), st.integers(20, 130))
def test_any_table_is_whole_at_any_width(grid: Grid, width: int) -> None:
    pieces = laid_out(grid, width)
    if pieces is None:
        text = "\n".join(line for line, _ in records(grid, width))
    else:
        from rich.console import Console

        stream = io.StringIO()
        for piece in pieces:
            assert sum(piece.widths) + 3 * len(piece.widths) + 1 <= width
            Console(file=stream, width=width, emoji=False, markup=False, legacy_windows=False).print(piece.drawn())
        text = stream.getvalue()
    drawn = [re.sub(r"\s+", " ", line) for line in text.splitlines()]
    for row in grid.rows:
        for c, cell in enumerate(row):
            turned = grid.named and c == 0
            for part in cell.split() if c in grid.words or turned else [re.sub(r"\s+", " ", cell)]:
                assert any(part in line for line in drawn), part


def test_a_line_is_broken_between_words_and_never_within_a_figure() -> None:
    text = "Macro F1 is 29.59 [21.5, 39.3] here and 78.09 % there, n = 397, of Fearfully Surprised 46/23."
    for width in range(1, 100):
        lines = broken(text, width)
        assert " ".join(lines) == text
        for figure in ("29.59 [21.5, 39.3]", "78.09 %", "n = 397,", "Fearfully Surprised 46/23."):
            assert any(figure in line for line in lines)
        assert all(len(line) <= max(width, 26) for line in lines)


def test_columns_says_the_width_also_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    for said, width in (("80", 80), ("0", None), ("wide", None), ("", None)):
        monkeypatch.setenv("COLUMNS", said)
        assert tables.screen_width() == width
    monkeypatch.delenv("COLUMNS")
    assert tables.screen_width() is None


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals of its own on this system")
@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_says_its_own_width(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl
    import struct
    import termios

    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    with os.fdopen(its, "w", encoding="utf-8") as terminal, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", terminal)
        patched.setattr(os, "get_terminal_size", lambda fd, real=os.get_terminal_size: real(its))
        out_table(["head", *HEADS[:3]], [["accuracy", *["29.59 [21.5, 39.3]"] * 3]], named="head")
        terminal.write("end")
        terminal.flush()
        written = b""
        while not written.endswith(b"end"):
            written += os.read(ours, 4096)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", written.decode())
    os.close(ours)
    assert all(name in shown for name in HEADS[:3])
    assert max(map(len, shown.splitlines())) <= width
