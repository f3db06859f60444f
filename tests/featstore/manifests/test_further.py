"""A manifest's columns of numbers: what they may hold, and that they go wherever samples go."""

from __future__ import annotations

import copy
import hashlib
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cer_fusion.commands.feat.finetune import _mapped
from cer_fusion.featstore import Manifest, Sample, Store, class_set, extract, read_soft_labels
from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.exchange.exporting import export
from cer_fusion.featstore.exchange.hub import features_parcel
from cer_fusion.featstore.exchange.pushing import plan_pull, plan_push, pull, push
from cer_fusion.featstore.manifests import manifest as module
from cer_fusion.featstore.manifests import sidecar
from cer_fusion.featstore.manifests.adapters import build
from cer_fusion.featstore.manifests.changes import keep_where, merge, renamed, union
from cer_fusion.featstore.manifests.checking import change_of, check_manifest
from cer_fusion.featstore.manifests.class_sets import ClassSet
from cer_fusion.featstore.manifests.manifest import SealedManifest
from cer_fusion.featstore.manifests.splitting import hold_out, keep_first, split_by_shares, thin
from cer_fusion.kit.hub import HubPlace
from cer_fusion.kit.text import number_of, number_text
from tests.featstore.conftest import ToyEmbedder

OWN = ClassSet(name="own", labels=("glad", "sad, very", "calm"), first_id=0)
TITLES = ("votes.glad", "votes.sad, very", "au.1", "au.12", "va.valence", "va.arousal", "time_s")
NAN = math.nan


def made(tmp_path, n=12, *, splits=True, groups=True, **columns) -> Manifest:
    """Samples of videos of three frames, with a number of every kind but where none is known."""
    samples = [
        Sample(f"s{i:02d}", f"{i}.png", OWN.labels[i % 3], ("train", "test")[i // 3 % 2] if splits else "",
               f"v{i // 3}" if groups else "")
        for i in range(n)
    ]  # fmt: skip
    i = np.arange(n)
    further = {
        "time_s": np.where(i % 5, i % 3 / 30, NAN),
        "va.valence": np.where(i % 4, i / n - 0.5, NAN),
        "va.arousal": np.where(i % 4, 0.25, NAN),
        "au.12": np.where(i % 3, i % 2, NAN),
        "au.1": np.where(i % 2, i / n, NAN),
        "votes.sad, very": np.where(i % 6, i % 3, NAN),
        "votes.glad": np.where(i % 6, 1.0, NAN),
    }
    return Manifest(samples=samples, classes=OWN, root=tmp_path).with_further({**further, **columns})


def known(manifest: Manifest) -> dict[str, dict[str, float]]:
    """Sample id to what is known of it."""
    return {sample.sample_id: dict(sample.further) for sample in manifest.samples}


numbers = {
    "au": st.one_of(st.just(NAN), st.floats(0, 1)),
    "va": st.one_of(st.just((NAN, NAN)), st.tuples(st.floats(-1, 1), st.floats(-1, 1))),
    "time_s": st.one_of(st.just(NAN), st.floats(0, 1e9), st.integers(0, 10**6).map(lambda ms: ms / 1000)),
    "votes": st.one_of(st.just((NAN, NAN)), st.tuples(st.integers(1, 10), st.one_of(st.just(NAN), st.integers(0, 9)))),
}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_columns_come_back_from_every_form_as_they_were(tmp_path, data):
    n = data.draw(st.integers(1, 8))

    def column(kind):
        return data.draw(st.lists(numbers[kind], min_size=n, max_size=n))

    columns = {f"au.{unit}": column("au") for unit in data.draw(st.sets(st.integers(1, 99), max_size=3))}
    if data.draw(st.booleans()):
        columns |= dict(zip(("va.arousal", "va.valence"), np.array(column("va")).T, strict=True))
    if data.draw(st.booleans()):
        columns |= dict(zip(("votes.sad, very", "votes.calm"), np.array(column("votes"), float).T, strict=True))
    if data.draw(st.booleans()):
        columns["time_s"] = column("time_s")
    plain = Manifest(samples=[Sample(f"s{i}", f"{i}.png", "calm") for i in range(n)], classes=OWN, root=tmp_path)
    manifest = plain.with_further(columns)
    for sealed in (True, False):
        manifest.write(tmp_path / "m.csv", sealed=sealed)
        found = Manifest.read(tmp_path / "m.csv")
        assert list(found.further) == list(manifest.further)
        for title, expected in columns.items():
            np.testing.assert_array_equal(found.further[title], np.array(expected, float))
        found.write(tmp_path / "again.csv", sealed=sealed)
        assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "m.csv").read_bytes()
    assert Manifest(samples=tuple(manifest.samples), classes=OWN, root=tmp_path) == manifest
    assert pickle.loads(pickle.dumps(tuple(manifest.samples))) == tuple(manifest.samples)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_written_in_decimals_that_are_read_back_exactly(number):
    assert number_of(number_text(number)) == number


