from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from cer_fusion.featstore import Manifest, Store
from tests.featstore.exchange.test_face_tables import frames, openface, write


@pytest.fixture
def ids(faces):
    return list(Manifest.read(faces).ids)


@pytest.fixture
def rows(ids):
    return np.random.default_rng(1).normal(size=(len(ids), 6)).astype(np.float32)


def stored(name="x"):
    return Store("features").view([name], dataset="faces").join()


def words(result):
    return " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("form", ["x.npz", "x.parquet", "x --format npy"])
def test_export_and_import_take_each_other_back(run, filled, form):
    to = form.partition(" ")[0]
    result = run(f"cer-feat export one two --output {form} --json")
    report = json.loads(result.stdout)
    assert (report["samples"], report["blocks"]) == (42, {"one": 12, "two": 12})
    assert "wrote x" in result.stderr
    told = words(run(f"cer-feat import {to} --as back"))
    assert "one 42 x 12 float32, two 42 x 12 float32; 42 names from" in told
    view = Store("features").view(["back"])
    assert list(view.widths) == ["back.one", "back.two"]
    np.testing.assert_array_equal(view.join(), Store("features").view(["one", "two"]).join())


def test_export_takes_all_features_or_a_split_and_says_what_it_chose(run, filled):
    result = run("cer-feat export --split test --output x.npz")
    assert "features: one, two, all there are" in words(result)
    assert result.stdout == "x.npz\n"
    with np.load("x.npz", allow_pickle=False) as found:
        assert set(found["splits"].tolist()) == {"test"}
        assert json.loads(str(found["cer_export"]))["split"] == "test"
    run("cer-feat export one --output p --format npy --names path")
    assert Path("p/file_names.txt").read_text().splitlines()[0] == Store("features").manifest().samples[0].path
    assert "42 matched by path" in words(run("cer-feat import p --as again"))


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("cer-feat export one --output x", 1, "does not say which form"),
        ("cer-feat export one --output x.npz --format csv", 1, "contradict each other"),
        ("cer-feat export one --output x --format npz --names path", 2, "is for --format npy"),
        ("cer-feat export onne --output x.npz", 1, "did you mean 'one'"),
        ("cer-feat export one --output x.npz --split tset", 1, "did you mean 'test'"),
        ("cer-feat export one --output x.npz --missing zero", 2, "'zero' is not one of 'error', 'drop'"),
        ("cer-feat export one --output one.npy", 1, "npy is a folder of files"),
        (
            "cer-feat export one --output names.txt --format npy",
            1,
            "names.txt is a file, and a folder is to be written",
        ),
        ("cer-feat import names.txt --as x", 1, "names.txt is nothing that can be imported: it is a text file"),
        ("cer-feat import one.npy --as x", 1, "no file_names.txt beside it"),
        ("cer-feat import one.npy --names names.txt --as x --rows-key a", 2, "is for .npz, HDF5 and .pt files, and"),
        ("cer-feat import one.npy --names names.txt --as x --fps 30", 2, "is for tables of face tools"),
        ("cer-feat import one.npy --names names.txt --as x --frames mean", 2, "is for a folder of one .npy a sample"),
        ("cer-feat import one.npy --names names.txt --names-key n --as x", 2, "not both"),
        ("cer-feat import one.npy --names names.txt --as x --frames median", 2, "'median' is not one of 'mean', 'max'"),
    ],
)
def test_mistakes_are_told_in_words(run, filled, command, code, message):
    result = run(command, code=code)
    assert message in words(result)
    assert "Traceback" not in result.output


def test_a_target_that_exists_needs_overwrite(run, filled):
    run("cer-feat export one --output x.csv")
    assert "--overwrite" in run("cer-feat export one --output x.csv", code=1).stderr
    run("cer-feat export two --output x.csv --overwrite")
    assert Path("x.csv").read_text().startswith("sample_id,label,split,group,two_0")


def test_what_thingsvision_writes_needs_no_names_option(run, faces, ids, rows):
    Path("tv").mkdir()
    np.save("tv/features.npy", rows)
    Path("tv/file_names.txt").write_text("\n".join(ids))
    assert "file_names.txt beside it" in words(run("cer-feat import tv/features.npy --as x --data faces.csv"))
    assert "folder of .npy arrays" in words(run("cer-feat import tv --as x --data faces.csv"))
    np.testing.assert_array_equal(stored(), rows)


def test_a_merbench_folder_is_pooled_when_told_to(run, faces, rows):
    Path("mer").mkdir()
    for sample, row in zip(Manifest.read(faces).samples, rows, strict=True):
        np.save(f"mer/{Path(sample.path).stem}.npy", np.stack([row - 1, row + 1]))
    assert "pool them with --frames mean" in words(run("cer-feat import mer --as x --data faces.csv", code=1))
    told = words(run("cer-feat import mer --as x --data faces.csv --frames max"))
    assert "folder of one .npy a sample, the max of its frames" in told
    assert "42 matched by file stem" in told
    np.testing.assert_array_equal(stored(), rows + 1)


