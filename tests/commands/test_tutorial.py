"""Every command of docs/tutorial.md, run in order on a miniature of what the page expects on the disk."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")

from cer_fusion.featstore import Store
from tests.commands.miniature import write_challenge, write_checkpoints, write_datasets
from tests.commands.test_frames import detector  # noqa: F401  # fixture
from tests.pages import Page

PAGE = Page("docs/tutorial.md")
SMALLER = (
    ("finetune -b vit -d", "finetune -b vit -w random -d"),  # MAE's weights would be downloaded
    ("-b vit", "-b timm:test_vit"),
    ("-w vit=", "-w timm:test_vit="),
    ("-b resnet50", "-b timm:test_resnet"),
    ("-w resnet50=", "-w timm:test_resnet="),
    ("--features vit", "--features test_vit"),
    ("--features resnet50", "--features test_resnet"),
    ("--recipe ", "--set epochs=1 --set batch_size=8 --recipe "),
)
"""What a command becomes where the real thing is too large for a test. MA-Net is itself, at 64 pixels, not 224."""
ENDS_WITH_1 = ("cer-fuse check-table",)


def smaller(command: str) -> str:
    for words, others in SMALLER:
        command = command.replace(words, others)
    return command


def pattern(printed: str) -> str:
    """A line of the page as a regular expression: numbers are those of a miniature, `…` stands for anything."""
    parts = re.split(r"(…|\d[\d,.]*)", printed)  # every other part is a number or the dots
    return "".join(
        re.escape(part) if i % 2 == 0 else ".*" if part == "…" else r"\d[\d,.]*" for i, part in enumerate(parts)
    )


@pytest.mark.slow
def test_every_command_of_the_page_runs_and_prints_what_the_page_says(run, detector, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("cer_fusion.backbones.zoo.manet.SIZE_PX", 64)
    write_datasets(tmp_path)
    write_checkpoints(tmp_path)
    write_challenge(tmp_path)
    for step in PAGE.steps:
        result = run(smaller(step.command), code=int(step.command.startswith(ENDS_WITH_1)))
        for line in step.printed:
            assert re.search(pattern(line), result.output), f"{step.command}: {line}"
    assert len(PAGE.steps) == 33
    assert (tmp_path / "submission.txt").read_text().count("\n") == 1 + 12
    assert {feature.name for feature in Store("features").features("compound")} >= {"manet", "vit_unity"}