def test_columns_stand_in_one_order_whatever_order_they_came_in(tmp_path):
    manifest = made(tmp_path)
    assert tuple(manifest.further) == TITLES
    manifest.write(tmp_path / "m.csv")
    header = (tmp_path / "m.csv").read_text().splitlines()[0]
    assert (
        header
        == 'sample_id,path,label,split,group,votes.glad,"votes.sad, very",au.1,au.12,va.valence,va.arousal,time_s'
    )
    assert "au.12" in repr(manifest._facts())


def test_a_parquet_file_holds_the_same_columns(tmp_path):
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    columns = {
        "sample_id": ["a", "b", "c"], "path": ["a.png", "b.png", "c.png"],
        "AU.01": arrow.array([1, None, 0]), "au.2": arrow.array([0.1, float("nan"), 0.3], arrow.float32()),
        "au.4": arrow.array(["0.5", "", None]), "au.5": arrow.array([True, None, False]),
        "au.6": arrow.array([None, None, None]), "au.7": arrow.array(["1", "1", None]).dictionary_encode(),
        "au.9": arrow.array([np.float16(0.5), None, np.float16(1)], arrow.float16()),
        "time_s": [0.04, 0.08, None],
    }  # fmt: skip
    parquet.write_table(arrow.table(columns), tmp_path / "m.parquet")
    found = Manifest.read(tmp_path / "m.parquet").further
    expected = {
        "au.1": [1, NAN, 0], "au.2": [0.1, NAN, 0.3], "au.4": [0.5, NAN, NAN], "au.5": [1, NAN, 0], "au.6": [NAN] * 3,
        "au.7": [1, 1, NAN], "au.9": [0.5, NAN, 1], "time_s": [0.04, 0.08, NAN],
    }  # fmt: skip
    assert list(found) == list(expected)
    for title, values in expected.items():
        np.testing.assert_array_equal(found[title], values, err_msg=title)
    for wrong, said in (
        ([2.0, 0, 0], r"sample 0: au\.1 must lie in \[0, 1\]"),
        (["x", "1", "1"], r"sample 0: au\.1 must lie in .*however: 'x'"),
        ([[1], [0], [0]], "has the type list<.*expected numbers"),
    ):
        parquet.write_table(arrow.table({"sample_id": list("abc"), "path": list("abc"), "au.1": wrong}),
                            tmp_path / "w.parquet")  # fmt: skip
        with pytest.raises(ManifestError, match=f"(?s){said}"):
            Manifest.read(tmp_path / "w.parquet")


