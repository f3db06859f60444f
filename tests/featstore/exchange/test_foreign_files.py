from __future__ import annotations

import errno
import io
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from cer_fusion.featstore.errors import FormatError, RowsError
from cer_fusion.featstore.exchange.foreign_files import block_names, read_array, read_foreign, read_names, recognise

ROWS = np.arange(20, dtype=np.float32).reshape(4, 5) / 4
NAMES = ["a", "b", "größe", "d/e.png"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_hdf5(**settings):
    with h5py.File("f.h5", "w", userblock_size=settings.pop("userblock_size", 0)) as file:
        file.create_dataset("deep/rows", data=ROWS, **settings)
        file["names"] = NAMES
    return Path("f.h5")


def blocks_of(found):
    return {name: np.asarray(rows[:]) for name, rows in found.blocks.items()}


def test_a_npy_file_finds_the_names_beside_it(here):
    np.save("features.npy", ROWS)
    with pytest.raises(FormatError, match=r"no file_names.txt beside it: say what each row belongs to with --names"):
        read_foreign(Path("features.npy"))
    Path("file_names.txt").write_text("\n".join(NAMES), encoding="utf-8")
    found = read_foreign(Path("features.npy"))
    assert (list(found.names), found.names_from) == (NAMES, "file_names.txt beside it")
    assert isinstance(found.blocks["rows"], np.memmap)
    np.testing.assert_array_equal(found.blocks["rows"], ROWS)


def test_names_are_one_a_line(here):
    Path("n.txt").write_text("a b.png\nc.png\n\n")
    assert read_names(Path("n.txt")) == ["a b.png", "c.png"]
    Path("n.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\r\n")
    assert read_names(Path("n.txt")) == ["a", "b"]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_only_rows_and_names_of_a_npz_are_found(here, save, order):
    save("f.npz", feats=np.asarray(ROWS, order=order), who=np.array(NAMES), y=np.arange(4), mean=np.ones(5))
    found = read_foreign(Path("f.npz"))
    assert list(found.names) == NAMES
    np.testing.assert_array_equal(blocks_of(found)["rows"], ROWS)
    assert isinstance(found.blocks["rows"], np.memmap) == (save is np.savez)


def test_of_several_arrays_one_must_be_asked_for_or_each_becomes_a_block(here):
    np.savez("f.npz", left=ROWS, right=ROWS[:, :2], short=ROWS[:2], n=np.array(NAMES), other=np.array(NAMES))
    path = Path("f.npz")
    with pytest.raises(FormatError, match=r"3 2-D float arrays, so which are the rows\?(.|\n)*--rows-key left,right"):
        read_foreign(path)
    with pytest.raises(FormatError, match=r"which are the names\? n, other\n  say it with --names-key n"):
        read_foreign(path, rows_keys=["left"])
    with pytest.raises(FormatError, match="no array 'leftt'; did you mean 'left'"):
        read_foreign(path, rows_keys=["leftt"])
    with pytest.raises(RowsError, match="equally many rows, however: left has 4, short has 2"):
        read_foreign(path, rows_keys=["left", "short"])
    with pytest.raises(RowsError, match=r"'n' of f\.npz is"):
        read_foreign(path, rows_keys=["n"])
    with pytest.raises(FormatError, match="names must be 4 texts"):
        read_foreign(path, rows_keys=["left"], names_key="right")
    found = read_foreign(path, rows_keys=["right", "left"], names_key="n")
    assert {name: rows.shape for name, rows in found.blocks.items()} == {"right": (4, 2), "left": (4, 5)}


def test_blocks_are_called_by_their_keys_less_what_all_begin_with():
    assert block_names(["anything"]) == {"anything": "rows"}
    assert list(block_names(["manet.local", "manet.multi_scale"]).values()) == ["local", "multi_scale"]
    assert list(block_names(["blocks/a", "/blocks/b"]).values()) == ["a", "b"]
    assert list(block_names(["vit", "manet@3f.local"]).values()) == ["vit", "manet_3f_local"]
    with pytest.raises(FormatError, match="would give blocks of one name: a_b, a_b"):
        block_names(["a.b", "a_b"])


@pytest.mark.parametrize(
    "settings", [{}, {"chunks": (3, 5)}, {"compression": "gzip"}, {"compression": "lzf"}, {"userblock_size": 512}]
)
def test_the_only_2d_dataset_of_an_hdf5_file_is_found_wherever_it_lies(here, settings):
    found = read_foreign(write_hdf5(**settings))
    assert (list(found.names), found.form) == (NAMES, "HDF5 file")
    rows = found.blocks["rows"]
    np.testing.assert_array_equal(rows[:], ROWS)
    np.testing.assert_array_equal(rows[[3, 0, 3]], ROWS[[3, 0, 3]])


def test_hdf5_that_reaches_for_other_files_or_plugins_is_refused(here):
    write_hdf5()
    with h5py.File("bad.h5", "w") as file:
        file["names"] = NAMES
        file.create_dataset("outside", shape=(4, 5), dtype="f4", external=[("secret.bin", 0, 80)])
        layout = h5py.VirtualLayout(shape=(4, 5), dtype="f4")
        layout[:] = h5py.VirtualSource("f.h5", "deep/rows", shape=(4, 5))
        file.create_virtual_dataset("virtual", layout)
        file["linked"] = h5py.ExternalLink("f.h5", "/deep/rows")
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4, 5))
        plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))  # Zstandard, a plugin
        h5py.h5d.create(file.id, b"plugin", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4, 5)), plist)
    Path("secret.bin").write_bytes(ROWS.tobytes())
    for key, message in (
        ("outside", "in another file"),
        ("virtual", "virtual dataset over other files"),
        ("plugin", "filter 32015, which would load a plugin"),
        ("linked", "holds no array 'linked'"),
    ):
        with pytest.raises(FormatError, match=message):
            read_foreign(Path("bad.h5"), rows_keys=[key])


