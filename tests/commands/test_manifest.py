from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cer_fusion.featstore import Manifest, Store
from cer_fusion.featstore.manifests.adapters import KINDS
from tests.featstore.manifests.adapters.layouts import fill, tarred

ROOT = Path(__file__).resolve().parents[2]
FERPLUS = ROOT.parent / "shared" / "data" / "ferplus.zip"


def draw(path: Path, seed: int, size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)).save(path)


@pytest.fixture
def pics(tmp_path) -> Path:
    """Twenty small grey pictures of two classes, without splits."""
    for i in range(20):
        draw(tmp_path / "pics" / ("happy" if i % 2 else "Sad") / f"{i}.png", i)
    return tmp_path / "pics"


def test_kinds_come_first_wherever_options_stand(run, pics):
    plain = json.loads(run("cer-feat manifest folder pics -o a.csv --json").stdout)
    for command in (
        "manifest -o a.csv --overwrite --json folder pics",
        "manifest build folder pics -o a.csv --overwrite --json",
    ):
        assert json.loads(run(f"cer-feat {command}").stdout) == plain


def test_help_names_every_kind_and_every_tool(run):
    text = run("cer-feat manifest --help").stdout
    assert [
        kind for kind in (*KINDS, "unity", "check", "split", "merge", "filter", "relabel") if kind not in text
    ] == []
    assert "--map-to" in run("cer-feat manifest rafdb-basic --help").stdout
    assert "Example: cer-feat manifest check" in run("cer-feat manifest check --help").stdout


def test_the_page_about_datasets_has_every_kind():
    text = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert [kind for kind in (*KINDS, "unity") if f"`{kind}`" not in text] == []


def test_missing_pictures_are_named_and_can_be_dropped(run, tmp_path):
    lines = "".join(f"train_{i:04d}.jpg 8\n" for i in range(1, 14))
    fill(tmp_path / "RAF", {"compound/EmoLabel/list_patition_label.txt": lines})
    draw(tmp_path / "RAF/compound/Image/aligned/train_0001_aligned.jpg", 0)
    result = run("cer-feat manifest rafdb-compound RAF -o m.csv --json")
    assert "12 pictures are missing under RAF:" in result.stderr
    assert "train_0002: compound/Image/aligned/train_0002_aligned.jpg" in result.stderr
    assert "… and 2 more; --json names all" in result.stderr
    assert "pictures cannot be read" not in result.stderr
    found = json.loads(result.stdout)
    assert (found["samples"], len(found["missing"])) == (13, 12)
    dropped = run("cer-feat manifest rafdb-compound RAF -o m.csv --overwrite --missing drop")
    assert "dropped: 13 → 1 samples" in dropped.stderr
    (tmp_path / "RAF/compound/Image/aligned/train_0001_aligned.jpg").unlink()
    assert (
        "all 13 pictures"
        in run("cer-feat manifest rafdb-compound RAF -o m.csv --overwrite --missing drop", code=1).stderr
    )


def test_fer2013_writes_its_pictures_beside_the_manifest_and_the_check_reads_them(run, tmp_path):
    rows = "".join(f"{i % 7},{' '.join([str(i)] * 2304)},{'Training' if i < 9 else 'PrivateTest'}\n" for i in range(12))
    fill(tmp_path, {"fer2013.csv": f"emotion,pixels,Usage\n{rows}"})
    result = run("cer-feat manifest fer2013 fer2013.csv -o fer.csv --map-to unity8")
    assert "wrote the pictures to fer.pictures.zip" in result.stderr
    assert "sizes: 48 x 48 (12)" in run("cer-feat manifest check fer.csv --decode").stdout


