from __future__ import annotations

import numpy as np
import pytest

from featstore import import_rows
from featstore.errors import ManifestError, RowsError


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


def test_several_arrays_become_the_blocks_of_one_feature(store, make_manifest, rows):
    manifest = make_manifest()
    blocks = {"left": rows[:, :2], "right": rows[:, 2:].astype(np.float32)}
    import_rows(blocks, manifest.ids, manifest, store, dataset="d", name="pair")
    view = store.view(["pair"])
    assert view.widths == {"pair.left": 2, "pair.right": 3}
    np.testing.assert_array_equal(view.join(), rows.astype(np.float32))
    assert store.feature("pair").spec.dtype == "float32"  # float16 only where all blocks are


@pytest.mark.parametrize(
    ("dtype", "fingerprint"), [("float32", "b2cc5f6870cf"), ("float16", "3411abf51f9f"), ("float64", "4d879c3b6327")]
)
@pytest.mark.parametrize("piece_bytes", [1, 50, 10**6])
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_fingerprint_of_imported_rows_does_not_drift_however_they_are_read(
    store, make_manifest, monkeypatch, dtype, fingerprint, piece_bytes, order
):
    monkeypatch.setattr("featstore.exchange.foreign.PIECE_BYTES", piece_bytes)
    manifest = make_manifest()
    rows = np.asarray(np.arange(60).reshape(12, 5) / 4, dtype=dtype, order=order)
    import_rows(rows, manifest.ids, manifest, store, dataset="d", name="hse")
    assert store.feature("hse").spec.fingerprint[:12] == fingerprint


def test_a_repeated_picture_shares_the_row_it_lacks(store, make_manifest, rows):
    manifest = make_manifest(13, contents={4: b"same face", 12: b"same face"})
    report = import_rows(rows, manifest.ids[:12], manifest, store, dataset="d", name="hse")
    assert (report.shared, report.missing) == (1, ())
    np.testing.assert_array_equal(store.view(["hse"]).join()[12], store.view(["hse"]).join()[4])
    apart = import_rows(rows, manifest.ids[:12], manifest, store, dataset="e", name="hse", share_repeats=False)
    assert apart.missing == ("s0012",)


def test_faulty_rows_and_names_are_refused(store, make_manifest, rows):
    manifest = make_manifest()

    def refused(error, match, faulty, names):
        with pytest.raises(error, match=match):
            import_rows(faulty, names, manifest, store, dataset="d", name="hse")

    refused(RowsError, r"must have shape \(11, d\) for 11 names, however: \(12, 5\)", rows, manifest.ids[:11])
    refused(ManifestError, r"1 of 12 names are no sample_id of(.|\n)*a sample there: id 's0000'", rows,
            ["stranger", *manifest.ids[1:]])  # fmt: skip
    refused(ManifestError, "1 names stand twice: s0001", rows, ["s0001", *manifest.ids[1:]])
    refused(RowsError, r"float array(.|\n)*labels or ids", np.zeros((12, 5), int), manifest.ids)
    refused(RowsError, r"float array(.|\n)*pool or flatten", np.zeros((12, 5, 2), np.float32), manifest.ids)
    refused(RowsError, "there are no rows to import", np.zeros((0, 5), np.float32), [])
    refused(RowsError, r"however: \(11, 2\) in block 'b'", {"a": rows, "b": rows[:11, :2]}, manifest.ids)
    refused(RowsError, "NaN or Inf in 1 of 12 rows: s0007", np.full((12, 1), 1e39) * (np.arange(12) == 7)[:, None],
            manifest.ids)  # fmt: skip
    rows[3, 2] = np.nan
    refused(RowsError, "NaN or Inf in 1 of 12 rows: s0003", rows, manifest.ids)
    refused(RowsError, "NaN or Inf in 1 of 12 rows of block 'b': s0003", {"a": rows[:, :2], "b": rows}, manifest.ids)
    assert store.datasets() == []


def test_names_that_several_samples_share_are_called_ambiguous(store, make_manifest, rows):
    manifest = make_manifest()
    twins = [s._replace(path=f"{i % 2}/{i // 2}.png") for i, s in enumerate(manifest.samples)]
    manifest = type(manifest)(samples=tuple(twins), classes=manifest.classes, root=manifest.root)
    with pytest.raises(ManifestError, match="they are file stems, but several samples share one"):
        import_rows(rows[:6], [str(i) for i in range(6)], manifest, store, dataset="d", name="hse")


@pytest.mark.parametrize("form", ["./{}", ".\\{}", '"{}"', "C:\\data\\faces\\{}", "/mnt/old/{}", "file:///mnt/{}"])
def test_names_are_the_paths_of_the_manifest_as_another_system_writes_them(store, make_manifest, rows, form):
    manifest = make_manifest()
    names = [form.format(sample.path.upper()) for sample in manifest.samples]
    report = import_rows(rows, names, manifest, store, dataset="d", name="hse")
    assert (report.matched, report.matched_by) == (12, "path")
    np.testing.assert_array_equal(store.view(["hse"]).blocks["hse"], rows.astype(np.float32))


def test_names_of_two_folders_of_another_machine_are_not_taken_for_one(store, make_manifest, rows):
    manifest = make_manifest()
    names = [f"/old/{'train' if i % 2 else 'test'}/{sample.path}" for i, sample in enumerate(manifest.samples)]
    with pytest.raises(ManifestError, match="12 of 12 names are no"):
        import_rows(rows, names, manifest, store, dataset="d", name="hse")
