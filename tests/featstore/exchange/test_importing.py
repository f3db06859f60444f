from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cer_fusion.featstore import import_rows
from cer_fusion.featstore.errors import ManifestError, RowsError


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
    monkeypatch.setattr("cer_fusion.featstore.exchange.importing.PIECE_BYTES", piece_bytes)
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


@pytest.mark.parametrize("number", [0.0, -1.0])
def test_rows_of_one_number_are_refused_unless_they_are_asked_for(store, make_manifest, rows, number):
    manifest = make_manifest()
    rows[[3, 7]] = number

    def imported(name, **options):
        return import_rows(rows, manifest.ids, manifest, store, dataset="d", name=name, share_repeats=False, **options)

    with pytest.raises(RowsError, match=rf"2 of 12 rows say nothing(.|\n)*{manifest.ids[3]}(.|\n)*--blank drop"):
        imported("hse")
    kept = imported("kept", blank="keep")
    assert (kept.blank, kept.missing) == ((manifest.ids[3], manifest.ids[7]), ())
    dropped = imported("dropped", blank="drop")
    assert dropped.blank == dropped.missing == (manifest.ids[3], manifest.ids[7])
    assert len(store.view(["dropped"], missing="drop")) == 10
    rows[:] = number
    with pytest.raises(RowsError, match="nothing is left to import"):
        imported("none", blank="drop")


def test_a_blank_row_in_one_block_of_several_counts(store, make_manifest, rows):
    manifest = make_manifest()
    rows[5, :2] = 0
    with pytest.raises(RowsError, match="1 of 12 rows say nothing"):
        import_rows({"a": rows[:, :2], "b": rows[:, 2:]}, manifest.ids, manifest, store, dataset="d", name="hse")


def test_a_number_throughout_a_narrow_block_is_no_blank_row(store, make_manifest):
    manifest = make_manifest()
    rows = np.arange(1, 13, dtype=np.float32)[:, None]
    assert import_rows(rows, manifest.ids, manifest, store, dataset="d", name="age").blank == ()


def test_rows_of_nan_alone_may_be_left_out_and_never_kept(store, make_manifest, rows):
    manifest = make_manifest()
    rows[2] = np.nan
    for blank in ("error", "keep"):
        with pytest.raises(RowsError, match=r"NaN or Inf in 1 of 12 rows(.|\n)*--blank drop"):
            import_rows(rows, manifest.ids, manifest, store, dataset="d", name="hse", blank=blank)
    report = import_rows(
        rows, manifest.ids, manifest, store, dataset="d", name="hse", blank="drop", share_repeats=False
    )
    assert report.missing == (manifest.ids[2],)
    rows[3, 0] = np.nan
    with pytest.raises(RowsError, match="NaN or Inf in 1 of 12 rows"):
        import_rows(rows, manifest.ids, manifest, store, dataset="d", name="hse", blank="drop")


def test_rows_that_are_all_the_same_are_refused(store, make_manifest, rows, monkeypatch):
    monkeypatch.setattr("cer_fusion.featstore.exchange.importing.PIECE_BYTES", 50)
    manifest = make_manifest()
    rows[:] = rows[0]
    with pytest.raises(RowsError, match="all 12 rows are the same"):
        import_rows(rows, manifest.ids, manifest, store, dataset="d", name="hse")
    assert import_rows(rows, manifest.ids, manifest, store, dataset="d", name="hse", blank="keep").matched == 12


def test_rows_that_repeat_and_columns_that_never_change_are_told(store, make_manifest, rows):
    manifest = make_manifest()
    rows[[4, 9, 11]] = rows[1]
    rows[:, 3] = 0.5
    report = import_rows(rows, manifest.ids, manifest, store, dataset="d", name="hse")
    ids = manifest.ids
    assert report.notes == (
        f"3 rows repeat another one to the last bit, the most frequent 4 times ({ids[1]}, {ids[4]}, {ids[9]}, … "
        "(4 in all))",
        "1 of 5 columns are the same in all rows",
    )


