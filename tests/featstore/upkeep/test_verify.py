from __future__ import annotations

import errno
import hashlib
import importlib
import logging
import os
import shutil

import numpy as np
import pytest

from cer_fusion.featstore import Feature, Store, extract, verify
from cer_fusion.featstore.errors import AmbiguousFeatureError, FormatError, NewerFormatError
from cer_fusion.featstore.rows import files
from cer_fusion.featstore.upkeep.garbage import find_garbage, remove_garbage
from tests.featstore.conftest import ToyEmbedder


@pytest.fixture
def filled(store, make_manifest):
    extract(ToyEmbedder(), make_manifest(30), store, dataset="d", shard_rows=8)
    return store


def test_an_intact_store_has_no_problems(filled):
    report = verify(filled, images=True)
    assert (report.shards, report.rows, report.pictures, report.problems) == (4, 30, 30, ())


def test_any_flipped_byte_of_a_shard_is_found(filled):
    shard = filled.feature("toy").shard_paths()[2]
    whole = shard.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), size=60):
        spoilt = bytearray(whole)
        spoilt[place] ^= 0x10
        shard.write_bytes(spoilt)
        assert [p.shard for p in verify(filled).problems] == [shard]


def test_repair_sets_a_damaged_shard_aside_and_extract_brings_its_rows_back(filled, make_manifest):
    before = filled.view(["toy"]).join()
    shard = filled.feature("toy").shard_paths()[1]
    shard.write_bytes(shard.read_bytes()[:-2000])
    assert verify(filled, repair=True).set_aside == (shard.with_name(f"damaged-{shard.name}"),)
    assert extract(ToyEmbedder(), make_manifest(30), filled, dataset="d", shard_rows=8).embedded == 8
    np.testing.assert_array_equal(filled.view(["toy"]).join(), before)
    assert shard.exists()


def test_a_changed_or_missing_picture_is_found(filled):
    root = filled.manifest("d").root
    data = bytearray((root / "5.png").read_bytes())
    data[3] ^= 1
    (root / "5.png").write_bytes(data)
    (root / "6.png").unlink()
    found = [p.what for p in verify(filled, images=True).problems]
    assert len(found) == 2
    assert "s0005: its bytes changed" in found[0]
    assert "s0006: picture missing" in found[1]


def test_pictures_that_could_not_be_compared_are_said_so(filled):
    shard = filled.feature("toy").shard_paths()[1]
    shard.write_bytes(b"cer-shard 1 rubbish")
    problems = verify(filled, images=True).problems
    assert any("pictures were not compared" in p.what for p in problems)
    assert "pictures were not compared" not in str(verify(filled, images=True, repair=True).problems)


def test_files_that_are_not_the_stores_are_named(filled):
    folder = filled.feature("toy").folder
    (folder / ".tmp-123").write_bytes(b"")
    (folder / "notes.txt").write_text("mine")
    assert {p.what.split(";")[0] for p in verify(filled).problems} == {
        "what a killed run left",
        "not a file of the store",
    }


def test_a_shard_of_another_feature_is_found(filled, make_manifest):
    extract(ToyEmbedder("other", tap=2), make_manifest(30), filled, dataset="d")
    theirs = filled.feature("other").shard_paths()[0]
    (filled.feature("toy").folder / theirs.name).write_bytes(theirs.read_bytes())
    assert any("belongs to another feature" in p.what for p in verify(filled).problems)


@pytest.fixture
def failing(monkeypatch):
    """Make opening a path fail with an error number, as often as it says."""
    import pathlib

    faults = {}

    def or_fail(open_):
        def opened(path, *args, **kwargs):
            code, left = faults.get(str(path), (0, 0))
            if left:
                faults[str(path)] = (code, left - 1)
                raise OSError(code, os.strerror(code), str(path))
            return open_(path, *args, **kwargs)

        return opened

    monkeypatch.setattr(pathlib.Path, "open", or_fail(pathlib.Path.open))
    monkeypatch.setattr(os, "open", or_fail(os.open))
    return lambda path, code, times=1000: faults.update({str(path): (code, times)})


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO, errno.EACCES, errno.ETIMEDOUT, errno.ENOMEM])
def test_repair_leaves_a_shard_alone_that_could_not_be_read(filled, failing, code):
    shard = filled.feature("toy").shard_paths()[1]
    failing(shard, code)
    report = verify(filled, repair=True)
    assert (report.set_aside, [p.shard for p in report.problems]) == ((), [None])
    assert f"could not be read just now: {os.strerror(code)}" in report.problems[0].what
    failing(shard, code, 0)
    assert verify(filled, repair=True).problems == ()


