from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from cer_fusion.featstore import Manifest, Sample, class_set
from cer_fusion.featstore.errors import ClassSetError, FormatError, ManifestError
from cer_fusion.featstore.manifests.changes import classes_of, keep_where, merge, read_renaming, renamed, union
from cer_fusion.featstore.manifests.class_sets import ClassSet
from cer_fusion.featstore.pictures.pictures import PictureSource
from tests.featstore.manifests.adapters.layouts import fill, tarred, zipped

FER = class_set("fer2013_7")


def manifest(*labels: str, classes: ClassSet = FER) -> Manifest:
    samples = tuple(Sample(f"s{i}", f"{i}.png", label, "train") for i, label in enumerate(labels))
    return Manifest(samples=samples, classes=classes, root=Path(), lines=tuple(range(2, 2 + len(samples))))


def test_labels_go_where_they_mean_the_same_and_the_others_are_counted():
    source = class_set("affwild2_expr8")
    found, left_out = renamed(manifest("Other", "Anger", "", "Other", classes=source), class_set("basic7"))
    assert [(s.sample_id, s.label) for s in found.samples] == [("s1", "Anger"), ("s2", "")]
    assert found.lines == (3, 4)
    assert left_out == {"Other: no class of basic7": 2}


def test_a_table_of_ones_own_decides_alone(tmp_path):
    table = {"Angry": "Negative", "Disgust": "Negative", "Fear": "Negative", "Happy": "Positive", "Sad": "Negative"}
    path = tmp_path / "t.json"
    path.write_text(json.dumps({**table, "Surprise": None, "Neutral": None}))
    read = read_renaming(path, FER)
    target = classes_of(read, None)
    assert target.labels == ("Negative", "Positive")
    found, left_out = renamed(manifest("Happy", "Sad", "Neutral"), target, read)
    assert [s.label for s in found.samples] == ["Positive", "Negative"]
    assert left_out == {"Neutral: no class of custom": 1}
    with pytest.raises(ClassSetError, match="label 'Negative' is not in class set 'basic8'"):
        classes_of(read, class_set("basic8"))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ('{"Angry": "x"}', ManifestError, "says nothing about Disgust, Fear"),
        ('{"Angri": "x"}', ManifestError, "'Angri' is no label of 'fer2013_7'; did you mean 'Angry'"),
        ('{"Angry": 3}', ManifestError, "must go to a label or to null, however: 3"),
        ('["Angry"]', FormatError, "must hold a JSON object"),
        ('{"Angry": "x", "Angry": "y"}', FormatError, "stands twice"),
    ],
)
def test_faulty_tables_are_refused(tmp_path, text, error, message):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(error, match=message):
        read_renaming(tmp_path / "t.json", FER)


def test_nothing_left_is_an_error_and_not_an_empty_manifest():
    with pytest.raises(ManifestError, match="no label of manifest is a class of 'abaw7': Sad"):
        renamed(manifest("Sad"), class_set("abaw7"))


def test_a_table_that_windows_wrote_is_read_past_its_byte_order_mark(tmp_path):
    (tmp_path / "t.json").write_bytes(b'\xef\xbb\xbf{"a": "b"}\r\n')
    assert read_renaming(tmp_path / "t.json", ClassSet(name="custom", labels=("a",))) == {"a": "b"}


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


@pytest.fixture
def listed(tmp_path) -> Manifest:
    root = fill(tmp_path / "f", {"1.png": b"x", "2.jpg": b"y", "3.png": b"x", "5.png": b"z"})
    samples = (
        Sample("a", "1.png", "Sadly Angry", "train", "01"),
        Sample("b", "2.jpg", "Sadly Fearful", "train", "02"),
        Sample("c", "3.png", "Sadly Angry", "test", "03"),
        Sample("d", "4.png", "", "test", "10"),
        Sample("e", "5.png", "Happily Surprised", "", ""),
    )
    return Manifest(samples=samples, classes=class_set("abaw7"), root=root)


@pytest.mark.parametrize(
    ("conditions", "kept"),
    [
        (["split=train"], "ab"),
        (["split!=train"], "cde"),
        (["split=train,test", "label=sadly_angry"], "ac"),
        (["label!=Sadly Angry", "has-label"], "be"),
        (["label=Sadly*"], "abc"),
        (["group=0?"], "abc"),
        (["path=*.jpg"], "b"),
        (["sample_id=a,e"], "ae"),
        (["no-label"], "d"),
        (["no-split"], "e"),
        (["has-group", "no-label"], "d"),
        (["readable"], "abce"),
        (["distinct"], "abe"),
        (["distinct", "split=test"], "c"),
    ],
)
def test_samples_that_fulfil_every_condition_are_kept_in_order(listed, conditions, kept):
    assert "".join(keep_where(listed, conditions).ids) == kept


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (["split=tain"], "has split 'tain'; did you mean 'train'"),
        (["lable=x"], "no column 'lable'; did you mean 'label'"),
        (["has-labels"], "no condition 'has-labels'; did you mean 'has-label'"),
        (["label=Sadly Surprised"], "has label 'Sadly Surprised'"),
        (["label="], "names no value; for empty cells say no-label or has-label"),
        (["split=train", "no-label"], "fulfils: split=train no-label"),
        (["no-label", "readable"], "fulfils: no-label readable"),
    ],
)
def test_conditions_that_cannot_hold_are_refused(listed, conditions, message):
    with pytest.raises(ManifestError, match=message):
        keep_where(listed, conditions)


def test_a_class_that_a_label_condition_removed_is_no_class_any_more(listed):
    abaw = listed.classes.labels
    kept = keep_where(listed, ["label!=Sadly Angry", "has-label"])
    assert kept.classes.labels == tuple(label for label in abaw if label != "Sadly Angry")
    assert kept.y.tolist() == [
        kept.classes.labels.index("Sadly Fearful"),
        kept.classes.labels.index("Happily Surprised"),
    ]
    kept = keep_where(listed, ["label=Sadly*"])
    assert "Happily Surprised" not in kept.classes.labels
    assert "Angrily Surprised" in kept.classes.labels  # it had no sample before either: nobody asked for it to go


def test_a_class_that_a_small_split_lacks_keeps_its_place(listed):
    for conditions in (["split=test"], ["group=03"], ["no-label"], ["distinct", "split=train"]):
        assert keep_where(listed, conditions).classes == listed.classes


def test_classes_stay_or_go_as_asked(listed):
    assert keep_where(listed, ["label!=Sadly Angry"], classes="all").classes == listed.classes
    assert keep_where(listed, ["split=test"], classes="present").classes.labels == ("Sadly Angry",)
