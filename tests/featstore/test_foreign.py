from __future__ import annotations

import numpy as np
import pytest

from featstore import import_rows
from featstore.errors import FormatError, ManifestError, RowsError
from featstore.foreign import read_array, read_names


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(12, 5)).astype(np.float16)


@pytest.mark.parametrize("kind", ["sample_id", "path", "file stem"])
def test_rows_are_joined_by_name_whatever_their_order(store, make_manifest, rows, kind):
    manifest = make_manifest()
    order = np.random.default_rng(1).permutation(12)
    names = {"sample_id": list(manifest.ids), "path": [s.path for s in manifest.samples],
             "file stem": [s.path.removesuffix(".png") for s in manifest.samples]}[kind]  # fmt: skip
    report = import_rows(rows[order], [names[i] for i in order], manifest, store, dataset="d", name="hse")
    assert (report.matched, report.matched_by, report.missing) == (12, kind, ())
    view = store.view(["hse"])
    np.testing.assert_array_equal(view.blocks["hse"], rows.astype(np.float32))
    assert store.feature("hse").spec.identity["architecture"] == "foreign"


def test_importing_twice_changes_nothing(store, make_manifest, rows):
    manifest = make_manifest()
    for _ in range(2):
        import_rows(rows, manifest.ids, manifest, store, dataset="d", name="hse")
    assert len(store.feature("hse").shard_paths()) == 1


def test_a_repeated_picture_shares_the_row_it_lacks(store, make_manifest, rows):
    manifest = make_manifest(13, contents={4: b"same face", 12: b"same face"})
    report = import_rows(rows, manifest.ids[:12], manifest, store, dataset="d", name="hse")
    assert (report.shared, report.missing) == (1, ())
    np.testing.assert_array_equal(store.view(["hse"]).join()[12], store.view(["hse"]).join()[4])
    apart = import_rows(rows, manifest.ids[:12], manifest, store, dataset="e", name="hse", share_repeats=False)
    assert apart.missing == ("s0012",)


def test_faulty_rows_and_names_are_refused(store, make_manifest, rows):
    manifest = make_manifest()
    with pytest.raises(RowsError, match=r"must have shape \(11, d\) for 11 names, however: \(12, 5\)"):
        import_rows(rows, manifest.ids[:11], manifest, store, dataset="d", name="hse")
    with pytest.raises(ManifestError, match=r"1 of 12 names are no sample_id of(.|\n)*a sample there: id 's0000'"):
        import_rows(rows, ["stranger", *manifest.ids[1:]], manifest, store, dataset="d", name="hse")
    with pytest.raises(ManifestError, match="1 names stand twice: s0001"):
        import_rows(rows, ["s0001", *manifest.ids[1:]], manifest, store, dataset="d", name="hse")
    rows[3, 2] = np.nan
    with pytest.raises(RowsError, match="NaN or Inf in 1 of 12 rows: s0003"):
        import_rows(rows, manifest.ids, manifest, store, dataset="d", name="hse")
    with pytest.raises(RowsError, match="float array"):
        import_rows(np.zeros((12, 5), int), manifest.ids, manifest, store, dataset="d", name="hse")
    assert store.datasets() == []


def test_pickled_arrays_are_refused_unopened(tmp_path):
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match=r"is not a plain .npy array"):
        read_array(tmp_path / "o.npy")
    with pytest.raises(FormatError, match="no such file"):
        read_array(tmp_path / "none.npy")
    np.savez(tmp_path / "z.npz", a=np.zeros(3))
    with pytest.raises(FormatError, match="several arrays"):
        read_array(tmp_path / "z.npz")


def test_names_are_one_a_line(tmp_path):
    (tmp_path / "n.txt").write_text("a b.png\nc.png\n\n")
    assert read_names(tmp_path / "n.txt") == ["a b.png", "c.png"]