def test_a_folder_of_one_npy_a_sample_is_read_row_by_row(here):
    Path("m").mkdir()
    for name, row in zip("dbac", ROWS, strict=True):
        np.save(f"m/{name}.npy", row if name in "ab" else row[None])
    found = read_foreign(Path("m"))
    assert (list(found.names), found.names_from) == (list("abcd"), "the files' names")
    rows = found.blocks["rows"]
    assert (rows.shape, rows.dtype) == ((4, 5), np.float32)
    np.testing.assert_array_equal(rows[:], ROWS[[2, 1, 3, 0]])
    np.testing.assert_array_equal(rows[[3, 0]], ROWS[[0, 2]])


def test_frames_are_pooled_only_when_told_to(here):
    Path("m").mkdir()
    np.save("m/a.npy", ROWS.astype(np.float16))
    np.save("m/b.npy", ROWS[0].astype(np.float16))
    with pytest.raises(RowsError, match=r"m/a.npy holds 4 frames of width 5(.|\n)*--frames mean"):
        read_foreign(Path("m"))
    for frames, pooled in (("mean", ROWS.mean(axis=0)), ("max", ROWS.max(axis=0))):
        rows = read_foreign(Path("m"), frames=frames).blocks["rows"]
        np.testing.assert_array_equal(rows[:], [pooled, ROWS[0]])
        assert rows.dtype == np.float32


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(4, np.float32), r"must have the width of the first, a.npy with 5, however: b.npy has 4"),
        (np.ones(5, int), r"b.npy must hold floats, however: int64"),
        (np.ones((1, 1, 5)), r"b.npy must have shape \(d,\), \(1, d\) or \(t, d\), however: \(1, 1, 5\)"),
        (np.ones((0, 5)), r"b.npy must have shape"),
    ],
)
def test_a_folder_with_a_file_that_does_not_fit_names_it(here, array, message):
    Path("m").mkdir()
    np.save("m/a.npy", ROWS[0])
    np.save("m/b.npy", array)
    with pytest.raises(RowsError, match=message):
        read_foreign(Path("m"))