def test_blocks_of_a_large_sealed_manifest_know_the_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_ROWS", 4)
    monkeypatch.setattr(sidecar, "BLOCK_ROWS", 4)
    manifest = made(tmp_path)
    manifest.write(tmp_path / "m.csv", sealed=True)
    sealed = SealedManifest.open(tmp_path / "m.csv")
    assert sealed is not None
    assert sealed.blocks.columns == TITLES
    some = np.array([1, 5, 6, 11])
    assert known(sealed.rows(some)) == known(manifest.rows(some))
    plain = manifest.with_further({})
    plain.write(tmp_path / "p.csv", sealed=True)
    assert '"columns"' not in (tmp_path / "p.json").read_text()


def test_the_seal_of_a_manifest_is_of_its_columns_too_and_none_changes_nothing(tmp_path):
    digests = []
    for i, manifest in enumerate(
        (made(tmp_path), made(tmp_path, time_s=np.zeros(12)), made(tmp_path).with_further({}))
    ):
        manifest.write(tmp_path / f"{i}.csv", sealed=True)
        digests.append(hashlib.sha256((tmp_path / f"{i}.csv").read_bytes()).hexdigest())
    assert len(set(digests)) == 3
    (tmp_path / "0.csv").write_text((tmp_path / "0.csv").read_text().replace("0.25", "0.26", 1))
    with pytest.raises(ManifestError.__base__, match="changed or damaged"):
        Manifest.read(tmp_path / "0.csv")


def test_samples_keep_what_is_known_through_every_change(tmp_path):
    manifest = made(tmp_path, splits=False)
    whole = known(manifest)
    mask = np.arange(12) % 2 == 0
    manifest.write(tmp_path / "m.csv")
    changes = {
        "keep": manifest.keep(mask),
        "rows": manifest.rows(np.array([7, 3, 5])),
        "split": split_by_shares(manifest, {"train": 0.5, "test": 0.5}),
        "hold out": hold_out(manifest, 0.4),
        "thin": thin(manifest, 6),
        "keep first": keep_first(manifest, [[0, 1, 2]]),
        "a condition": keep_where(manifest, ["group=v1,v2"]),
        "samples as a tuple": replace(manifest, samples=tuple(s._replace(split="x") for s in manifest.samples)),
        "samples in another order": replace(manifest, samples=manifest.samples[::-1]),
        "read anew": Manifest.read(tmp_path / "m.csv", forget_splits=True),
        "read with crossing groups": Manifest.read_with_crossing(tmp_path / "m.csv")[0],
        "merged": merge({"a": manifest.keep(mask), "b": manifest.keep(~mask)}),
        "merged with one of nothing": merge({"a": manifest.keep(mask), "b": manifest.keep(~mask).with_further({})}),
    }
    for name, changed in changes.items():
        for sample_id, found in known(changed).items():
            nothing = name.endswith("nothing") and int(sample_id[1:]) % 2
            assert found == ({} if nothing else whole[sample_id]), name
        assert tuple(changed.further) == TITLES, name
    prefixed = known(merge({"a": manifest, "b": manifest}, prefix=True))
    assert prefixed == {f"{name}/{one}": found for name in "ab" for one, found in whole.items()}


def test_votes_go_with_their_classes(tmp_path):
    manifest = made(tmp_path)
    target = ClassSet(name="two", labels=("good", "bad"), first_id=0)
    done, _ = renamed(manifest, target, {"glad": "good", "sad, very": "bad", "calm": "good"})
    assert [title for title in done.further if title.startswith("votes.")] == ["votes.good", "votes.bad"]
    np.testing.assert_array_equal(done.further["votes.bad"], manifest.further["votes.sad, very"])
    both, _ = renamed(manifest, target, {"glad": "good", "sad, very": "good", "calm": "bad"})
    added = manifest.further["votes.glad"] + manifest.further["votes.sad, very"]
    np.testing.assert_array_equal(both.further["votes.good"], added)
    lost, _ = renamed(manifest, target, {"glad": None, "sad, very": "bad", "calm": "good"})
    assert "votes.good" not in lost.further
    assert not (lost.further["votes.bad"] == 0).any()  # whose votes were all for glad: none are left
    kept = keep_where(manifest, ["label!=glad"])
    assert (kept.classes.labels, "votes.glad" in kept.further) == (("sad, very", "calm"), False)
    faces = Manifest(samples=[Sample("s", "s.png", "Anger")], classes=class_set("basic7"), root=tmp_path)
    united = union({"a": faces.with_further({"votes.Anger": [3], "au.4": [1]})}, class_set("unity8")).manifest
    assert known(united) == {"a/s": {"votes.Anger": 3, "au.4": 1}}