def test_pictures_in_a_tar_file_and_out_of_a_csv_file_are_embedded_like_any_other(run, pics, tmp_path):
    run("cer-feat manifest folder pics -o folder.csv --map-to unity8")
    run(f"cer-feat manifest folder {tarred(pics).name} -o tar.csv --map-to unity8")
    rows = "".join(f"{i},{' '.join([str(i)] * 2304)},Training\n" for i in range(7))
    fill(tmp_path, {"fer2013.csv": f"emotion,pixels,Usage\n{rows}"})
    run("cer-feat manifest fer2013 fer2013.csv -o fer.csv")
    extract = "cer-feat extract --backbone timm:test_vit --weights random --json --data"
    embedded = {name: json.loads(run(f"{extract} {name}.csv").stdout)["embedded"] for name in ("folder", "tar", "fer")}
    assert embedded == {"folder": 20, "tar": 20, "fer": 7}
    store = Store(tmp_path / "features")
    first, second = (store.view(["test_vit"], dataset=name) for name in ("folder", "tar"))
    assert first.ids == second.ids
    np.testing.assert_array_equal(first.blocks["test_vit"], second.blocks["test_vit"])


def test_what_an_adapter_assumed_and_left_out_is_told(run, tmp_path):
    fill(
        tmp_path / "ce",
        {
            "RAFCE_emolabel.txt": "1.jpg 0\n2.jpg 12\n",
            "RAFCE_partition.txt": "1.jpg 0\n2.jpg 1\n",
            "1_aligned.jpg": b"x",
        },
    )
    result = run("cer-feat manifest raf-ce ce -o m.csv --map-to abaw7 --json")
    assert "assumed of RAFCE_partition.txt: 0 is train (1), 1 is test (1)" in result.stderr
    assert "left out: 1 × Happily Fearful: no class of abaw7" in result.stderr
    assert json.loads(result.stdout)["left_out"] == {"Happily Fearful: no class of abaw7": 1}


def test_check_ends_with_status_1_where_something_is_wrong_and_0_where_nothing_is(run, pics, tmp_path):
    run("cer-feat manifest folder pics -o m.csv")
    good = run("cer-feat manifest check m.csv")
    assert "m.csv: no faults in 20 samples" in good.stdout
    assert "sizes: 8 x 8 (20)" in good.stdout
    assert "modes: L (20)" in good.stdout
    (pics / "Sad" / "0.png").write_bytes((pics / "happy" / "1.png").read_bytes())
    (pics / "Sad" / "2.png").write_bytes(b"text")
    short = pics / "Sad" / "4.png"
    short.write_bytes(short.read_bytes()[:-30])
    (pics / "Sad" / "6.png").unlink()
    bad = run("cer-feat manifest check m.csv", code=1)
    assert "1 pictures cannot be read: Sad/6 (missing)" in bad.stdout
    assert "1 files are no usable pictures: Sad/2 (not a JPEG" in bad.stdout
    assert "1 pictures have more than one label: Sad/0 = happy/1" in bad.stdout
    found = json.loads(run("cer-feat manifest check m.csv --json --decode", code=1).stdout)
    assert set(found["unusable"]) == {"Sad/2", "Sad/4"}
    assert len(found["faults"]) == 3


def test_a_subject_in_two_splits_is_found_and_mended_by_splitting_again(run, pics, tmp_path):
    lines = [f"{n},{n},{'train' if i < 12 else 'test'},p{i // 4}" for i, n in enumerate(sorted(
        str(path.relative_to(pics)) for path in pics.rglob("*.png")
    ))]  # fmt: skip
    lines[3] = lines[3].replace("train", "test")
    fill(tmp_path / "pics", {"m.csv": "\n".join(["sample_id,path,split,group", *lines, ""])})
    result = run("cer-feat manifest check pics/m.csv", code=1)
    assert "1 groups stand in more than one split: p0 (train, test)" in result.stdout
    assert "stands in two splits" in run("cer-feat manifest split pics/m.csv -o n.csv", code=1).stderr
    run("cer-feat manifest split pics/m.csv -o n.csv --again --shares train=0.6,test=0.4")
    assert "no faults" in run("cer-feat manifest check n.csv").stdout


