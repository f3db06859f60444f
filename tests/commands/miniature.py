"""What docs/tutorial.md expects on the disk, in miniature: schematic faces in the layouts of the real datasets."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from cer_fusion.demofaces import ActionUnits, draw_face, write_dataset
from cer_fusion.featstore import class_set
from tests.challenge.paper import PAPER
from tests.challenge.templates import template_of
from tests.featstore.manifests.adapters.layouts import fill, npy

UNITS: Mapping[str, tuple[int, ...]] = {
    "Neutral": (), "Happiness": (6, 12), "Sadness": (1, 4, 15), "Surprise": (1, 2, 5, 26), "Fear": (1, 2, 4, 5, 20),
    "Disgust": (9, 15), "Anger": (4, 5, 7, 10), "Contempt": (12, 17),
}  # fmt: skip
"""Action units of the basic expressions, near enough for schematic faces."""


def write_datasets(folder: Path) -> None:
    """RAF-DB with both parts, AffectNet, and the paper's table."""
    counts = dict.fromkeys(class_set("abaw7").labels, 5)  # as many a class as the folds that choose weights
    drawn = write_dataset(folder / "RAF-DB", per_class_train=counts, per_class_test=dict.fromkeys(counts, 2))
    shutil.copy(drawn.pictures / "train_0001_aligned.jpg", drawn.pictures / "train_0099_aligned.jpg")
    with drawn.label_file.open("a") as labels:
        labels.write("train_0099.jpg 2\n")  # Happily Disgusted, which the challenge does not have
    fill(folder, _raf_db_basic() | _affectnet() | {"paper.csv": PAPER})


def write_checkpoints(folder: Path) -> None:
    """Random weights under the names of those that the page starts from."""
    import timm
    import torch

    from cer_fusion.backbones.zoo.manet import MANet

    torch.save({"state_dict": MANet(7).state_dict()}, folder / "ms_celeb.pth.tar")
    torch.save(timm.create_model("test_resnet").state_dict(), folder / "fer2013.pth")


def write_challenge(folder: Path) -> None:
    """Two videos, one with a stretch that has no face, and a template that expects a frame more of it."""
    from tests.frames.clips import shots, write_clip

    (folder / "videos").mkdir()
    write_clip(folder / "videos" / "01.mp4", shots([(3, [(0, 60, 30)]), (2, []), (3, [(3, 20, 40)])]))
    write_clip(folder / "videos" / "02.mp4", shots([(3, [(1, 60, 30)])]))
    template_of(folder, {"01": 9, "02": 3})


def _face(label: str, seed: int) -> bytes:
    """A picture that no other seed gives, the same in every run."""
    rng = np.random.default_rng(seed)
    strength = {unit: float(rng.uniform(0.5, 1)) for unit in UNITS[label]}
    pixels = np.asarray(draw_face(ActionUnits.from_numbers(strength), size_px=64)).copy()
    pixels[0, 0] = rng.integers(0, 256, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _raf_db_basic() -> dict[str, bytes | str]:
    labels, lines, files = class_set("rafdb_basic7").labels, [], {}
    for split, count in (("train", 21), ("test", 7)):
        for i in range(count):
            lines.append(f"{split}_{i + 1:05d}.jpg {i % 7 + 1}\n")
            files[f"RAF-DB/basic/Image/aligned/{split}_{i + 1:05d}_aligned.jpg"] = _face(labels[i % 7], len(lines))
    return files | {"RAF-DB/basic/EmoLabel/list_patition_label.txt": "".join(lines)}


def _affectnet() -> dict[str, bytes]:
    files = {}
    for split, count in (("train_set", 16), ("val_set", 8)):
        for i in range(count):
            files[f"AffectNet/{split}/annotations/{i}_exp.npy"] = npy(str(i % 8))
            files[f"AffectNet/{split}/images/{i}.jpg"] = _face(class_set("affectnet8").labels[i % 8], 100 + len(files))
    return files