def test_fine_tuning_maps_classes_of_a_manifest_with_votes(tmp_path):
    faces = Manifest(samples=[Sample("s", "s.png", "Happy", "train")], classes=class_set("fer2013_7"), root=tmp_path)
    found = _mapped(faces.with_further({"votes.Happy": [3]}), class_set("basic7"), "faces", lambda _: None)
    assert (found.samples[0].label, found.further) == ("Happiness", {})


def csv(tmp_path, *rows, header="sample_id,path,label,"):
    (tmp_path / "m.csv").write_text("\n".join((header + rows[0], *rows[1:])) + "\n")
    return tmp_path / "m.csv"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (("au.1", "a,a,x,0", "b,b,x,2"), r"m\.csv:3: au\.1 must lie in \[0, 1\] \(0 absent, 1 present.*however: 2"),
        (("au.1", "a,a,x,-1"), r"m\.csv:2: au\.1 must lie in \[0, 1\].*blank where it is not known, however: -1"),
        (("au.1", "a,a,x,1e999"), r"m\.csv:2: au\.1 must lie in \[0, 1\]"),
        (("au.1", "a,a,x,", "b,b,x,yes"), r"m\.csv:3: au\.1 must lie in .*however: 'yes'"),
        (("au.1", "a,a,x,1_0"), r"m\.csv:2: au\.1 must lie in .*however: '1_0'"),
        (("au.x", "a,a,x,1"), r"m\.csv:1: unknown column 'au\.x'; columns of numbers are called au\.12"),
        (("au.", "a,a,x,1"), r"m\.csv:1: unknown column 'au\.'"),
        (("au.0", "a,a,x,1"), r"m\.csv:1: unknown column 'au\.0'"),
        (("au.123", "a,a,x,1"), r"m\.csv:1: unknown column 'au\.123'"),
        (("AU12_r", "a,a,x,1"), r"m\.csv:1: unknown column 'AU12_r'"),
        (("au.1,au.1", "a,a,x,1,1"), r"m\.csv:1: a column stands twice"),
        (("au.1,AU.01", "a,a,x,1,1"), r"m\.csv:1: a column stands twice"),
        (("va.valence", "a,a,x,1"), r"m\.csv:1: va\.valence and va\.arousal come together.*va\.valence is alone"),
        (("va.x", "a,a,x,1"), r"m\.csv:1: unknown column 'va\.x'"),
        (("va.valence,va.arousal", "a,a,x,1,1", "b,b,x,0,"), r"m\.csv:3: .*known together.*va\.arousal is blank"),
        (("va.valence,va.arousal", "a,a,x,-1.5,1"), r"m\.csv:2: va\.valence must lie in \[-1, 1\].*however: -1\.5"),
        (("time_s", "a,a,x,-0.1"), r"m\.csv:2: time_s must be a number of seconds from 0 up.*however: -0\.1"),
        (("time_s", "a,a,x,1e999"), r"m\.csv:2: time_s must be a number of seconds"),
        (("time_s", "a,a,x,00:01"), r"m\.csv:2: time_s must be a number of seconds.*however: '00:01'"),
        (("votes.y", "a,a,x,1"), r"column 'votes\.y' is of no class"),
        (("votes.", "a,a,x,1"), r"m\.csv:1: unknown column 'votes\.'"),
        (("votes.x", "a,a,x,-1"), r"m\.csv:2: votes\.x must be a number from 0 up"),
        (("votes.x", "a,a,x,1", "b,b,x,0"), r"m\.csv:3: some class must have votes, however: all have 0"),
    ],
)  # fmt: skip
def test_what_no_column_can_hold_is_refused_with_its_place(tmp_path, rows, said):
    with pytest.raises(ManifestError, match=f"(?s){said}"):
        Manifest.read(csv(tmp_path, *rows))


