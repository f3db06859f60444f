"""What docs/finetuning.md tells to type: every line parses, its recipes are real, and the small example runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from backbones import Recipe, options_of
from commands import feat, fuse
from commands.options import key_values

PAGE = (Path(__file__).parents[2] / "docs" / "finetuning.md").read_text()
BLOCKS = re.findall(r"```console\n(.*?)```", PAGE, flags=re.DOTALL)
SMALL, *OTHERS = [[line[2:] for line in block.splitlines() if line.startswith("$ ")] for block in BLOCKS]
LINES = [*SMALL, *(line for block in OTHERS for line in block)]


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_the_page_parses_and_its_recipe_and_options_are_real(line):
    import typer.main

    name, command, *args = shlex.split(line)
    app = typer.main.get_command(feat.app if name == "cer-feat" else fuse.app)
    found = app.commands[command].make_context(command, args).params  # type: ignore[attr-defined]
    if command == "finetune":
        Recipe.named(found["recipe"]).changed(key_values(found["changes"], "--set"))
    if command in ("finetune", "extract"):
        backbone = found["backbone"] if isinstance(found["backbone"], str) else found["backbone"][0]
        assert set(key_values(found["option"], "--option")) <= set(options_of(backbone))


def test_the_small_example_runs(run, drawn, tmp_path, monkeypatch):
    (tmp_path / "RAF-DB").symlink_to(drawn)
    monkeypatch.setenv("COLUMNS", "200")
    said = [run(line) for line in SMALL]
    assert sorted(path.name for path in (tmp_path / "small").iterdir()) == [
        "card.json",
        "log.jsonl",
        "weights.safetensors",
    ]
    assert "fine-tuned by recipe default; 7 classes" in said[2].stdout
    assert "-O img_size=48" in said[2].stdout
    assert "42 embedded" in said[3].stderr


def test_the_table_of_recipes_says_what_the_recipes_are():
    rows = re.findall(r"^\| `([^|]*) \|(.*)\|$", PAGE, flags=re.MULTILINE)
    names = ["default", "paper", "paper-unity", "manet"]
    assert len(rows) == 5
    for fields, cells in rows:
        for name, cell in zip(names, cells.split("|"), strict=True):
            if "as `paper`" in cell:
                continue
            recipe = Recipe.named(name).to_json()
            words = re.sub(r"\(.*?\)", "", cell).split(",")
            for field, word in zip(re.findall(r"\w+", fields), words, strict=True):
                expected = recipe[field]
                assert word.strip() == "null" if expected is None else type(expected)(word.strip()) == expected
