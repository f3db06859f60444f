"""`extract` and `import` do not replace a dataset's manifest by accident."""

from __future__ import annotations

import json

import pytest

IMPORT = "cer-feat import one.npy --names names.txt --as one"


@pytest.fixture
def shorter(filled, faces, tmp_path):
    """A debug list of the same file name, in another folder."""
    from cer_fusion.featstore import Manifest

    manifest = Manifest.read(faces)
    few = manifest.keep(i < 20 for i in range(len(manifest)))
    (tmp_path / "debug").mkdir()
    few.write(tmp_path / "debug" / "faces.csv")
    return few


def test_a_debug_list_of_the_same_name_is_refused_unless_it_is_meant(run, shorter, filled):
    command = "cer-feat extract -b timm:test_vit -w random --data debug/faces.csv"
    for more in ("", " --workers 2"):
        said = " ".join(run(command + more, code=1).stderr.split())
        assert "has 42 samples, and 22 of them are not among the 20" in said
        assert "--dataset NAME" in said
        assert "--replace-manifest" in said
    assert json.loads(run("cer-feat ls --json").stdout)["features"][0]["samples"] == 42
    run(f"{command} --dataset debug")
    assert "22 removed" in run(f"{command} --replace-manifest").stderr
    assert {e["samples"] for e in json.loads(run("cer-feat ls --json").stdout)["features"]} == {20}


def test_import_says_in_numbers_what_a_grown_list_changes(run, filled, faces, shorter):
    import numpy as np

    np.save("few.npy", np.eye(20, dtype=np.float32))
    with open("few.txt", "w") as file:
        file.write("\n".join(shorter.ids))
    run("cer-feat import few.npy --names few.txt --as few --data debug/faces.csv --dataset debug")
    said = run(f"{IMPORT} --data faces.csv --dataset debug").stderr
    assert "22 added" in said
    refused = run("cer-feat import few.npy --names few.txt --as few --data debug/faces.csv --dataset faces", code=1)
    assert "22 of them are not among" in " ".join(refused.stderr.split())


@pytest.mark.parametrize("data", ["faces", "features/faces/manifest.csv"])
def test_the_class_order_is_never_guessed_from_a_datasets_csv(run, filled, faces, data):
    (filled / "faces" / "manifest.json").unlink()
    before = (filled / "faces" / "manifest.csv").read_bytes()
    for command in (IMPORT, "cer-feat extract -b timm:test_vit -w random"):
        assert "manifest.json is missing" in run(f"{command} --data {data}", code=1).stderr
    told = run("cer-feat use-manifest features/faces/manifest.csv --dataset faces", code=1).stderr
    assert "manifest.json is missing" in told
    assert (filled / "faces" / "manifest.csv").read_bytes() == before
    assert not (filled / "faces" / "manifest.json").exists()
    assert not (filled / "manifest").exists()
    run("cer-feat use-manifest faces.csv")
    run(f"{IMPORT} --data faces")


def test_the_csv_inside_the_store_names_its_own_dataset(run, filled):
    run(f"{IMPORT} --data features/faces/manifest.csv")
    assert {e["dataset"] for e in json.loads(run("cer-feat ls --json").stdout)["features"]} == {"faces"}


def test_a_root_that_is_not_there_or_holds_no_picture_is_refused(run, filled, tmp_path):
    (tmp_path / "empty").mkdir()
    for root, text in (("/nonexistent", "there is nothing at /nonexistent"), ("empty", "none of the 42 pictures")):
        assert text in run(f"{IMPORT} --data faces.csv --root {root}", code=1).stderr
        assert text.split()[0] in run(f"{IMPORT} --data faces --root {root}", code=1).stderr
    assert "there is nothing at" in run("cer-feat use-manifest faces.csv --root /nonexistent", code=1).stderr


def test_pictures_that_an_import_could_not_read_are_told(run, filled, faces, tmp_path):
    from cer_fusion.featstore import Manifest

    manifest = Manifest.read(faces)
    samples = tuple(s._replace(path="none.png") if i < 2 else s for i, s in enumerate(manifest.samples))
    type(manifest)(samples=samples, classes=manifest.classes, root=manifest.root).write(tmp_path / "gaps.csv")
    result = run(f"{IMPORT} --data gaps.csv --json")
    assert "2 of 42 pictures could not be read" in result.stderr
    assert "leak" in result.stderr
    assert set(json.loads(result.stdout)["unread"]) == {s.sample_id for s in samples[:2]}
