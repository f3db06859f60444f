from __future__ import annotations

import pytest
from cer_fusion.featstore import Manifest, Sample, class_set
from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests.conditions import keep_where

from tests.featstore.manifests.adapters.layouts import fill


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
