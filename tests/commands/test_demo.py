"""`cer-feat demo`: what it says of rows, without the minutes that embedding takes."""

from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.commands.feat import demo
from cer_fusion.featstore import class_set
from cer_fusion.fusion import Rows

LABELS = class_set("abaw7").labels


def rows(rng: np.random.Generator, n: int, split: str) -> Rows:
    """Encoders that each know something else: which of two classes of a pair, and which pair."""
    y = np.arange(n) % 7
    known = {"face": y // 4, "eyes": y % 2, "mouth": y // 2 % 2}
    blocks = {
        f"{name}.{branch}": (np.eye(2)[known[name]] + 0.3 * rng.normal(size=(n, 2))).astype(np.float32)
        for name in demo.PARTS
        for branch in ("local", "multi_scale")
    }
    return Rows(blocks=blocks, y=y, classes=LABELS, ids=tuple(f"{split}{i}" for i in range(n)), split=split)


@pytest.fixture
def made(tmp_path):
    rng = np.random.default_rng(0)
    return rows(rng, 140, "train"), rows(rng, 70, "test"), tmp_path


@pytest.mark.slow
def test_the_demo_ends_with_what_fusing_is_worth_and_with_a_page_to_open(made, capsys):
    train, test, folder = made
    report = demo._compare(train, test, folder, 0, shown=True)
    assert [column.name for column in report.columns] == [demo.FUSED, *demo.PARTS]
    demo._branches(train, test, folder, 0, shown=True)
    demo._page(train, test, report, folder, 0)
    demo._close(folder, report, ["manet"], as_json=False)
    said = capsys.readouterr()
    versus = report.columns[0].versus
    assert versus is not None
    assert versus.accuracy_interval.low > 0
    assert f"95 % interval {100 * versus.accuracy_interval.low:+.1f} to" in said.out
    assert "RANDOM" in said.out
    assert "0.6" in said.out
    assert said.err.count((folder / "report.html").as_uri()) == 1
    demo._close(folder, report, [], as_json=False)
    assert "RANDOM" not in capsys.readouterr().out  # with weights of its own
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("fused", *demo.PARTS))
    assert {"confusion.png", "branches.png", "simplex.png", "report.json"} <= {path.name for path in folder.iterdir()}


def test_weights_of_an_unknown_encoder_are_refused(run):
    assert "expected one of manet, vit, resnet50" in run("cer-feat demo -w vgg=random", code=2).stderr
