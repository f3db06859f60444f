"""The notebooks of the documentation: executed, small, of no machine, and every cell runs."""

from __future__ import annotations

import json
import re
from itertools import chain

import pytest

from tests.notebooks import NOTEBOOKS, outputs_of, run_cells

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def test_there_are_three():
    assert [path.name for path in NOTEBOOKS] == [
        "notebook-encoder.ipynb",
        "notebook-table.ipynb",
        "notebook-video.ipynb",
    ]


@each
def test_a_notebook_is_executed_small_and_names_no_machine(path):
    text = path.read_text(encoding="utf-8")
    assert len(text) < 30_000
    assert not re.search(r"(?<![\w.<])/(tmp|home|root|work|Users|usr|private)/|[A-Z]:\\\\", text)
    notebook = json.loads(text)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert all(one["output_type"] in ("stream", "execute_result") for cell in code for one in cell["outputs"])
    assert sum(bool(cell["outputs"]) for cell in code) >= 4


@pytest.mark.slow
@each
def test_every_cell_runs_and_shows_what_the_notebook_says(path, tmp_path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    if "frames" in path.read_text() and "video" in path.name:
        pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    again = [*code, *code]  # whoever restarts the kernel runs all cells beside what the first time left
    for cell, outputs in zip(again, chain(*(run_cells(notebook, tmp_path) for _ in range(2))), strict=True):
        kept = [(one["output_type"], sorted(one.get("data", ()))) for one in cell["outputs"]]
        assert [(one["output_type"], sorted(one.get("data", ()))) for one in outputs] == kept
        for one, before in zip(outputs, cell["outputs"], strict=True):
            if one.get("data", {}).get("text/plain") in (["True"], ["False"]):
                assert one["data"] == before["data"]


def test_a_cell_shows_what_it_prints_and_its_last_expression():
    names: dict[str, object] = {}
    assert outputs_of("a = 2", names) == []
    stream, result = outputs_of("print('x')\na + 1", names)
    assert stream["text"] == ["x\n"]
    assert result["data"] == {"text/plain": ["3"]}
    with pytest.raises(ZeroDivisionError):
        outputs_of("1 / 0", names)