def test_more_names_than_the_manifest_has_may_be_left_out(store, make_manifest, rows):
    manifest = make_manifest()
    part = manifest.keep([i < 9 for i in range(12)])
    rows[11] = 0  # of no sample, so it is nobody's fault
    with pytest.raises(ManifestError, match=r"3 of 12 names are no sample_id(.|\n)*--extra drop"):
        import_rows(rows, manifest.ids, part, store, dataset="d", name="hse")
    report = import_rows(rows, manifest.ids, part, store, dataset="d", name="hse", extra="drop")
    assert (report.matched, report.extra, report.missing) == (9, manifest.ids[9:], ())
    np.testing.assert_array_equal(store.view(["hse"]).blocks["hse"], rows[:9].astype(np.float32))
    with pytest.raises(ManifestError, match="12 of 12 names are no"):
        import_rows(rows, [f"x{i}" for i in range(12)], part, store, dataset="d", name="hse", extra="drop")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("/data/faces/{path}", "path, spelt otherwise"),
        ("C:\\faces\\{path}", "path, spelt otherwise"),
        ("crops/{stem}.npy", "file stem without folders"),
        ("{id}.jpg", "sample_id, but for its ending"),
    ],
)
def test_names_are_matched_but_for_folders_and_endings(store, make_manifest, rows, change, kind):
    manifest = make_manifest()
    names = [change.format(path=s.path, id=s.sample_id, stem=s.path.removesuffix(".png")) for s in manifest.samples]
    report = import_rows(rows, names, manifest, store, dataset="d", name="hse")
    assert (report.matched, report.matched_by) == (12, kind)


def test_a_name_whose_accents_a_mac_wrote_is_refused_and_recognised(store, make_manifest, rows):
    manifest = make_manifest()
    samples = tuple(s._replace(sample_id=f"\xe9{s.sample_id}") for s in manifest.samples)
    names = [f"e\u0301{sample_id}" for sample_id in manifest.ids]
    with pytest.raises(ManifestError, match="looks like an id, but one of them writes its accents as a Mac does"):
        import_rows(rows, names, replace(manifest, samples=samples), store, dataset="d", name="hse")


def test_names_whose_zeros_a_spreadsheet_cut_are_recognised(store, make_manifest, rows):
    manifest = make_manifest()
    samples = (s._replace(sample_id=f"{i:05d}", path=f"{i:05d}.png") for i, s in enumerate(manifest.samples, 1))
    numbered = replace(manifest, samples=tuple(samples))
    with pytest.raises(ManifestError, match="'1' may be '00001', whose zeros a spreadsheet cuts"):
        import_rows(rows, [str(i) for i in range(1, 13)], numbered, store, dataset="d", name="hse")


@pytest.mark.parametrize("form", ["./{}", ".\\{}", '"{}"', "C:\\data\\faces\\{}", "/mnt/old/{}", "file:///mnt/{}"])
def test_names_are_the_paths_of_the_manifest_as_another_system_writes_them(store, make_manifest, rows, form):
    manifest = make_manifest()
    names = [form.format(sample.path.upper()) for sample in manifest.samples]
    report = import_rows(rows, names, manifest, store, dataset="d", name="hse")
    assert (report.matched, report.matched_by) == (12, "path, spelt otherwise")
    np.testing.assert_array_equal(store.view(["hse"]).blocks["hse"], rows.astype(np.float32))


def test_names_of_two_folders_of_another_machine_are_not_taken_for_one(store, make_manifest, rows):
    manifest = make_manifest()
    names = [f"/old/{'train' if i % 2 else 'test'}/{manifest.samples[i // 2].path}" for i in range(12)]
    with pytest.raises(ManifestError, match="12 of 12 names are no"):
        import_rows(rows, names, manifest, store, dataset="d", name="hse")
