from __future__ import annotations

import json
from pathlib import Path

import pytest
from cer_fusion.featstore import Manifest, Sample, class_set
from cer_fusion.featstore.errors import ClassSetError, FormatError, ManifestError
from cer_fusion.featstore.manifests.class_sets import ClassSet
from cer_fusion.featstore.manifests.relabelling import read_table, relabelled, target_of

FER = class_set("fer2013_7")


def manifest(*labels: str, classes: ClassSet = FER) -> Manifest:
    samples = tuple(Sample(f"s{i}", f"{i}.png", label, "train") for i, label in enumerate(labels))
    return Manifest(samples=samples, classes=classes, root=Path(), lines=tuple(range(2, 2 + len(samples))))


def test_labels_go_where_they_mean_the_same_and_the_others_are_counted():
    source = class_set("affwild2_expr8")
    found, left_out = relabelled(manifest("Other", "Anger", "", "Other", classes=source), class_set("basic7"))
    assert [(s.sample_id, s.label) for s in found.samples] == [("s1", "Anger"), ("s2", "")]
    assert found.lines == (3, 4)
    assert left_out == {"Other: no class of basic7": 2}


def test_a_table_of_ones_own_decides_alone(tmp_path):
    table = {"Angry": "Negative", "Disgust": "Negative", "Fear": "Negative", "Happy": "Positive", "Sad": "Negative"}
    path = tmp_path / "t.json"
    path.write_text(json.dumps({**table, "Surprise": None, "Neutral": None}))
    read = read_table(path, FER)
    target = target_of(read, None)
    assert target.labels == ("Negative", "Positive")
    found, left_out = relabelled(manifest("Happy", "Sad", "Neutral"), target, read)
    assert [s.label for s in found.samples] == ["Positive", "Negative"]
    assert left_out == {"Neutral: no class of custom": 1}
    with pytest.raises(ClassSetError, match="label 'Negative' is not in class set 'basic8'"):
        target_of(read, class_set("basic8"))


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
        read_table(tmp_path / "t.json", FER)


def test_nothing_left_is_an_error_and_not_an_empty_manifest():
    with pytest.raises(ManifestError, match="no label of manifest is a class of 'abaw7': Sad"):
        relabelled(manifest("Sad"), class_set("abaw7"))


def test_a_table_that_windows_wrote_is_read_past_its_byte_order_mark(tmp_path):
    (tmp_path / "t.json").write_bytes(b'\xef\xbb\xbf{"a": "b"}\r\n')
    assert read_table(tmp_path / "t.json", ClassSet(name="custom", labels=("a",))) == {"a": "b"}
