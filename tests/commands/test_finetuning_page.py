"""The small example of docs/finetuning.md runs, and its recipes are what it says."""

from __future__ import annotations

import re

from cer_fusion.backbones import Recipe
from tests.pages import Page, steps_of

PAGE = Page("docs/finetuning.md")
SMALL = [step.command for step in steps_of(PAGE.blocks("console")[0])]


def test_the_small_example_runs(run, drawn, tmp_path, monkeypatch):
    (tmp_path / "RAF-DB").symlink_to(drawn)
    monkeypatch.setenv("COLUMNS", "200")
    said = [run(line) for line in SMALL]
    assert sorted(path.name for path in (tmp_path / "small").iterdir()) == [
        "card.json",
        "log.jsonl",
        "pictures.txt",
        "weights.safetensors",
    ]
    assert "fine-tuned by recipe default; 7 classes" in said[2].stdout
    assert "-O img_size=48" in said[2].stdout
    assert "42 embedded" in said[3].stderr


def test_the_table_of_recipes_says_what_the_recipes_are():
    rows = re.findall(r"^\| `([^|]*) \|(.*)\|$", PAGE.text, flags=re.MULTILINE)
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
