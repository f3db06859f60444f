"""Every command of docs/video.md, run in order on a miniature."""

from __future__ import annotations

import re

import pytest
from PIL import Image

pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")

from cer_fusion.fusion.keeping.answers import read_predictions
from tests.challenge.templates import template_of
from tests.commands.test_frames import detector, videos  # noqa: F401  # fixtures
from tests.frames.drawn import canvas
from tests.pages import Page, options, parsed

PAGE = Page("docs/video.md")


def test_every_command_of_the_page_runs_from_video_to_checked_submission(run, detector, videos, faces, tmp_path):  # noqa: F811
    run("cer-feat extract --backbone timm:resnet18 --weights random --option img_size=64 --as r18 --data faces.csv")
    run("cer-fuse train --head linear --features r18")
    template_of(tmp_path, {"01": 11, "02": 3})
    Image.fromarray(canvas((0, 90, 30))[0]).save(tmp_path / "face.png")
    assert len(PAGE.commands) == 13
    for line in PAGE.commands:
        if "audio:" in line:  # what libraries and networks of their own are for: tests/commands/test_sound.py
            assert parsed(line)[1]["videos"] is not None
        else:
            run(line)
    assert len((tmp_path / "submission.txt").read_text().splitlines()) == 1 + 14  # frames without a face answered too
    whole = read_predictions(tmp_path / "predictions.csv")
    assert (read_predictions(tmp_path / "both.csv").proba == whole.proba).all()


def test_every_option_the_page_names_exists():
    assert set(re.findall(r"`(--[a-z-]+)", PAGE.text)) <= options()
