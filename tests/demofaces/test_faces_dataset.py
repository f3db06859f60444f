"""Datasets of drawn faces in RAF-DB's compound layout."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cer_fusion.demofaces import COMPOUNDS, TEST_COUNTS, TRAIN_COUNTS, DatasetError, UnknownCompoundError, write_dataset

RAFDB_IDS = {c.name: c.rafdb_id for c in COMPOUNDS}
FEW = {"per_class_train": {"Happily Surprised": 3, "Sadly Angry": 1}, "per_class_test": {"Sadly Angry": 2}}


def labels(dataset):
    return [line.split(" ") for line in dataset.label_file.read_text().splitlines()]


def digests(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    """A third of the default set: 93 training and 46 test faces."""
    root = tmp_path_factory.mktemp("faces")
    third = [{name: count // 3 for name, count in counts.items()} for counts in (TRAIN_COUNTS, TEST_COUNTS)]
    return write_dataset(root, per_class_train=third[0], per_class_test=third[1])


def test_the_layout_is_that_of_the_compound_part_of_rafdb(tmp_path):
    write_dataset(tmp_path, **FEW)
    assert sorted(digests(tmp_path)) == [
        "compound/EmoLabel/list_patition_label.txt",
        "compound/Image/aligned/test_0001_aligned.jpg",
        "compound/Image/aligned/test_0002_aligned.jpg",
        "compound/Image/aligned/train_0001_aligned.jpg",
        "compound/Image/aligned/train_0002_aligned.jpg",
        "compound/Image/aligned/train_0003_aligned.jpg",
        "compound/Image/aligned/train_0004_aligned.jpg",
    ]


def test_the_labels_are_rafdb_ids_in_the_counts_asked_for(tmp_path):
    rows = labels(write_dataset(tmp_path, **FEW))
    assert [name for name, _ in rows] == [f"train_000{i}.jpg" for i in (1, 2, 3, 4)] + [
        "test_0001.jpg",
        "test_0002.jpg",
    ]
    assert sorted(label for _, label in rows[:4]) == ["1", "1", "1", "4"]
    assert [label for _, label in rows[4:]] == ["4", "4"]


def test_the_default_set_is_unbalanced_like_the_real_one():
    assert sum(TRAIN_COUNTS.values()) == 196
    assert sum(TEST_COUNTS.values()) == 98
    for counts in (TRAIN_COUNTS, TEST_COUNTS):
        assert set(counts) == set(RAFDB_IDS)
        assert max(counts, key=counts.__getitem__) == "Happily Surprised"
        assert min(counts, key=counts.__getitem__) == "Sadly Surprised"
        assert max(counts.values()) == 4 * min(counts.values())


def test_pictures_are_100_pixel_colour_jpegs_and_all_different(some):
    assert some.train == sum(count // 3 for count in TRAIN_COUNTS.values())
    paths = sorted(some.pictures.iterdir())
    assert len(paths) == some.train + some.test
    for path in paths[:5] + paths[-5:]:
        with Image.open(path) as picture:
            assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (100, 100))
    assert len(set(digests(some.pictures).values())) == len(paths)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_dataset(tmp_path / name, seed=seed, **FEW)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    first, other = digests(tmp_path / "a"), digests(tmp_path / "c")
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first if name.endswith(".jpg"))


def test_running_again_changes_nothing_and_completes_an_interrupted_run(tmp_path):
    dataset = write_dataset(tmp_path, **FEW)
    before = digests(tmp_path)
    times = {path: path.stat().st_mtime_ns for path in dataset.pictures.iterdir()}
    dataset.label_file.unlink()
    lost = dataset.pictures / "train_0002_aligned.jpg"
    lost.rename(lost.with_name(lost.name + ".part"))
    write_dataset(tmp_path, **FEW)
    assert digests(tmp_path) == before
    assert all(path.stat().st_mtime_ns == time for path, time in times.items() if path != lost)


def test_a_folder_that_holds_other_pictures_is_refused_untouched(tmp_path):
    stranger = tmp_path / "compound" / "Image" / "aligned" / "train_0099_aligned.jpg"
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"someone's real face")
    with pytest.raises(DatasetError, match="train_0099_aligned"):
        write_dataset(tmp_path, **FEW)
    assert list(digests(tmp_path)) == ["compound/Image/aligned/train_0099_aligned.jpg"]


def test_a_folder_with_another_list_of_labels_is_refused_untouched(tmp_path):
    write_dataset(tmp_path, **FEW)
    before = digests(tmp_path)
    with pytest.raises(DatasetError, match="another list of labels"):
        write_dataset(
            tmp_path, per_class_train={"Happily Surprised": 1, "Sadly Angry": 3}, per_class_test={"Sadly Angry": 2}
        )
    assert digests(tmp_path) == before


def test_a_changed_picture_is_named_and_not_overwritten(tmp_path):
    dataset = write_dataset(tmp_path, **FEW)
    changed = dataset.pictures / "train_0003_aligned.jpg"
    changed.write_bytes(changed.read_bytes() + b"!")
    with pytest.raises(DatasetError, match="train_0003_aligned"):
        write_dataset(tmp_path, **FEW)
    assert changed.read_bytes().endswith(b"!")


def test_a_file_where_a_folder_is_needed_is_refused(tmp_path):
    (tmp_path / "faces").write_text("not a folder")
    with pytest.raises(DatasetError, match="this is a file"):
        write_dataset(tmp_path / "faces", **FEW)


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        ({"Happily Surprised": -1}, DatasetError, "0 or more"),
        ({}, DatasetError, "would be empty"),
        ({"Sadly Angry": 0}, DatasetError, "would be empty"),
        ({"Hapily Surprised": 1}, UnknownCompoundError, "did you mean 'Happily Surprised'"),
    ],
)
def test_counts_that_make_no_dataset_are_refused_before_anything_is_written(tmp_path, counts, error, message):
    with pytest.raises(error, match=message):
        write_dataset(tmp_path, per_class_train=counts, per_class_test={"Sadly Angry": 1})
    assert not list(tmp_path.iterdir())


def test_a_negative_seed_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="seed=-1"):
        write_dataset(tmp_path, seed=-1, **FEW)


def test_progress_is_reported_picture_by_picture_and_the_end_is_logged(tmp_path, caplog):
    seen = []
    with caplog.at_level(logging.INFO, logger="cer_fusion.demofaces"):
        write_dataset(tmp_path, on_picture=lambda done, total: seen.append((done, total)), **FEW)
    assert seen == [(i, 6) for i in range(1, 7)]
    assert "4 training and 2 test faces" in caplog.text


def test_a_linear_probe_on_edges_finds_the_expression_far_above_chance_but_not_always(some):
    rows = labels(some)
    pictures = [
        Image.open(some.pictures / f"{name[:-4]}_aligned.jpg").convert("L").resize((50, 50)) for name, _ in rows
    ]
    x = edge_histograms(np.stack([np.asarray(picture, dtype=float) / 255 for picture in pictures]))
    y = np.array([int(label) for _, label in rows])
    train = np.array([name.startswith("train") for name, _ in rows])
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)).fit(x[train], y[train])
    hits = probe.predict(x[~train]) == y[~train]
    chance = max(np.mean(y[~train] == k) for k in set(y))
    assert chance + 0.15 < hits.mean() < 1.0


def edge_histograms(grey):
    """Histograms of 8 edge directions in 10 x 10 cells, (n, 50, 50) -> (n, 800)."""
    down, right = np.gradient(grey, axis=(1, 2))
    strength, direction = np.hypot(down, right), ((np.arctan2(down, right) % np.pi) / np.pi * 8).astype(int) % 8
    cells = [(strength * (direction == k)).reshape(-1, 10, 5, 10, 5).sum(axis=(2, 4)) for k in range(8)]
    stacked = np.stack(cells, axis=-1)
    return (stacked / (np.linalg.norm(stacked, axis=-1, keepdims=True) + 0.1)).reshape(len(grey), -1)


def test_importing_demofaces_brings_no_other_package_along():
    heavy = ("torch", "sklearn", "h5py", "matplotlib")
    code = f"import sys, cer_fusion.demofaces; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
