"""The README's Python is run as printed; its command lines must parse."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from commands import feat, fuse
from featstore import Manifest, Sample, Store, class_set, import_rows

README = (Path(__file__).parents[1] / "README.md").read_text()
COMMANDS = re.findall(r"^\$ (cer-(?:feat|fuse) [^#\n]*)", README, flags=re.MULTILINE)


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    y = np.arange(140) % 7
    samples = tuple(
        Sample(
            sample_id=f"s{i}", path=f"{i}.jpg", label=class_set("abaw7").labels[k], split="test" if i > 98 else "train"
        )
        for i, k in enumerate(y)
    )
    manifest = Manifest(samples=samples, classes=class_set("abaw7"), root=tmp_path)
    store = Store.create("demo-out/features")
    for name in ("vit", "manet", "resnet50"):
        rows = (np.eye(7)[y] @ rng.normal(size=(7, 8)) + rng.normal(size=(140, 8))).astype(np.float32)
        import_rows(rows, manifest.ids, manifest, store, dataset="faces", name=name)
    for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
        exec(block, {})
    assert "'mlp': 0." in capsys.readouterr().out


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_lines_of_the_readme_parse(line):
    import typer.main

    name, command, *args = shlex.split(line.split(">")[0])
    app = typer.main.get_command(feat.app if name == "cer-feat" else fuse.app)
    found = app.commands[command]  # type: ignore[attr-defined]
    found.make_context(command, list(args))


def test_the_readme_has_command_lines_to_check():
    assert len(COMMANDS) >= 10