def test_cells_are_read_as_people_and_programs_write_them(tmp_path, caplog):
    path = csv(tmp_path, "AU.01;Time_S", "a;a;x;0,5;1.5e1", "b;b;x; 1 ;", "c;c;x;NA;+2", header="sample_id;path;label;")
    found = Manifest.read(path).further
    np.testing.assert_array_equal(found["au.1"], [0.5, 1, NAN])
    np.testing.assert_array_equal(found["time_s"], [15, NAN, 2])
    assert "one au.1 is 'NA', first in line 4: read as not known" in caplog.text


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"au.1": [2, 0]}, r"sample 0: au\.1 must lie"),
        ({"au.1": [1]}, "a number for each of 2 samples, however: 1"),
        ({"smile": [1, 1]}, "unknown column 'smile'"),
        ({"va.arousal": [1, 1]}, "is alone"),
    ],
)
def test_columns_that_a_program_makes_are_checked_too(tmp_path, columns, said):
    plain = Manifest(samples=[Sample("a", "a"), Sample("b", "b")], classes=OWN, root=tmp_path)
    with pytest.raises(ManifestError, match=said):
        plain.with_further(columns)


def test_a_sample_is_a_tuple_of_texts_that_knows_more(tmp_path):
    plain = Sample("a", "a.png", "glad")
    more = plain.knowing({"au.1": 1, "time_s": 0.5})
    assert tuple(more) == tuple(plain)
    assert (more == plain, more != plain, plain == more) == (False, True, False)
    assert more == plain.knowing({"au.1": 1, "time_s": 0.5})
    assert more._replace(label="calm").further == (("au.1", 1.0), ("time_s", 0.5))
    assert more.knowing({}) == plain
    assert eval(repr(more)) == copy.copy(more) == more
    assert more.__replace__(label="calm") == more._replace(label="calm")
    manifest = Manifest(samples=[more, Sample("b", "b.png")], classes=OWN, root=tmp_path)
    assert manifest.samples[0] == more
    assert manifest.samples != manifest.with_further({}).samples


def test_columns_take_few_bytes(tmp_path):
    table = made(tmp_path).table
    sizes = {title: numbers._values.dtype.itemsize for title, numbers in table.further.items()}
    assert (sizes["au.12"], sizes["votes.glad"], sizes["time_s"]) == (2, 2, 8)


@pytest.fixture
def listed(make_manifest):
    manifest = make_manifest(12)
    i = np.arange(12)
    return manifest.with_further({
        "au.1": i % 2, "au.12": np.where(i % 3, 0.4, NAN), "va.valence": np.full(12, 0.5), "va.arousal": i / 24 - 0.25,
        "time_s": i / 25,
        "votes.Fearfully Surprised": np.where(i, 3.0, NAN), "votes.Sadly Angry": np.where(i, 1.0, NAN),
    })  # fmt: skip


def test_a_store_keeps_the_columns_and_a_view_gives_them(listed, store):
    extract(ToyEmbedder(), listed, store, dataset="d", shard_rows=5)
    view = Store(store.path).view(["toy"], split="test")
    where = np.flatnonzero([split == "test" for split in listed.split_of_each])
    assert view.units == (1, 12)
    np.testing.assert_array_equal(view.targets["au"], np.stack([where % 2, np.where(where % 3, 0.4, NAN)], axis=1))
    np.testing.assert_array_equal(view.targets["va"][:, 1], where / 24 - 0.25)
    np.testing.assert_array_equal(view.time_s, where / 25)
    shares = view.votes
    assert np.isnan(shares[0]).all()
    np.testing.assert_array_equal(shares[1], [0.75, 0, 0, 0, 0, 0, 0.25])
    part = view.take([i % 2 == 1 for i in range(len(view))])
    np.testing.assert_array_equal(part.time_s, where[1::2] / 25)
    extract(ToyEmbedder(), listed.with_further({}), store, dataset="plain")
    plain = store.view(["toy"], dataset="plain")
    assert (plain.further, plain.targets, plain.units, plain.time_s, plain.votes) == ({}, None, None, None, None)