def test_split_is_stratified_seeded_and_keeps_repeats_together(run, pics):
    (pics / "Sad" / "0.png").write_bytes((pics / "Sad" / "2.png").read_bytes())
    run("cer-feat manifest folder pics -o m.csv --repeats ignore")
    result = run("cer-feat manifest split m.csv -o s.csv --shares train=0.6,valid=0.2,test=0.2 --seed 3 --json")
    assert json.loads(result.stdout)["counts"]["train"] == {"Sad": 6, "happy": 6}
    assert "1 pictures occur more than once: the samples of each stay together" in result.stderr
    first = Path("s.csv").read_text()
    assert "split is already" not in first
    assert "is split already: train" in run("cer-feat manifest split s.csv -o t.csv", code=1).stderr
    run("cer-feat manifest split s.csv -o t.csv --again --shares train=0.6,valid=0.2,test=0.2 --seed 3")
    assert Path("t.csv").read_text() == first
    rows = "".join(f"s{i},{i}.png,{'rare' if i < 2 else 'often'}\n" for i in range(12))
    Path("few.csv").write_text("sample_id,path,label\n" + rows)
    few = run("cer-feat manifest split few.csv -o s.csv --overwrite --shares train=0.8,test=0.2 --repeats ignore")
    assert "split test has no sample of rare" in few.stderr


def test_filter_relabel_merge_and_unity_lead_to_one_table(run, pics, tmp_path):
    run("cer-feat manifest folder pics -o one.csv --hold-out 0.2")
    assert "kept 16 of 20 samples" in run("cer-feat manifest filter one.csv split=train -o train.csv").stderr
    run("cer-feat manifest filter one.csv split=test -o test.csv")
    assert json.loads(run("cer-feat manifest merge train.csv test.csv -o both.csv --json").stdout)["samples"] == 20
    mapped = run("cer-feat manifest relabel both.csv --map-to unity8 -o eight.csv --json")
    assert json.loads(mapped.stdout)["counts"]["test"]["Happiness"] == 2
    fill(tmp_path, {"t.json": '{"Sad": "low", "happy": null}'})
    left = run("cer-feat manifest relabel both.csv --map t.json -o low.csv")
    assert "left out: 10 × happy: no class of custom" in left.stderr
    united = run("cer-feat manifest unity one.csv eight.csv -o unity.csv --map-to basic7")
    assert "Samples by source" in united.stdout
    found = json.loads(run("cer-feat manifest unity one.csv eight.csv -o unity.csv --overwrite --json").stdout)
    assert found["sources"]["eight"]["Sadness"] == 10
    assert "20 pictures have" not in run("cer-feat manifest check unity.csv").stdout


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("check none.csv", 1, "no manifest none.csv"),
        ("filter m.csv split=tain -o n.csv", 1, "no sample of m.csv has split 'tain'"),
        ("split m.csv -o n.csv --shares train", 2, "expected such as train=0.8,test=0.2, however: 'train'"),
        ("split m.csv -o n.csv --repeats first", 2, "'first' is not one of 'together', 'ignore'"),
        ("relabel m.csv -o n.csv", 2, "name a class set, or a table with --map"),
        ("relabel m.csv -o n.csv --map-to abaw7", 1, "no label of m.csv is a class of 'abaw7'"),
        ("relabel m.csv -o n.csv --map none.json", 1, "no such file: none.json"),
        ("unity m.csv -o n.csv", 2, "expected two manifests or more"),
        ("merge m.csv m.csv -o n.csv", 2, "with different file names"),
        ("chekc m.csv -o n.csv", 1, "no dataset kind 'chekc'"),
        ("folder pics -o n.csv --missing none", 2, "'none' is not one of 'keep', 'drop'"),
        ("folder pics -o n.csv --partition 0=train", 1, "kind 'folder' takes no option 'partition'"),
    ],
)
def test_mistakes_are_told_in_words(run, pics, command, code, message):
    run("cer-feat manifest folder pics -o m.csv")
    result = run(f"cer-feat manifest {command}", code=code)
    assert message in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.skipif(not FERPLUS.exists(), reason="../shared with the FER+ faces is not here")
