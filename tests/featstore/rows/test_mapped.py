from __future__ import annotations

import copy
import errno
import gc
import os
import pickle
import threading

import numpy as np
import pytest

from cer_fusion.featstore import extract
from cer_fusion.featstore.errors import DamagedShardError, IncompleteError
from cer_fusion.featstore.rows import files, mapped, shard, view
from tests.featstore.conftest import ToyEmbedder


class WideEmbedder(ToyEmbedder):
    """Rows of 512 columns, so that blocks are page-aligned as real ones are."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = {"wide": 512}

    def embed(self, pictures):
        return {"wide": np.repeat(pictures.astype(np.float32), 32, axis=1)}


@pytest.fixture(params=["float32", "float16"])
def filled(request, store, make_manifest):
    extract(WideEmbedder(), make_manifest(40), store, dataset="d", shard_rows=7, dtype=request.param)
    return store


def both(store):
    return store.view(["toy"]).blocks["toy"], store.view(["toy"], mapped=True).blocks["toy"]


@pytest.mark.parametrize(
    "key",
    [0, -1, np.int64(8), slice(None), slice(2, 6), slice(5, 9), slice(None, None, 3), slice(9, 2, -1), slice(3, 3)],
    ids=str,
)
def test_a_mapped_block_is_indexed_as_an_array_is(filled, key):
    loaded, mapped = both(filled)
    np.testing.assert_array_equal(mapped[key], loaded[key])
    np.testing.assert_array_equal(mapped[key, 3:5], loaded[key, 3:5])


@pytest.mark.parametrize("key", [[3, 39, 0, 3], np.arange(40) % 3 == 0, np.array([], dtype=int)], ids=str)
def test_rows_are_gathered_from_many_shards_in_the_order_asked_for(filled, key):
    loaded, mapped = both(filled)
    np.testing.assert_array_equal(mapped[key], loaded[key])
    assert mapped[key].dtype == np.float32


@pytest.mark.parametrize("key", [40, -41, [0, 40], "wide"])
def test_a_row_that_is_not_there_is_an_index_error(filled, key):
    with pytest.raises(IndexError):
        both(filled)[1][key]


def test_taking_rows_keeps_them_mapped_and_asarray_loads_them(filled):
    loaded, mapped = both(filled)
    rows = np.array([12, 3, 30])
    np.testing.assert_array_equal(np.asarray(mapped.take(rows)), loaded[rows])
    np.testing.assert_array_equal(mapped.take(rows).take(np.array([1]))[0], loaded[3])
    view = filled.view(["toy"], mapped=True)
    train = view.take([split == "train" for split in view.splits])
    assert type(train.blocks["toy"]) is type(mapped)
    np.testing.assert_array_equal(train.join(), filled.view(["toy"], split="train").join())


def test_float32_rows_side_by_side_in_a_shard_are_not_copied(store, make_manifest):
    extract(WideEmbedder(), make_manifest(20), store, dataset="d", shard_rows=10)
    block = both(store)[1]
    assert not block[2:9].flags.owndata
    assert np.shares_memory(block[2:9], block[4])
    assert not block[2:9].flags.writeable
    assert not np.shares_memory(block[8:12], block[8])  # two shards: a copy


def test_a_row_in_use_keeps_the_file_mapped_when_all_else_is_gone(filled):
    loaded, mapped = both(filled)
    row, rows, last = mapped[39], mapped[0:5], loaded[39].copy()
    first = loaded[:5].copy()
    del mapped, loaded
    gc.collect()
    np.testing.assert_array_equal(row, last)
    np.testing.assert_array_equal(rows, first)


def test_damage_is_found_when_the_row_is_touched(filled):
    feature = filled.feature("toy")
    path = feature.shard_paths()[1]
    header = feature.headers()[1]
    data = bytearray(path.read_bytes())
    data[header.segments["blocks/wide"].offset + 100] ^= 1
    path.write_bytes(data)
    mapped = both_mapped(filled)
    mapped[0]  # another shard
    for touch in (lambda: mapped[7], lambda: mapped[[0, 13]], lambda: mapped[0:20], lambda: np.asarray(mapped)):
        with pytest.raises(DamagedShardError, match=path.name):
            touch()


def both_mapped(store):
    return store.view(["toy"], mapped=True).blocks["toy"]


def test_more_shards_can_be_mapped_than_files_may_be_open(store, make_manifest):
    resource = pytest.importorskip("resource")
    extract(WideEmbedder(), make_manifest(90), store, dataset="d", shard_rows=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        loaded, mapped = both(store)
        np.testing.assert_array_equal(np.asarray(mapped), loaded)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def in_many_pieces(monkeypatch):
    """Eight threads with a few rows each."""
    monkeypatch.setattr(mapped, "_PIECE_ROWS", 2)
    monkeypatch.setattr(mapped.os, "cpu_count", lambda: 8)


def test_every_shard_is_mapped_once_before_any_thread_asks_for_a_row(filled, in_many_pieces, monkeypatch):
    """Threads that find a map in the making took rows of one map at the addresses of another."""
    mappings = []
    real = mapped.map_file

    def noted(path):
        mappings.append((path.name, threading.current_thread() is threading.main_thread()))
        return real(path)

    monkeypatch.setattr(mapped, "map_file", noted)
    loaded, block = both(filled)
    np.testing.assert_array_equal(np.asarray(block), loaded)
    assert sorted(mappings) == [(path.name, True) for path in filled.feature("toy").shard_paths()]


def test_rows_are_right_for_whoever_touches_a_block_first_however_many_do_at_once(filled):
    loaded, block = both(filled)
    gate, wrong = threading.Barrier(12), []

    def look(first):
        gate.wait()
        for row in range(first, 40, 3):
            if not (np.array_equal(block[row], loaded[row]) and np.array_equal(block[[row, 0]], loaded[[row, 0]])):
                wrong.append(row)

    threads = [threading.Thread(target=look, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_thread_that_fails_fails_the_whole_load(filled, in_many_pieces, monkeypatch):
    block = both_mapped(filled)
    real = mapped.verify_chunk

    def failing(header, name, number, rows):
        if header.index == 3:
            raise MemoryError("no room for this piece")
        real(header, name, number, rows)

    monkeypatch.setattr(mapped, "verify_chunk", failing)
    with pytest.raises(MemoryError, match="this piece"):
        np.asarray(block)


@pytest.mark.parametrize("again", [lambda block: pickle.loads(pickle.dumps(block)), copy.deepcopy, copy.copy])
def test_a_block_that_was_touched_is_copied_and_sent_to_other_processes(filled, again):
    loaded, block = both(filled)
    assert block[5:30].shape == (25, 512)
    np.testing.assert_array_equal(np.asarray(again(block)), loaded)
    np.testing.assert_array_equal(again(block).take(np.array([39, 1]))[:], loaded[[39, 1]])


def test_a_block_that_arrives_after_its_shard_was_compacted_away_says_so(filled):
    block = both_mapped(filled)
    sent = pickle.dumps(block)
    gone = filled.feature("toy").shard_paths()[2]
    gone.unlink()
    with pytest.raises(IncompleteError, match=rf"{gone.name} went away.*\n.*\n  open the view again"):
        pickle.loads(sent)
    np.testing.assert_array_equal(block[15], np.asarray(block)[15])  # an open view keeps what it has mapped


def test_a_shard_that_is_cut_short_between_its_header_and_its_rows_is_damaged(filled, monkeypatch):
    real = mapped.map_file
    monkeypatch.setattr(mapped, "map_file", lambda path: real(path)[:5000])
    with pytest.raises(DamagedShardError, match="ends inside its dataset"):
        both_mapped(filled)


@pytest.fixture
def on_nfs(filled, tmp_path, monkeypatch):
    """The store, as if its folder were an NFS mount; more is mounted above and beside it."""
    mounts = tmp_path / "mountinfo"
    place = str(os.path.realpath(filled.path)).replace(" ", "\\040")
    mounts.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"36 22 0:42 / {place} rw,relatime shared:2 master:1 - nfs4 server:/faces rw,vers=4.2\n"
        f"37 22 0:43 / {place}-beside rw - tmpfs tmpfs rw\n"
    )
    monkeypatch.setattr(files, "_MOUNTS", mounts)
    monkeypatch.setattr(view, "_told", set())
    return filled


def test_on_a_network_file_system_rows_are_read_instead_of_mapped_and_it_is_said_once(on_nfs, monkeypatch, caplog):
    monkeypatch.setattr(mapped, "map_file", lambda path: pytest.fail("mapped"))
    loaded, block = both(on_nfs)
    both(on_nfs)
    assert [r.message for r in caplog.records if "network file system (nfs4): rows are read" in r.message] == [
        caplog.records[-1].message
    ]
    order = np.random.default_rng(0).permutation(len(loaded))
    for key in (3, -1, slice(None), slice(2, 30), slice(None, None, -3), order, order[:5] > 3, [7, 7, 0]):
        if not isinstance(key, np.ndarray) or key.dtype != bool:
            np.testing.assert_array_equal(block[key], loaded[key])
            np.testing.assert_array_equal(block[key], loaded[key], err_msg="again, from verified chunks")
    np.testing.assert_array_equal(np.asarray(pickle.loads(pickle.dumps(block.take(order)))), loaded[order])


def test_a_shard_that_another_machine_removes_under_a_view_is_told(on_nfs):
    loaded, block = both(on_nfs)
    np.testing.assert_array_equal(block[5:8], loaded[5:8])
    gone = on_nfs.feature("toy").shard_paths()[0]
    gone.unlink()
    with pytest.raises(IncompleteError, match=rf"{gone.name} went away.*\n.*\n  open the view again"):
        block[5]
    np.testing.assert_array_equal(block[-1], loaded[-1])


def test_a_shard_that_is_cut_short_under_a_view_is_told(on_nfs):
    loaded, block = both(on_nfs)
    np.testing.assert_array_equal(block[:], loaded)
    path = on_nfs.feature("toy").shard_paths()[1]
    os.truncate(path, 5000)
    with pytest.raises(DamagedShardError, match="ends inside its dataset"):
        np.asarray(block)


def test_a_stale_handle_is_a_shard_that_went_away(on_nfs, monkeypatch):
    """What NFS says of a file that is open here and that another machine removed."""
    block = both(on_nfs)[1]

    def stale(*where):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(shard, "_fill", stale)
    with pytest.raises(IncompleteError, match="open the view again"):
        block[0]


def test_what_a_folder_is_mounted_from_is_told_by_the_nearest_mount(tmp_path, monkeypatch):
    mounts = tmp_path / "mountinfo"
    monkeypatch.setattr(files, "_MOUNTS", mounts)
    inner = os.path.realpath(tmp_path / "a b")
    escaped = inner.replace(" ", "\\040")
    root = "22 1 8:1 / / rw - lustre mgs@tcp:/scratch rw\n"
    for text, expected in [
        (root, "lustre"),
        (root + f"36 22 0:4 / {escaped} rw - ext4 /dev/sdb rw\n", None),
        (root + f"36 22 0:4 / {escaped}x rw - ext4 /dev/sdb rw\n", "lustre"),
        (root + f"36 22 0:4 / {escaped} rw - autofs x rw\n37 36 0:5 / {escaped} rw - nfs s:/x rw\n", "nfs"),
        (root.replace("lustre", "fuse.sshfs"), "fuse.sshfs"),
        (root.replace("lustre", "overlay"), None),
        ("", None),
    ]:
        mounts.write_text(text)
        assert files.network_kind(tmp_path / "a b" / "d") == expected, text
    mounts.unlink()
    assert files.network_kind(tmp_path) is None