def test_other_targets_leave_rows_valid_and_are_told(listed, store):
    extract(ToyEmbedder(), listed, store, dataset="d")
    again = ToyEmbedder()
    corrected = listed.with_further({**listed.further, "au.1": np.r_[1, listed.further["au.1"][1:]]})
    change = store.use_manifest("d", corrected, replace_manifest=False)
    assert (change.text, change.counts()["other_targets"]) == ("1 other targets", 1)
    report = extract(again, corrected, store, dataset="d")
    assert (report.embedded, report.already, again.embedded) == (0, 12, [])
    assert store.view(["toy"]).further["au.1"][0] == 1
    gone = change_of("d", corrected, corrected.with_further({}), made_from=lambda _: {})
    assert gone.other_targets == 12
    assert "other_targets" not in change_of("d", listed, replace(listed), made_from=lambda _: {}).counts()


def test_a_bucket_takes_and_gives_the_columns_and_other_targets_are_another_manifest(listed, store, tmp_path):
    pytest.importorskip("obstore")
    extract(ToyEmbedder(), listed, store, dataset="d")
    url = (tmp_path / "bucket").as_uri()
    plan = plan_push(store, url)
    assert {"2 action units", "valence and arousal", "times", "votes"} <= set(plan.datasets[0].inside)
    push(store, plan)
    pull(tmp_path / "other", plan_pull(tmp_path / "other", url))
    assert known(Store(tmp_path / "other").manifest("d")) == known(listed)
    with_cache = Store.open(url, cache=tmp_path / "cache")
    np.testing.assert_array_equal(with_cache.view(["toy"]).time_s, np.arange(12) / 25)
    store.use_manifest("d", listed.with_further({**listed.further, "time_s": np.arange(12) / 30}))
    with pytest.raises(ManifestError, match=r"is said differently.*other targets"):
        plan_push(store, url)


