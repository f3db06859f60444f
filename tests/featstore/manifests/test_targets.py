"""Targets beside a manifest: read, typed by their titles, checked, and written by the adapters that know some."""

from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.featstore import Manifest, Sample, class_set
from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests.adapters import build
from cer_fusion.featstore.manifests.adapters.raf import write_rafce_aus
from cer_fusion.featstore.manifests.adapters.table import write_table_targets
from cer_fusion.featstore.manifests.targets import read_targets, target_of, write_targets


def table(tmp_path, text):
    path = tmp_path / "aus.csv"
    path.write_text(text)
    return path


def test_a_blank_and_minus_one_are_not_known_and_a_sample_without_a_line_neither(tmp_path):
    found = read_targets(table(tmp_path, "sample_id,AU1,AU12\na,1,0\nb,,-1\n"))
    assert (found.units, found.text) == ((1, 12), "2 action units")
    rows = found.aligned(["b", "a", "c"])
    assert list(rows) == ["au"]
    np.testing.assert_array_equal(rows["au"], [[np.nan] * 2, [1, 0], [np.nan] * 2])


def test_the_title_says_the_type_and_intensities_become_shares_of_the_largest(tmp_path):
    found = read_targets(table(tmp_path, "sample_id,arousal,AU04_r,AU12_c,valence\na,-0.5,2.5,1,1\nb,-5,,-1,-5\n"))
    rows = found.aligned(["a", "b"])
    np.testing.assert_array_equal(rows["au"], [[0.5, 1], [np.nan] * 2])
    np.testing.assert_array_equal(rows["va"], [[1, -0.5], [np.nan] * 2])
    assert found.text == "2 action units and valence and arousal"
    for title, unit, intensity in (("au.7", 7, False), ("AU_07", 7, False), ("AU45_r", 45, True)):
        one = target_of(title)
        assert (one.unit, one.intensity) == (unit, intensity)
    assert target_of("AU") is target_of("smile") is target_of("AU123") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sample_id,AU1\na,2\n", r"aus.csv:2: action units such as AU1 must be 0 or 1[\s\S]*called such as AU1_r"),
        ("sample_id,AU1_r\na,6\n", r"AU1_r must lie in \[0, 5\]"),
        ("sample_id,AU1_r\na,nan\n", "must lie in"),
        ("sample_id,AU1\na,yes\n", "AU1 must be a number, however: 'yes'"),
        ("sample_id,valence,arousal\na,1.5,0\n", r"aus.csv:2: valence must lie in \[-1, 1\]"),
        ("sample_id,valence,arousal\na,-1,-4\n", r"arousal must lie in \[-1, 1\]"),
        ("sample_id,valence\na,1\n", "valence is alone"),
        ("sample_id,smile\na,1\n", "'smile' is no action unit"),
        ("sample_id,AU1,AU01\na,1,1\n", "one column for each AU"),
        ("sample_id,AU1_r,AU1_c\na,1,1\n", "one column for each AU"),
        ("sample_id\na\n", "one column for each AU"),
        ("sample_id,AU1\na,1\na,0\n", "aus.csv:3: sample_id 'a' stands twice"),
        ("name,AU1\na,1\n", "first column must be sample_id"),
    ],
)
def test_what_no_target_can_be_is_refused_with_its_place(tmp_path, text, said):
    with pytest.raises(ManifestError, match=said):
        read_targets(table(tmp_path, text))


def test_what_is_written_is_read_back(tmp_path):
    rows = {"a": [1, 2.5, -0.25, 0.125], "b": [np.nan, np.nan, 1, -1]}
    titles = ["AU1", "AU2_r", "valence", "arousal"]
    assert write_targets(tmp_path / "t.csv", ["b", "c", "a"], titles, rows) == 2
    assert (tmp_path / "t.csv").read_text().splitlines()[1:3] == ["b,,,1,-1", "c,,,,"]
    found = read_targets(tmp_path / "t.csv").aligned(["a", "b"])
    np.testing.assert_array_equal(found["au"], [[1, 0.5], [np.nan] * 2])
    np.testing.assert_array_equal(found["va"], [[-0.25, 0.125], [1, -1]])


def listed(tmp_path, text):
    (tmp_path / "list.csv").write_text(text)
    return tmp_path / "list.csv"


def test_the_targets_among_a_tables_columns_are_told_typed_and_kept(tmp_path):
    path = listed(tmp_path, "file,emotion,AU06_r,AU12,video\na.png,Fear,1.5,1,v\nb.png,Fear,,0,v\n")
    told = {"columns": "path=file,label=emotion,group=video"}
    adapted = build("csv", path, **told)
    assert any("columns AU06_r, AU12 are targets" in note for note in adapted.notes)
    assert write_table_targets(path, adapted.manifest, tmp_path / "t.csv", **told) == 2
    assert (tmp_path / "t.csv").read_text() == "sample_id,AU06_r,AU12\na.png,1.5,1\nb.png,,0\n"
    with pytest.raises(ManifestError, match=r"list\.csv:2: intensities such as AU06_r must lie in \[0, 5\]"):
        write_table_targets(
            listed(tmp_path, "path,AU06_r\na.png,9\n"), adapted.manifest, tmp_path / "t.csv"
        )  # fmt: skip
    with pytest.raises(ManifestError, match="has no columns such as AU1"):
        write_table_targets(listed(tmp_path, "path,smile\na.png,9\n"), adapted.manifest, tmp_path / "t.csv")


def test_numbers_of_a_parquet_table_are_targets_too_and_nan_is_not_known(tmp_path):
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    path = tmp_path / "list.parquet"
    columns = {"path": ["a.png", "b.png"], "AU06_r": [1.5, float("nan")], "AU12": [1, None]}
    parquet.write_table(arrow.table(columns), path)
    assert write_table_targets(path, build("parquet", path).manifest, tmp_path / "t.csv") == 1
    assert (tmp_path / "t.csv").read_text() == "sample_id,AU06_r,AU12\na.png,1.5,1\nb.png,,\n"


def rafce(tmp_path, text):
    (tmp_path / "RAFCE_AUlabel.txt").write_text(text)
    samples = [Sample(f"{i:04d}", f"{i:04d}_aligned.jpg", "Happily Surprised", "train") for i in (1, 2, 3)]
    return Manifest(samples=samples, classes=class_set("rafce14"), root=tmp_path)


def test_rafces_action_units_become_a_table_and_null_is_no_face_without_any(tmp_path):
    manifest = rafce(tmp_path, "0001.jpg 1+L12+25\n0002.jpg null\n0009.jpg 4\n")
    assert write_rafce_aus(tmp_path, manifest, tmp_path / "aus.csv") == 1
    found = read_targets(tmp_path / "aus.csv")
    assert found.units == (1, 12, 25)
    np.testing.assert_array_equal(found.aligned(manifest.ids)["au"], [[1, 1, 1], [np.nan] * 3, [np.nan] * 3])


@pytest.mark.parametrize(
    ("text", "said"), [("0001.jpg 1+smile\n", ":1: 'smile' is no"), ("0001.jpg 1\n0001.jpg 2\n", ":2: .* twice")]
)
def test_a_line_of_rafce_that_says_nothing_is_refused(tmp_path, text, said):
    with pytest.raises(ManifestError, match=said):
        write_rafce_aus(tmp_path, rafce(tmp_path, text), tmp_path / "aus.csv")