def test_a_read_that_falls_short_once_is_no_damage(filled, monkeypatch):
    digest, short = hashlib.file_digest, []

    def once_short(file, name):
        if not short:
            short.append(file.read(100))
            return hashlib.sha256(short[0])
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", once_short)
    assert verify(filled, repair=True).problems == ()


def test_repair_leaves_a_shard_of_a_newer_format_alone(filled, monkeypatch):
    from cer_fusion.featstore.rows import shard

    old = filled.feature("toy").shard_paths()[1]
    data = old.read_bytes()
    line, rest = data.split(b"\n", 1)
    newer = line.replace(b"cer-shard 1 ", b"cer-shard 2 ") + b"\n" + rest
    assert shard.parse_name(old.name)
    old.unlink()
    path = old.with_name(f"shard-00001-{hashlib.sha256(newer).hexdigest()[:32]}.h5")
    path.write_bytes(newer)
    report = verify(filled, repair=True)
    assert (report.set_aside, path.exists()) == ((), True)
    (problem,) = report.problems
    assert "cer-shard version 2, made by a newer cer-fusion; this release reads version 1" in problem.what
    assert "left alone" in problem.what


@pytest.mark.parametrize("when", ["stat", "header", "digest", "rename"])
def test_a_shard_that_vanishes_meanwhile_is_no_problem(filled, monkeypatch, when):
    shard = filled.feature("toy").shard_paths()[1]
    spoilt = bytearray(shard.read_bytes())
    spoilt[-5] ^= 1
    shard.write_bytes(spoilt)
    module = importlib.import_module("cer_fusion.featstore.upkeep.verify")

    def vanish(*args):
        shard.unlink(missing_ok=True)

    if when == "stat":
        paths = module.shard_paths
        monkeypatch.setattr(module, "shard_paths", lambda folder: (paths(folder), vanish())[0])
    elif when == "rename":
        aside = files.set_aside
        monkeypatch.setattr(files, "set_aside", lambda path: (vanish(), aside(path))[1])
    else:
        name = "read_header" if when == "header" else "is_as_named"
        call = getattr(module, name)
        monkeypatch.setattr(module, name, lambda path: (vanish() if path == shard else None, call(path))[1])
    report = verify(filled, repair=True)
    assert report.set_aside == ()
    assert len(report.problems) == (1 if when == "rename" else 0)


def spoil(path):
    path.write_text(path.read_text()[:-30])


@pytest.fixture
def two(filled, make_manifest):
    """Two features of one dataset, and the path of one's feature.json."""
    extract(ToyEmbedder("other", tap=2), make_manifest(30), filled, dataset="d", shard_rows=8)
    return filled, filled.feature("toy").folder / "feature.json"


@pytest.mark.parametrize(
    "harm",
    [spoil, lambda path: path.unlink(), lambda path: path.write_bytes(b""), lambda path: (path.unlink(), path.mkdir())],
    ids=["cut", "gone", "empty", "a folder"],
)
def test_one_damaged_feature_json_blocks_no_other_feature(two, harm, caplog):
    store, path = two
    harm(path)
    assert len(store.view(["other"])) == 30
    assert [f.name for f in store.usable_features("d")] == ["other"]
    assert "is left out" in caplog.text
    with pytest.raises(FormatError, match=r"feature\.json(.|\n)*cer-feat verify --repair"):
        store.view(["toy"])
    report = verify(store)
    assert [p.where for p in report.problems] == [str(path)]
    assert report.shards == 8, "its shards were looked at too"
    assert "run the same cer-feat extract (or import) again" in report.problems[0].what
    assert find_garbage(store, now=True) == []
    again = extract(ToyEmbedder("more", tap=3), store.manifest("d"), store, dataset="d")
    assert again.embedded == 30


@pytest.mark.parametrize("repair_first", [False, True])
def test_the_same_extract_writes_a_damaged_feature_json_anew_and_keeps_its_rows(two, repair_first):
    store, path = two
    before, shards = store.view(["toy"]).join(), [p.name for p in store.feature("toy").shard_paths()]
    spoil(path)
    if repair_first:
        report = verify(store, repair=True)
        assert (report.set_aside, report.mended) == ((), ()), "nothing says what it said"
    assert extract(ToyEmbedder(), store.manifest("d"), store, dataset="d").already == 30
    np.testing.assert_array_equal(Store(store.path).view(["toy"]).join(), before)
    assert [p.name for p in store.feature("toy").shard_paths()] == shards
    (found,) = [item for item in find_garbage(store) if item.path.name == "damaged-feature.json"]
    remove_garbage([found])
    assert verify(store).problems == ()