def test_exports_and_frames_hold_the_columns(listed, store, tmp_path):
    extract(ToyEmbedder(), listed, store, dataset="d")
    view = store.view(["toy.left"], mapped=True)
    paths = [sample.path for sample in listed.samples]
    export(view, tmp_path / "e.npz", form="npz")
    with np.load(tmp_path / "e.npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(found["au.12"], listed.further["au.12"])
    export(view, tmp_path / "e", form="npy", paths=paths)
    again = Manifest.read(tmp_path / "e" / "samples.csv")
    assert known(again) == known(listed)
    export(view, tmp_path / "e.csv", form="csv")
    header, first = (tmp_path / "e.csv").read_text().splitlines()[:2]
    assert header.startswith("sample_id,label,split,group,votes.Fearfully Surprised,votes.Sadly Angry,au.1,au.12,va.")
    assert first.startswith("s0000,Fearfully Surprised,test,s0000,,,0,,0.5,-0.25,0,")
    export(view, tmp_path / "p", form="projector")
    assert "au.1\tau.12" in (tmp_path / "p" / "metadata.tsv").read_text().splitlines()[0]


def test_tables_of_other_libraries_hold_the_columns(listed, store, tmp_path):
    extract(ToyEmbedder(), listed, store, dataset="d")
    view = store.view(["toy.left"])
    parquet = pytest.importorskip("pyarrow.parquet")
    export(view, tmp_path / "e.parquet", form="parquet")
    for table in (view.to_arrow(), parquet.read_table(tmp_path / "e.parquet")):
        assert table.column("au.12").to_pylist()[:2] == [None, 0.4]
    frame = pytest.importorskip("pandas") and view.to_pandas()
    np.testing.assert_array_equal(frame["time_s"], np.arange(12) / 25)
    pytest.importorskip("polars")
    assert view.to_polars()["au.12"].to_list()[:2] == [None, 0.4]


def test_the_hub_is_sent_none_of_them(listed, store, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("huggingface_hub")
    extract(ToyEmbedder(), listed, store, dataset="d")
    place = HubPlace.parse("hf://datasets/me/faces", "dataset")
    parcel = features_parcel(store.view(["toy.left"]), tmp_path, place, dataset="d", ids=True)
    tables = [parquet.read_table(data) for name, data in parcel.files.items() if name.endswith(".parquet")]
    assert {name for table in tables for name in table.column_names} == {
        "sample_id",
        "label",
        "split",
        "group",
        "toy.left",
    }


def test_a_check_says_of_how_many_samples_something_is_known(listed, tmp_path):
    listed.write(tmp_path / "m.csv")
    report = check_manifest(tmp_path / "m.csv")
    assert "2 action units of 12 of 12 samples (au.1, au.12)" in list(report.notes())
    assert report.to_json()["columns"]["au.12"] == 8
    listed.with_further({}).write(tmp_path / "p.csv")
    assert "columns" not in check_manifest(tmp_path / "p.csv").to_json()


def test_votes_of_a_manifest_are_soft_labels(tmp_path):
    made(tmp_path).write(tmp_path / "m.csv")
    found = read_soft_labels(tmp_path / "m.csv", OWN.labels)
    assert set(found) == {f"s{i:02d}" for i in range(12) if i % 6}
    np.testing.assert_allclose(found["s02"], [1 / 3, 2 / 3, 0], rtol=1e-6)


def test_a_table_of_ones_own_keeps_its_columns_under_a_manifests_titles(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    text = "file,emotion,AU06_r,AU12,au.1,valence,arousal,time_s\n"
    text += "a.png,Fear,1.5,1,0.2,-5,-5,0.04\nb.png,Fear,,-1,,0.5,0,\n"
    path = tmp_path / "list.csv"
    path.write_text(text)
    found = build("csv", path, columns="path=file,label=emotion").manifest
    assert known(found) == {
        "a.png": {"au.1": 0.2, "au.6": 0.3, "au.12": 1, "time_s": 0.04}, "b.png": {"va.valence": 0.5, "va.arousal": 0},
    }  # fmt: skip
    assert build("csv", path, columns="path=file,label=emotion,targets=none").manifest.further == {}
    for row, said in (
        ("a.png,Fear,6,1,0,0,0,0\n", r"list\.csv:2: intensities such as AU06_r must lie in \[0, 5\].*targets=none"),
        ("a.png,Fear,1,1,0,0,0,soon\n", r"list\.csv:2: time_s must be a number of seconds.*targets=none"),
        ("a.png,Fear,1,1,2,0,0,0\n", r"list\.csv:2: au\.1 must lie in"),
    ):
        path.write_text(text.splitlines()[0] + "\n" + row)
        with pytest.raises(ManifestError, match=f"(?s){said}"):
            build("csv", path, columns="path=file,label=emotion")
    path.write_text("path,AU1,AU01_r\na.png,1,1\n")
    with pytest.raises(ManifestError, match=r"(?s)list\.csv:1: expected one column for each AU.*targets=none"):
        build("csv", path)


def test_a_parquet_table_keeps_its_columns_too(tmp_path):
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    columns = {"path": ["a.png", "b.png"], "AU06_r": [1.5, float("nan")], "time_s": [0.0, None]}
    parquet.write_table(arrow.table(columns), tmp_path / "l.parquet")
    assert known(build("parquet", tmp_path / "l.parquet").manifest) == {
        "a.png": {"au.6": 0.3, "time_s": 0},
        "b.png": {},
    }