def test_the_check_finds_the_faces_that_stand_in_both_folders_of_ferplus(run):
    run(f"cer-feat manifest ferplus {FERPLUS} -o fer.csv --repeats ignore")
    result = run("cer-feat manifest check fer.csv --json", code=1)
    found = json.loads(result.stdout)
    assert len(found["across_splits"]) == 49
    assert list(found["counts"]["train"].values()) == [1095, 785, 171, 20, 508, 298, 576]
    assert list(found["counts"]["valid"].values()) == [147, 89, 20, 2, 54, 31, 65]
    assert found["sizes"] == {"48 x 48": 3861}
    assert found["modes"] == {"L": 3861}
    run("cer-feat manifest filter fer.csv distinct -o distinct.csv")
    clean = Manifest.read("distinct.csv")
    assert (len(clean.select("train")), len(clean.select("valid"))) == (3165, 355)


def test_filter_tells_which_classes_go_and_which_stay_without_samples(run, pics, tmp_path):
    (tmp_path / "m.csv").write_text(
        "sample_id,path,label,split\na,a.png,x,train\nb,b.png,y,train\nc,c.png,z,test\n", encoding="utf-8"
    )
    told = run("cer-feat manifest filter m.csv label!=y -o part.csv").stderr
    assert "no class any more: y; 2 classes are left" in told
    assert Manifest.read(tmp_path / "part.csv").classes.labels == ("x", "z")
    told = run("cer-feat manifest filter m.csv split=train -o small.csv").stderr
    assert "no sample of z, which stay declared" in told
    assert "--classes present" in told
    assert Manifest.read(tmp_path / "small.csv").classes.labels == ("x", "y", "z")
    told = run("cer-feat manifest filter m.csv split=train --classes present -o less.csv").stderr
    assert "no class any more: z" in told
    assert Manifest.read(tmp_path / "less.csv").classes.labels == ("x", "y")
    run("cer-feat manifest filter m.csv split=train --classes some -o less.csv", code=2)


def test_the_targets_of_a_dataset_are_written_beside_its_manifest_and_learned_from(run, tmp_path):
    video = tmp_path / "aff" / "v"
    video.mkdir(parents=True)
    for i in (1, 2, 3):
        (video / f"{i:05d}.jpg").write_bytes(bytes([i]))
    lists = {"EXPR": "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other\n1\n4\n4\n"}
    lists |= {"AU": "AU1,AU12\n0,1\n-1,-1\n1,1\n", "VA": "valence,arousal\n0.5,0.25\n-5,-5\n-5,-5\n"}
    for name, text in lists.items():
        (tmp_path / "aff" / name / "Train_Set").mkdir(parents=True)
        (tmp_path / "aff" / name / "Train_Set" / "v.txt").write_text(text)
    told = run("cer-feat manifest affwild2 aff -o m.csv --targets t.csv").stderr
    assert "wrote t.csv: targets of 2 of 3 samples" in told
    assert (tmp_path / "t.csv").read_text().splitlines() == [
        "sample_id,AU1,AU12,valence,arousal", "v/00001,0,1,0.5,0.25", "v/00002,,,,", "v/00003,1,1,,",
    ]  # fmt: skip
    assert (tmp_path / "m.csv").read_text().startswith("sample_id,path,label,split,group\n")  # apart, and not twice
    told = " ".join(run("cer-feat manifest affwild2 aff -o w.csv").stderr.split())
    assert "with 2 action units of 2 of 3 samples (au.1, au.12)" in told
    assert "with valence and arousal of 1 of 3 samples (va.valence, va.arousal)" in told
    run("cer-feat manifest filter w.csv label=Happiness -o part.csv")
    assert (tmp_path / "part.csv").read_text().splitlines() == [
        "sample_id,path,label,split,group,au.1,au.12,va.valence,va.arousal",
        "v/00002,v/00002.jpg,Happiness,train,v,,,,", "v/00003,v/00003.jpg,Happiness,train,v,1,1,,",
    ]  # fmt: skip
    refused = " ".join(run("cer-feat manifest folder aff -o n.csv --targets u.csv", code=2).stderr.split())
    assert "folder has no targets beside classes; " in refused
    assert "raf-ce" in refused