def test_repair_writes_a_feature_json_anew_whose_identity_is_certain(two):
    store, path = two
    before = store.view(["toy"]).join()
    path.write_text(path.read_text().replace('"versions"', '"verzions"'))
    report = verify(store, repair=True)
    assert (report.mended, report.set_aside) == ((path,), ())
    spec = store.feature("toy").spec
    assert (spec.name, spec.described) == ("toy", {}), "what no fingerprint covers is not certain"
    np.testing.assert_array_equal(store.view(["toy"]).join(), before)
    assert path.with_name("damaged-feature.json").exists()


def test_repair_takes_a_feature_json_from_another_dataset_that_has_the_feature(two, make_manifest):
    store, path = two
    extract(ToyEmbedder(), make_manifest(3, folder="more"), store, dataset="e")
    spec = store.feature("toy", "e").spec
    path.write_bytes(b"rubbish")
    assert verify(store, repair=True).mended == (path,)
    assert store.feature("toy", "d").spec == spec
    assert len(store.view(["toy"], dataset="d")) == 30


def test_repair_does_not_believe_an_identity_that_the_folder_or_the_shards_contradict(two):
    store, path = two
    path.write_text(path.read_text().replace('"toy"', '"boy"'))  # the architecture too
    assert verify(store, repair=True).mended == ()
    with pytest.raises(FormatError, match="changed or damaged"):
        store.feature("toy")


def test_a_feature_json_that_cannot_be_read_or_is_newer_is_told_and_left_alone(two, failing):
    store, path = two
    text = path.read_text()
    failing(path, errno.ESTALE)
    report = verify(Store(store.path), repair=True)
    assert (report.mended, report.set_aside) == ((), ())
    assert "could not be read just now" in report.problems[0].what
    assert len(Store(store.path).view(["other"])) == 30
    failing(path, 0, 0)
    path.write_text(text.replace('"format_version": 1', '"format_version": 2'))
    report = verify(store, repair=True)
    assert (report.mended, report.set_aside, len(report.problems)) == ((), (), 1)
    with pytest.raises(NewerFormatError):
        extract(ToyEmbedder(), store.manifest("d"), store, dataset="d")
    assert '"format_version": 2' in path.read_text()


def test_a_name_that_also_stands_for_a_damaged_feature_is_not_guessed(filled):
    extract(ToyEmbedder(tap=2), filled.manifest("d"), filled, dataset="d")
    first, second = filled.features("d")
    spoil(first.folder / "feature.json")
    with pytest.raises(AmbiguousFeatureError, match=rf"{first.label}(.|\n)*cannot be opened(.|\n)*{second.label}"):
        filled.view(["toy"])
    assert len(filled.view([second.label])) == 30


def test_one_damaged_manifest_blocks_no_other_dataset(filled, make_manifest, failing, caplog):
    extract(ToyEmbedder(), make_manifest(3, folder="more"), filled, dataset="e")
    (filled.path / "e" / "manifest.csv").write_text("sample_id,path\n")
    assert [p.where for p in verify(filled).problems] == [str(filled.path / "e" / "manifest.csv")]
    with caplog.at_level(logging.WARNING):
        assert find_garbage(filled, now=True) == find_garbage(filled, now=True) == []
    assert caplog.text.count("dataset e is left alone") == 1
    with pytest.raises(FormatError):
        find_garbage(filled, dataset="e")
    failing(filled.path / "d" / "manifest.json", errno.EIO)
    assert "could not be read just now" in verify(Store(filled.path)).problems[0].what


def test_a_dataset_whose_manifest_is_gone_is_told(filled, make_manifest):
    extract(ToyEmbedder(), make_manifest(3, folder="more"), filled, dataset="e")
    (filled.path / "e" / "manifest.csv").unlink()
    (filled.path / "strange folder").mkdir()
    (problem,) = verify(filled).problems
    assert problem.where == str(filled.path / "e")
    assert "manifest.csv is missing" in problem.what


def test_a_folder_that_may_not_be_looked_into_hides_no_dataset(filled, monkeypatch):
    import pathlib

    exists = pathlib.Path.exists

    def refuse(self, *args, **kwargs):
        if "lost+found" in self.parts:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return exists(self, *args, **kwargs)

    (filled.path / "lost+found").mkdir()
    monkeypatch.setattr(pathlib.Path, "exists", refuse)
    assert filled.datasets() == ["d"]


def test_what_is_no_file_where_one_is_expected_is_told(filled):
    folder = filled.feature("toy").folder
    shard = folder / f"shard-00009-{'0' * 32}.h5"
    shard.mkdir()
    (folder / "quarantine.csv").mkdir()
    assert {p.where for p in verify(filled).problems} == {str(shard), str(folder / "quarantine.csv")}
    shutil.rmtree(shard)
    assert isinstance(Feature(folder), Feature)