def test_pickled_arrays_are_refused_unopened_in_every_form(here):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (Path("ran"),)

    bomb = np.array([Bomb()], dtype=object)
    np.save("o.npy", bomb, allow_pickle=True)
    np.savez("o.npz", a=bomb, allow_pickle=True)
    Path("m").mkdir()
    np.save("m/o.npy", bomb, allow_pickle=True)
    for path in ("o.npy", "o.npz", "m"):
        with pytest.raises(FormatError, match="Python objects, as a pickle"):
            read_foreign(Path(path), names=None if path == "m" else Path("o.npy"))
    assert not Path("ran").exists()
    with pytest.raises(FormatError, match="several arrays"):
        read_array(Path("o.npz"))
    with pytest.raises(FormatError, match="no such file"):
        read_array(Path("none.npy"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"0.1 0.2\n0.3 0.4\n", "it is a text file"),
        (b"", r"it is empty \(0 bytes\)"),
        (b"\x1f\x8b\x08\x00", "compressed with gzip"),
        (b"cer-shard 1 abc 12\n", "is a shard of a feature store"),
        (b"PK\x03\x04nonsense", "damaged zip archive"),
        (b"\x93NUMPY\x01\x00\x04\x00oops", "its header is damaged"),
        (b"\x89PNG\r\n\x1a\n\x00", "nothing that can be imported: it begins with"),
        (b"\x89HDF\r\n\x1a\n\x00nonsense", "cannot be read as HDF5"),
    ],
)
def test_a_file_that_is_something_else_is_told_by_its_content(here, data, message):
    Path("f.npy").write_bytes(data)
    Path("n.txt").write_text("a")
    with pytest.raises(FormatError, match=message):
        read_foreign(Path("f.npy"), names=Path("n.txt"))


def test_the_ending_of_a_file_does_not_matter(here):
    for name, save in (("npz", lambda p: np.savez(p, ROWS)), ("npy", lambda p: np.save(p, ROWS))):
        with Path(name).open("wb") as file:
            save(file)
        assert recognise(Path(name)) == name
    assert recognise(write_hdf5(userblock_size=1024)) == "hdf5"


def test_files_that_are_cut_short_or_claim_more_than_they_hold_are_refused(here, monkeypatch):
    np.save("f.npy", ROWS)
    whole = Path("f.npy").read_bytes()
    Path("f.npy").write_bytes(whole[:-3])
    with pytest.raises(FormatError, match="cut short: an array of shape"):
        read_array(Path("f.npy"))
    np.savez_compressed("f.npz", rows=np.zeros((1000, 100)), names=np.array(["x"] * 1000))
    monkeypatch.setattr("cer_fusion.featstore.exchange.foreign_formats.MAX_INFLATED_BYTES", 100_000)
    with pytest.raises(FormatError, match=r"'rows' in f.npz would take 800,128 bytes(.|\n)*numpy.savez instead"):
        read_foreign(Path("f.npz"))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_whose_bytes_changed_is_refused(here, compression):
    member = io.BytesIO()
    np.save(member, np.random.default_rng(0).normal(size=(4, 50)))
    with zipfile.ZipFile("f.npz", "w", compression) as archive:
        archive.writestr("rows.npy", member.getvalue())
    data = bytearray(Path("f.npz").read_bytes())
    data[len(data) // 2] ^= 1
    Path("f.npz").write_bytes(data)
    Path("n.txt").write_text("\n".join(NAMES))
    with pytest.raises(FormatError, match=r"not a usable \.npz archive"):
        read_foreign(Path("f.npz"), names=Path("n.txt"))


def test_names_are_parted_by_line_ends_alone_and_read_in_what_they_say_they_are(here):
    names = ["a\u2028b.png", "c\x85d.png", "é.png"]
    for line_end in ("\n", "\r\n", "\r"):
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            Path("n.txt").write_bytes((line_end.join([f" {name} " for name in names]) + line_end).encode(encoding))
            assert read_names(Path("n.txt")) == names
    Path("n.txt").write_bytes("ä.png\né.png".encode("cp1252"))
    with pytest.raises(FormatError, match=r"n\.txt:1: not UTF-8 text(.|\n)*'ä\.png'"):
        read_names(Path("n.txt"))


def test_an_archive_that_cannot_be_read_just_now_is_not_called_damaged(tmp_path, monkeypatch):
    np.savez(tmp_path / "rows.npz", rows=np.zeros((2, 3), np.float32))

    def fails(*args, **kwargs):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("cer_fusion.featstore.exchange.foreign_files.zipfile.ZipFile", fails)
    with pytest.raises(OSError, match="Input/output error"):
        read_foreign(tmp_path / "rows.npz")
