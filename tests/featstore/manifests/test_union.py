from __future__ import annotations

import dataclasses

import pytest
from cer_fusion.featstore import Manifest, Sample, class_set
from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests.union import merge, union
from cer_fusion.featstore.pictures.pictures import PictureSource

from tests.featstore.manifests.adapters.layouts import fill, tarred, zipped


@pytest.fixture
def two(tmp_path) -> dict[str, Manifest]:
    """One with its pictures in a folder, the other in a zip file, with the same ids and different classes."""
    first = fill(tmp_path / "data/one", {"1.png": b"one 1", "2.png": b"one 2"})
    second = zipped(fill(tmp_path / "data/deep/two", {"1.png": b"two 1"}))
    return {
        "one": Manifest(
            samples=(Sample("1", "1.png", "Happy", "train", "v"), Sample("2", "2.png", "Neutral", "test")),
            classes=class_set("fer2013_7"),
            root=first,
        ),
        "two": Manifest(
            samples=(Sample("1", "1.png", "Happiness", "test", "v"),), classes=class_set("affwild2_expr8"), root=second
        ),
    }


def test_a_union_maps_labels_and_counts_by_source(two, tmp_path):
    found = union(two, class_set("unity8"))
    assert [tuple(sample) for sample in found.manifest.samples] == [
        ("one/1", "one/1.png", "Happiness", "train", "one/v"),
        ("one/2", "one/2.png", "Neutral", "test", ""),
        ("two/1", "deep/two.zip/1.png", "Happiness", "test", "two/v"),
    ]
    assert found.counts["two"]["Happiness"] == 1
    assert found.left_out == {"one": {}, "two": {}}
    found.manifest.write(tmp_path / "unity.csv")
    again = Manifest.read(tmp_path / "unity.csv")
    read = [PictureSource(again.root).read(s.path) for s in again.samples]
    assert read == [b"one 1", b"one 2", b"two 1"]


def test_a_union_leaves_out_what_has_no_counterpart_and_says_of_which_source(two):
    two["two"] = Manifest(
        samples=(*two["two"].samples, Sample("3", "3.png", "Other", "test")),
        classes=two["two"].classes,
        root=two["two"].root,
    )
    found = union(two, class_set("basic7"))
    assert found.left_out == {"one": {}, "two": {"Other: no class of basic7": 1}}
    assert sum(found.counts["two"].values()) == 1


def test_merging_needs_equal_classes_and_different_ids(two):
    with pytest.raises(ManifestError, match=r"different classes \(fer2013_7, affwild2_expr8\)\n.*unity"):
        merge(two)
    same = {"a": two["one"], "b": two["one"]}
    with pytest.raises(ManifestError, match=r"2 sample ids stand in more than one manifest: 1, 2\n.*--prefix"):
        merge(same)
    assert merge(same, prefix=True).ids == ("a/1", "a/2", "b/1", "b/2")


def test_parts_with_one_root_keep_it_even_if_it_is_an_archive(tmp_path):
    archive = tarred(fill(tmp_path / "a", {"1.png": b"1", "2.png": b"2"}))
    parts = {
        str(i): Manifest(samples=(Sample(f"{i}", f"{i}.png"),), classes=class_set("abaw7"), root=archive)
        for i in (1, 2)
    }
    merged = merge(parts)
    assert merged.root == archive.resolve()
    assert [s.path for s in merged.samples] == ["1.png", "2.png"]


def test_a_group_that_two_parts_have_in_different_splits_is_refused(two):
    parts = {
        name: Manifest(
            samples=(Sample(name, "1.png", "", split, "v"),), classes=class_set("abaw7"), root=two["one"].root
        )
        for name, split in (("a", "train"), ("b", "test"))
    }
    with pytest.raises(ManifestError, match=r"a \+ b, sample 1: group 'v' stands in two splits"):
        merge(parts)


def way(identity, **videos):
    return {"identity": {"fps": identity}, "versions": {"av": "1"}, "videos": videos}


def test_merging_keeps_what_made_the_pictures(make_manifest):
    def named(prefix, origin):
        manifest = make_manifest(2)
        samples = tuple(s._replace(sample_id=prefix + s.sample_id) for s in manifest.samples)
        return dataclasses.replace(manifest, samples=samples, origin=origin)

    one, two = way(5, a={"sha256": "1"}), way(5, b={"sha256": "2"})
    merged = merge({"x": named("x", {"frames": [one]}), "y": named("y", {"frames": [two]})})
    assert merged.origin == {"frames": [way(5, a={"sha256": "1"}, b={"sha256": "2"})]}
    assert one["videos"] == {"a": {"sha256": "1"}}, "what was given is as before"
    assert merge({"x": named("x", {"frames": [one]}), "y": named("y", {"frames": [one]})}).origin == {"frames": [one]}
    other, clash = way(25, a={"sha256": "1"}), way(5, a={"sha256": "9"})
    for second in (other, clash):
        both = {"x": named("x", {"frames": [one]}), "y": named("y", {"frames": [second]})}
        assert merge(both).origin == {"frames": [one, second]}


def test_origins_that_cannot_be_one_are_told(make_manifest, caplog):
    first = dataclasses.replace(make_manifest(2), origin={"tool": "a"})
    samples = tuple(s._replace(sample_id="y" + s.sample_id) for s in first.samples)
    second = dataclasses.replace(first, samples=samples, origin={"tool": "b"})
    assert merge({"x": first, "y": second}).origin == {"tool": "a"}
    assert "the origins of the manifests differ in 'tool'; that of y is left out" in caplog.text
    third = dataclasses.replace(second, origin={})
    merge({"x": first, "z": third})
    assert "what made the pictures of z is not known" in caplog.text
