from __future__ import annotations

import json
from pathlib import Path

import pytest
from cer_fusion.featstore.manifests.checking import Look, check_manifest

from tests.featstore.manifests.adapters.layouts import fill


def look(data: bytes) -> Look:
    if data.startswith(b"BAD"):
        raise ValueError("not a picture")
    return Look(len(data), 1, "L")


def listed(root: Path, text: str, pictures: dict[str, bytes]) -> Path:
    return fill(root, {"m.csv": "sample_id,path,label,split,group\n" + text, **pictures}) / "m.csv"


def test_a_sound_manifest_has_no_faults(tmp_path):
    path = listed(tmp_path, "a,1.png,x,train,g\nb,2.png,x,test,h\n", {"1.png": b"one", "2.png": b"two"})
    report = check_manifest(path, looking=look)
    assert list(report.faults()) == []
    assert report.sizes == {"3 x 1": 2}
    assert report.modes == {"L": 2}
    assert list(report.notes()) == ["the largest class has 1.0 times the samples of the smallest"]


@pytest.fixture
def faulty(tmp_path) -> Path:
    text = (
        "a,1.png,x,train,g\nb,2.png,x,train,g\nc,3.png,y,test,g\nd,4.png,x,test,\ne,5.png,x,train,\nf,6.png,x,train,h\n"
    )
    pictures = {"1.png": b"one", "2.png": b"one", "3.png": b"one", "4.png": b"BAD", "6.png": b"six"}
    return listed(tmp_path, text, pictures)


def test_every_fault_is_found_and_names_samples_and_a_way_out(faulty):
    counted: list[tuple[int, int]] = []
    report = check_manifest(faulty, looking=look, progress=lambda done, total: counted.append((done, total)))
    assert report.unreadable == {"e": "missing"}
    assert report.unusable == {"d": "not a picture"}
    assert report.repeated == report.across_splits == report.two_labels == [["a", "b", "c"]]
    assert report.crossing_groups == {"g": ("train", "test")}
    assert report.unlearnt == ["y"]
    faults = list(report.faults())
    assert len(faults) == 6
    assert "1 pictures cannot be read: e (missing)" in faults[0]
    assert "a = b = c" in faults[2]
    assert "1 groups stand in more than one split: g (train, test)" in faults[4]
    assert counted[-1] == (6, 6)
    assert json.loads(json.dumps(report.to_json()))["crossing_groups"] == {"g": ["train", "test"]}


def test_without_a_look_into_pictures_only_their_bytes_count(faulty):
    report = check_manifest(faulty)
    assert report.unusable == {}
    assert report.sizes == {}


def test_another_root_is_looked_at_on_request(faulty, tmp_path):
    report = check_manifest(faulty, root=tmp_path / "none")
    assert len(report.unreadable) == 6
    assert "paths start at" in next(report.faults())


def test_a_manifest_without_groups_says_what_cannot_be_seen(tmp_path):
    path = listed(tmp_path, "a,1.png,x,,\n", {"1.png": b"one"})
    assert "whether a subject or a video stands in two splits cannot be seen" in list(check_manifest(path).notes())[-1]
