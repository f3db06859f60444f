"""Notebooks of the documentation: their cells run in order, and what they show written beside them.

    python -m tests.notebooks        # run docs/*.ipynb again and write what their cells show now

The cells are run here, in one namespace, and not through nbclient: that would bring a kernel, ZeroMQ and a process a
notebook (a dozen packages) for what `exec` does with cells that are plain Python, and a test could not see what a cell
left behind. No path of the machine goes into the files.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))


def source(cell: dict[str, Any]) -> str:
    """Return a cell's text."""
    return "".join(cell["source"])


def run_cells(notebook: dict[str, Any], folder: Path) -> Iterator[list[dict[str, Any]]]:
    """Run the code cells of a notebook in a folder; yield the outputs of each."""
    names: dict[str, Any] = {"__name__": "__main__"}
    before = Path.cwd()
    os.chdir(folder)
    try:
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                yield outputs_of(source(cell), names)
    finally:
        os.chdir(before)


def outputs_of(code: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a cell: what it prints, and what its last expression is."""
    body = ast.parse(code).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), "<cell>", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)  # type: ignore[attr-defined]
    found: list[dict[str, Any]] = []
    if printed.getvalue():
        found.append({"name": "stdout", "output_type": "stream", "text": printed.getvalue().splitlines(keepends=True)})
    if value is not None:
        shown = {"text/plain": repr(value).splitlines(keepends=True)}
        if hasattr(value, "_repr_html_"):
            shown = {"text/html": value._repr_html_().splitlines(keepends=True)} | shown
        found.append({"data": shown, "execution_count": None, "metadata": {}, "output_type": "execute_result"})
    return found


def refresh(path: Path) -> None:
    """Run a notebook in an empty folder, and write what its cells show."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        shown = list(run_cells(notebook, Path(folder)))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, (cell, outputs) in enumerate(zip(code, shown, strict=True), start=1):
        cell["outputs"], cell["execution_count"] = outputs, number
        for one in outputs:
            if "execution_count" in one:
                one["execution_count"] = number
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for each in NOTEBOOKS:
        refresh(each)
        print(each.name)
