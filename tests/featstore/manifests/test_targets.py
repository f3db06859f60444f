"""Action units beside a manifest: read, checked, written by the adapter of RAF-CE."""

from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.featstore import Manifest, Sample, class_set
from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests.adapters.raf import write_rafce_aus
from cer_fusion.featstore.manifests.targets import aligned, read_action_units


def table(tmp_path, text):
    path = tmp_path / "aus.csv"
    path.write_text(text)
    return path


def test_a_blank_and_minus_one_are_not_known_and_a_sample_without_a_line_neither(tmp_path):
    found = read_action_units(table(tmp_path, "sample_id,AU1,AU12\na,1,0\nb,,-1\n"))
    assert found.numbers == (1, 12)
    np.testing.assert_array_equal(aligned(found, ["b", "a", "c"]), [[np.nan] * 2, [1, 0], [np.nan] * 2])


def test_intensities_become_shares_of_the_largest(tmp_path):
    found = read_action_units(table(tmp_path, "sample_id,AU04\na,2.5\n"), intensities=True)
    assert found.rows["a"].tolist() == [0.5]


@pytest.mark.parametrize(
    ("text", "intensities", "said"),
    [
        ("sample_id,AU1\na,2\n", False, "aus.csv:2: action units must be 0 or 1"),
        ("sample_id,AU1\na,6\n", True, "must lie in"),
        ("sample_id,AU1\na,nan\n", True, "must lie in"),
        ("sample_id,AU1\na,yes\n", False, "must be numbers"),
        ("sample_id,smile\na,1\n", False, "'smile' is no action unit"),
        ("sample_id,AU1,AU01\na,1,1\n", False, "one column for each AU"),
        ("sample_id,AU1\na,1\na,0\n", False, "aus.csv:3: sample_id 'a' stands twice"),
        ("name,AU1\na,1\n", False, "first column must be sample_id"),
    ],
)
def test_what_no_action_unit_can_be_is_refused_with_its_place(tmp_path, text, intensities, said):
    with pytest.raises(ManifestError, match=said):
        read_action_units(table(tmp_path, text), intensities=intensities)


def rafce(tmp_path, text):
    (tmp_path / "RAFCE_AUlabel.txt").write_text(text)
    samples = [Sample(f"{i:04d}", f"{i:04d}_aligned.jpg", "Happily Surprised", "train") for i in (1, 2, 3)]
    return Manifest(samples=samples, classes=class_set("rafce14"), root=tmp_path)


def test_rafces_action_units_become_a_table_and_null_is_no_face_without_any(tmp_path):
    manifest = rafce(tmp_path, "0001.jpg 1+L12+25\n0002.jpg null\n0009.jpg 4\n")
    assert write_rafce_aus(tmp_path, manifest, tmp_path / "aus.csv") == 1
    found = read_action_units(tmp_path / "aus.csv")
    assert found.numbers == (1, 12, 25)
    np.testing.assert_array_equal(aligned(found, manifest.ids), [[1, 1, 1], [np.nan] * 3, [np.nan] * 3])


@pytest.mark.parametrize(
    ("text", "said"), [("0001.jpg 1+smile\n", ":1: 'smile' is no"), ("0001.jpg 1\n0001.jpg 2\n", ":2: .* twice")]
)
def test_a_line_of_rafce_that_says_nothing_is_refused(tmp_path, text, said):
    with pytest.raises(ManifestError, match=said):
        write_rafce_aus(tmp_path, rafce(tmp_path, text), tmp_path / "aus.csv")