@pytest.mark.parametrize(
    "content",
    [
        lambda ids, rows: torch.from_numpy(rows),
        lambda ids, rows: {"features": torch.from_numpy(rows), "names": ids},
        lambda ids, rows: {"epoch": 3, "features": torch.nn.Parameter(torch.from_numpy(rows)), "names": ids},
        lambda ids, rows: dict(zip(ids, torch.from_numpy(rows), strict=True)),
        lambda ids, rows: dict(zip(ids, torch.from_numpy(rows[:, None]), strict=True)),
    ],
    ids=["tensor", "features and names", "with more", "one a name", "one (1, d) a name"],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_that_pytorch_saved_are_imported(run, faces, ids, rows, content, legacy):
    saved = content(ids, rows)
    torch.save(saved, "x.pt", _use_new_zipfile_serialization=not legacy)
    Path("n.txt").write_text("\n".join(ids))
    names = "--names n.txt" if isinstance(saved, torch.Tensor) else ""
    assert "as PyTorch file" in words(run(f"cer-feat import x.pt --as x --data faces.csv {names}"))
    np.testing.assert_array_equal(stored(), rows)


def test_bfloat16_tensors_and_safetensors_are_imported_as_float32(run, faces, ids, rows):
    from safetensors.torch import save_file

    tensors = {name: row.clone() for name, row in zip(ids, torch.from_numpy(rows).bfloat16(), strict=True)}
    save_file(tensors, "x.safetensors")
    run("cer-feat import x.safetensors --as x --data faces.csv")
    np.testing.assert_array_equal(stored(), torch.from_numpy(rows).bfloat16().float().numpy())


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"features": Bomb()}, "holds no tensors of rows; it holds 'features' (Stub)"),
        ({"a": torch.zeros(3), "b": torch.zeros(4)}, "'b' has 4"),
        ({"a": torch.zeros(2, 3), "b": torch.zeros(2, 3)}, "--rows-key a,b"),
        ({"a": torch.zeros(2, 3)}, "holds no names for its 2 rows"),
        (torch.zeros(3), "holds no 2-D float array"),
        (torch.zeros(2, 3, dtype=torch.int64), "holds no 2-D float array; it holds rows int64 (2, 3)"),
        ([1, 2], "holds no tensors of rows; it holds a list"),
    ],
)
def test_what_pytorch_saved_is_refused_unless_it_is_rows_and_no_code_runs(run, faces, content, message):
    torch.save(content, "x.pt")
    assert message in words(run("cer-feat import x.pt --as x --data faces.csv", code=1))
    assert not Path("ran").exists()


def test_a_plain_pickle_is_refused_unopened(run, faces):
    Path("x.pkl").write_bytes(pickle.dumps({"features": Bomb()}))
    assert "no PyTorch checkpoint" in words(run("cer-feat import x.pkl --as x --data faces.csv", code=1))
    assert not Path("ran").exists()


def test_import_tells_what_it_left_out_of_names_and_rows(run, faces, ids, rows):
    rows[0] = 0
    np.save("r.npy", np.concatenate([rows, rows[1:2] + 1]))
    Path("n.txt").write_text("\n".join([*ids, "somebody_else"]), encoding="utf-8")
    command = "cer-feat import r.npy --names n.txt --as r --data faces.csv --no-share-repeats"
    assert f"1 of {len(ids) + 1} names are no" in words(run(command, code=1))
    told = words(run(f"{command} --extra drop", code=1))
    assert f"1 of {len(ids)} rows say nothing" in told
    assert ids[0] in told
    told = words(run(f"{command} --extra drop --blank drop"))
    assert "left out 1 rows of names that no sample has: somebody_else" in told
    assert f"left out 1 rows of one number throughout: {ids[0]}" in told
    run(f"{command} --extra some", code=2)
    run(f"{command} --blank some", code=2)


def test_a_face_tools_table_is_imported_by_frames_and_what_it_failed_at_is_in_quarantine(run, tmp_path):
    manifest = frames({"01": 3, "02": 2})
    manifest.write(tmp_path / "abaw.csv")
    write(tmp_path / "openface" / "01.csv", openface(3, lost=(3,)))
    write(tmp_path / "openface" / "02.csv", openface(1, seed=1))
    result = run("cer-feat import openface --as aus --rows-key au_intensity,gaze --data abaw.csv --json")
    told = words(result)
    assert "table of OpenFace, 7 columns taken and 18 others left out" in told
    assert "1 samples in quarantine, at which the tool failed" in told
    assert "1 samples have no row, first: 02/00002.jpg" in told
    assert json.loads(result.stdout)["failed"] == ["01/00003.jpg"]
    assert "success 0, confidence 0.02" in run("cer-feat quarantine").stdout
    assert "02/00002.jpg" in words(run("cer-feat export aus --output x.npz", code=1))
