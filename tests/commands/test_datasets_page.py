"""Every command of docs/datasets.md is run, in its order, on miniatures that bear the page's names."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cer_fusion.featstore import Store
from tests.featstore.exchange.test_face_tables import blendshapes, openface, pyfeat, write
from tests.featstore.manifests.adapters.layouts import fill, npy, zipped
from tests.pages import Page

COMMANDS = [line for line in Page("docs/datasets.md").commands if "KIND" not in line]
VOTES = ("0,0,4,0,3,0,0,0,3,0", "0,9,1,0,0,0,0,0,0,0")
EXPR = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other\n"


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def disk(run, tmp_path) -> Path:
    """What the page's commands find."""
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    names, emotions = [f"{i}.png" for i in range(20)], ["happy", "neutral"] * 10
    folds = ["train"] * 16 + ["test"] * 4
    pixels = " ".join(["7"] * 2304)
    fill(
        tmp_path,
        {
            "RAF-DB/compound/EmoLabel/list_patition_label.txt": "train_00001.jpg 8\ntest_0001.jpg 2\n",
            "RAF-DB/basic/EmoLabel/list_patition_label.txt": "train_00001.jpg 5\ntest_0001.jpg 7\n",
            "RAF-CE/RAFCE_emolabel.txt": "0001.jpg 3\n",
            "RAF-CE/RAFCE_partition.txt": "0001.jpg 0\n",
            "AffectNet/train_set/annotations/0_exp.npy": npy("7"),
            "Aff-Wild2/Train_Set/v.txt": EXPR + "1\n",
            "Aff-Wild2/AU/Train_Set/v.txt": "AU1,AU12\n0,1\n",
            "Aff-Wild2/v/00001.jpg": png(1),
            "fer2013.csv": f"emotion,pixels,Usage\n0,{pixels},Training\n",
            "FERPLUS/FER2013Train/label.csv": "".join(f'{i}.png,"(0)",{votes}\n' for i, votes in enumerate(VOTES)),
            "FRAMES/01/00001.jpg": png(2),
            "FRAMES/01/00002.jpg": png(4),
            "faces/sadly_angry/1.png": png(3),
            "list.csv": "file,emotion,fold,subject\n"
            + "".join(f"{n},{e},{f},s{i}\n" for i, (n, e, f) in enumerate(zip(names, emotions, folds, strict=True))),
            **{f"faces/{name}": png(10 + i) for i, name in enumerate(names)},
        },
    )
    write(tmp_path / "processed" / "01.csv", openface(2))
    write(tmp_path / "fex.csv", pyfeat([("01.mp4", 0), ("01.mp4", 1)]))
    write(tmp_path / "blendshapes.csv", blendshapes({"video": ["01", "01"], "frame": [0, 1]}, 2))
    zipped(tmp_path / "faces")
    parquet.write_table(arrow.table({"file": names, "emotion": emotions}), tmp_path / "list.parquet")
    for part, i in (("a", 0), ("b", 1)):
        fill(tmp_path, {f"{part}.csv": f"sample_id,path,label\n{i},{i}.png,happy\n"})
    return tmp_path


def test_the_pages_commands_run_in_its_order_and_write_what_they_name(run, disk):
    assert len(COMMANDS) == 22
    for command in COMMANDS:
        run(command)
        written = re.search(r"-o (\S+)", command)
        assert written is None or (disk / written[1]).exists(), command
    assert (disk / "fer.pictures.zip").exists()
    assert (disk / "votes.csv").read_text().count("\n") == 2
    assert (disk / "compounds.csv").read_text().startswith("sample_id,Fearfully Surprised,")
    assert (disk / "targets.csv").read_text() == "sample_id,AU1,AU12\nv/00001,0,1\n"
    views = {name: Store(disk / "features").view([name]) for name in ("openface", "pyfeat", "mediapipe")}
    assert all(view.ids == ("01/00001.jpg", "01/00002.jpg") for view in views.values())
