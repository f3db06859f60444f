from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from cer_fusion.commands.feat.extract import rate_text
from cer_fusion.featstore import Manifest

TINY = "cer-feat extract --backbone timm:test_vit --weights random --data faces.csv"


def test_manifest_prints_counts_and_writes_the_file(run, drawn, tmp_path):
    result = run(f"cer-feat manifest rafdb-compound {drawn} -o faces.csv")
    assert "Fearfully Surprised" in result.stdout
    assert "wrote faces.csv: 42 samples, classes abaw7" in result.stderr
    assert (tmp_path / "faces.csv").exists()
    found = json.loads(run(f"cer-feat manifest rafdb-compound {drawn} -o faces.csv --overwrite --json").stdout)
    assert found["counts"]["train"]["Sadly Angry"] == 4


def test_manifest_says_which_pictures_occur_twice_and_can_drop_them(run, tmp_path):
    for split, label, name, content in (
        ("train", "a", "1", b"x"), ("train", "a", "2", b"y"), ("test", "b", "3", b"x"), ("test", "b", "4", b"z"),
    ):  # fmt: skip
        folder = tmp_path / "pics" / split / label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.png").write_bytes(content)
    result = run("cer-feat manifest folder pics -o m.csv")
    assert "1 pictures occur more than once (1 repeats), 1 of them in more than one split" in result.stderr
    assert "4 samples" in result.stderr
    assert "3 samples" in run("cer-feat manifest folder pics -o m.csv --overwrite --repeats first").stderr
    assert (
        "occur more than once" not in run("cer-feat manifest folder pics -o m.csv --overwrite --repeats ignore").stderr
    )


def test_an_unsplit_folder_can_be_split_and_thinned(run, tmp_path):
    for label in "ab":
        (tmp_path / "pics" / label).mkdir(parents=True)
        for i in range(10):
            (tmp_path / "pics" / label / f"{i}.png").write_bytes(f"{label}{i}".encode())
    found = json.loads(run("cer-feat manifest folder pics -o m.csv --hold-out 0.3 --json").stdout)
    assert found["counts"] == {"train": {"a": 7, "b": 7}, "test": {"a": 3, "b": 3}}
    assert (
        json.loads(run("cer-feat manifest folder pics -o m.csv --overwrite --sample 6 --json").stdout)["samples"] == 6
    )


def test_a_picture_that_occurs_twice_is_held_out_whole_or_not_at_all(run, tmp_path):
    (tmp_path / "pics" / "a").mkdir(parents=True)
    for i in range(20):
        (tmp_path / "pics" / "a" / f"{i:02d}.png").write_bytes(f"{i // 2}".encode())
    for seed in range(5):
        run(f"cer-feat manifest folder pics -o m.csv --overwrite --hold-out 0.3 --seed {seed}")
        listed = Manifest.read(tmp_path / "m.csv")
        split = dict(zip(listed.ids, listed.split_of_each, strict=True))
        assert len(set(split.values())) == 2
        pairs = zip(sorted(split)[::2], sorted(split)[1::2], strict=True)
        assert all(split[one] == split[other] for one, other in pairs)


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("cer-feat manifest rafdb-compound none -o m.csv", 1, "no such folder or file: none"),
        ("cer-feat manifest rafdb . -o m.csv", 1, "did you mean 'rafdb-basic'"),
        ("cer-feat manifest folder . -o m.csv --repeats twice", 2, "'twice' is not one of 'report', 'first', 'ignore'"),
        ("cer-feat ls --store none", 1, "no feature store at none"),
        ("cer-feat extract --backbone manat --data faces.csv", 1, "nearest: 'manet'"),
        ("cer-feat extract --backbone manet --data faces.csv", 1, "--weights random"),
        ("cer-feat extract --backbone manet --data none.csv", 1, "no manifest none.csv"),
        (f"{TINY} --dtype int8", 2, "'int8' is not one of 'float32', 'float16'"),
        (f"{TINY} -O x", 2, "expected key=value"),
        ("cer-feat extract --backbone timm:test_vit --weights none.pth --data faces.csv", 1, "none.pth"),
        ("cer-feat import none.npy --names n.txt --as x --data faces.csv", 1, "no such file: none.npy"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_words_with_an_exit_status(run, faces, command, code, message):
    result = run(command, code=code)
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.output


def test_extract_ls_show_and_verify_go_together(run, faces):
    assert json.loads(run(f"{TINY} --json").stdout)["embedded"] == 42
    again = json.loads(run(f"{TINY} --json").stdout)
    assert (again["already"], again["embedded"]) == (42, 0)
    entry = json.loads(run("cer-feat ls --json").stdout)["features"][0]
    assert (entry["dataset"], entry["rows"], entry["samples"], entry["blocks"]) == ("faces", 42, 42, {"pooled": 64})
    shown = run("cer-feat show test_vit").stdout
    assert "identity.weights.digest" in shown
    assert "random(seed=0)" in shown
    assert "42 rows" in run("cer-feat verify --images").stdout
    assert "test_vit@" in run("cer-feat ls").stdout


def test_verify_ends_with_status_1_on_damage_and_repair_brings_the_rows_back(run, filled, tmp_path):
    shard = next(filled.glob("faces/one@*/shard-*.h5"))
    data = bytearray(shard.read_bytes())
    data[-3] ^= 1
    shard.write_bytes(data)
    assert "do not match the sha256" in run("cer-feat verify", code=1).stdout
    run("cer-feat verify --repair", code=1)
    run("cer-feat import one.npy --names names.txt --as one --data faces.csv")
    entry = next(e for e in json.loads(run("cer-feat ls --json").stdout)["features"] if e["feature"].startswith("one"))
    assert entry["rows"] == 42


def test_another_option_makes_another_feature_and_says_what_differs(run, faces):
    run(TINY)
    result = run(f"{TINY} --seed 1")
    assert "they differ in weights.digest" in result.stderr


def test_backbones_lists_the_papers_three(run):
    names = {row["name"]: row for row in json.loads(run("cer-feat backbones --json").stdout)["backbones"]}
    assert names["manet"]["blocks"] == {"local": 512, "multi_scale": 512}
    assert {"vit", "resnet50"} <= set(names)
    assert "manet" in run("cer-feat backbones").stdout


def test_the_store_can_be_named_by_the_environment(run, faces, monkeypatch, tmp_path):
    monkeypatch.setenv("CER_STORE", str(tmp_path / "elsewhere"))
    run(TINY)
    assert (tmp_path / "elsewhere" / "store.json").exists()


def test_odd_pictures_are_embedded_and_bad_ones_listed_with_their_reason(run, tmp_path):
    folder = tmp_path / "pics" / "a"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)
    face = Image.fromarray(noise)
    exif = Image.Exif()
    exif[0x0112] = 6
    face.save(folder / "plain.png")
    face.convert("L").save(folder / "grey.png")
    face.convert("RGBA").save(folder / "alpha.png")
    face.save(folder / "turned.jpg", exif=exif)
    Image.fromarray(noise[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    (folder / "empty.png").write_bytes(b"")
    (folder / "short.png").write_bytes((folder / "plain.png").read_bytes()[:900])
    (folder / "text.jpg").write_bytes(b"this is no picture")
    Image.new("1", (30_000, 4_000)).save(folder / "huge.png")
    run("cer-feat manifest folder pics -o m.csv")
    command = "cer-feat extract --backbone timm:test_vit --weights random --data m.csv --json"
    report = json.loads(run(command).stdout)
    assert report["embedded"] == 5
    reasons = {name.rpartition("/")[2]: reason for name, reason in report["quarantined"].items()}
    assert set(reasons) == {"empty", "short", "text", "huge"}
    assert "empty" in reasons["empty"]
    assert "damaged" in reasons["short"]
    assert "pixels" in reasons["huge"]
    assert json.loads(run(command).stdout)["already"] == 9
    listed = json.loads(run("cer-feat quarantine --json").stdout)["quarantined"]
    assert {entry["sample_id"].rpartition("/")[2]: entry["reason"] for entry in listed} == reasons
    assert {entry["path"].rpartition("/")[2] for entry in listed} == {"empty.png", "short.png", "text.jpg", "huge.png"}
    assert "short.png" in run("cer-feat quarantine --features test_vit").stdout


def test_a_dataset_without_bad_pictures_says_so(run, filled):
    assert "no sample of faces is in quarantine" in run("cer-feat quarantine").stdout


def test_too_many_bad_pictures_have_an_exit_status_of_their_own(run, tmp_path):
    (tmp_path / "pics" / "a").mkdir(parents=True)
    for i in range(30):
        (tmp_path / "pics" / "a" / f"{i}.png").write_bytes(b"no picture %d" % i)
    run("cer-feat manifest folder pics -o m.csv")
    result = run("cer-feat extract --backbone timm:test_vit --weights random --data m.csv", code=3)
    assert "more than the 10 allowed" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "options"), [(signal.SIGINT, []), (signal.SIGTERM, []), (signal.SIGTERM, ["--reader-processes", "2"])]
)
def test_a_signal_ends_a_run_in_words_and_the_next_run_completes(run, faces, tmp_path, number, options):
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it\n"
        "sys.argv = ['cer-feat', 'extract', '--backbone', 'timm:test_vit', '--weights', 'random', "
        f"'--data', 'faces.csv', '--batch-size', '1', *{options}]\n"
        "from cer_fusion.backbones.torch_backbone import TorchBackbone\n"
        "embed = TorchBackbone.embed\n"
        "def slow(self, pictures):\n    print('embedding', flush=True); time.sleep(0.3); return embed(self, pictures)\n"
        "TorchBackbone.embed = slow\n"
        "from cer_fusion.cli import feat_main; feat_main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, start_new_session=True,
    )  # fmt: skip
    for _ in range(3):
        process.stdout.readline()
    time.sleep(0.1)
    os.killpg(process.pid, number)  # to readers too, as a terminal and most schedulers do
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 130, talk
    assert "Nothing is half-written" in talk
    assert "Traceback" not in talk
    report = json.loads(run(f"{TINY} --json").stdout)
    assert report["already"] >= 2
    assert report["already"] + report["embedded"] == 42


BOTH = "cer-feat extract -b timm:test_vit -b timm:test_resnet --data faces.csv --json"


def test_several_backbones_make_one_pass_and_each_its_own_feature(run, faces, tmp_path):
    given = (
        "-w timm:test_vit=random -w timm:test_resnet=random --as timm:test_resnet=small -O timm:test_vit=pooling=cls"
    )
    result = run(f"{BOTH} {given}")
    reports = json.loads(result.stdout)["features"]
    assert [report["feature"].partition("@")[0] for report in reports] == ["test_vit", "small"]
    assert [report["embedded"] for report in reports] == [42, 42]
    assert "2 features in one pass" in result.stderr
    assert "bound by" in result.stderr
    blocks = {entry["feature"]: entry["blocks"] for entry in json.loads(run("cer-feat ls --json").stdout)["features"]}
    assert {"cls": 64} in blocks.values()
    alone = "cer-feat extract -b timm:test_resnet -w random --as small --data faces.csv --json"
    assert json.loads(run(alone).stdout)["already"] == 42


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("-w random", "say whose it is, as timm:test_vit=…, however: 'random'"),
        ("-w timm:test_vat=random", "there are several backbones (timm:test_vit, timm:test_resnet)"),
        ("-w timm:test_vit=random -w timm:test_vit=pretrained", "given 2 times for timm:test_vit"),
        ("-b timm:test_vit", "timm:test_vit is named twice"),
        ("-O timm:test_vit=pooling", "expected key=value, however: 'pooling'"),
    ],
)
def test_what_is_for_no_backbone_in_particular_is_asked_back(run, faces, given, message):
    assert message in " ".join(run(f"{BOTH} {given}", code=2).stderr.replace("│", " ").split())


def test_a_single_run_names_its_bottleneck(run, faces):
    assert "bound by the model (" in run(TINY).stderr


def test_views_make_another_feature_and_are_checked(run, faces):
    run(TINY)
    assert "they differ in options.views" in run(f"{TINY} --views flip").stderr
    assert "'flop' is not one of 'none'" in run(f"{TINY} --views flop", code=2).stderr


def test_an_automatic_batch_size_and_reader_processes_change_no_row(run, faces, tmp_path):
    run(TINY)
    run(f"{TINY} --batch-size auto --reader-processes 1 --store other")
    shards = [sorted(path.name for path in (tmp_path / store).rglob("shard-*")) for store in ("features", "other")]
    assert shards[0] == shards[1]


@pytest.mark.parametrize("size", ["0", "large", "-3", "1.5"])
def test_a_batch_size_is_a_number_or_auto(run, faces, size):
    said = run(f"{TINY} --batch-size {size}", code=2).stderr.replace("│", " ")
    assert "must be a number from 1, or auto" in " ".join(said.split())


def test_an_onnx_model_is_not_compiled_again(run, faces, monkeypatch):
    from cer_fusion import backbones
    from cer_fusion.backbones import Backbone

    class NoNetwork(Backbone):
        transform = backbones.create("timm:test_vit", weights="random").transform

        def __init__(self):
            pass

        compute = weights_digest = describe = None

    monkeypatch.setattr(backbones, "create", lambda *_, **__: NoNetwork())
    said = run(f"{TINY} --compile", code=2).stderr.replace("│", " ")
    assert "there is nothing to compile" in " ".join(said.split())


def test_changed_data_beside_an_onnx_model_is_never_there_already(run, faces, tmp_path):
    onnx = pytest.importorskip("onnx", reason="the extra [onnx] is not installed")
    pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")
    from tests.backbones.conftest import write_onnx

    model = onnx.load(str(write_onnx(onnx, tmp_path / "m.onnx", ["b", 3, 16, 16])))
    onnx.save(model, "m.onnx", save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    recipe = "-O mean=0,0,0 -O std=1,1,1 -O colour=RGB -O scale=0-255 --device cpu"
    line = f"cer-feat extract --backbone onnx:m.onnx --data faces.csv {recipe}"
    run(line)
    assert "42 there already" in run(line).stderr
    data = tmp_path / "m.onnx.data"
    data.write_bytes((2 * np.frombuffer(data.read_bytes(), np.float32)).tobytes())
    talk = run(line).stderr
    assert " 0 there already" in talk
    assert "they differ in weights" in talk
    (tmp_path / "elsewhere").mkdir()
    data.rename(tmp_path / "elsewhere" / data.name)
    assert "data file is missing: m.onnx.data" in run(line, code=1).stderr


def test_the_bar_tells_rate_and_how_busy_the_model_is():
    assert rate_text("embed", 85.31, 0.934) == "85.3 pictures/s, model 93% busy"
    assert rate_text("hash", 1200.0, 0.0) == "1,200 pictures/s"
    assert rate_text("embed", None, 0.5) == ""


def test_one_damaged_feature_json_is_named_by_ls_and_the_others_are_listed(run, filled):
    path = next(filled.glob("faces/one@*/feature.json"))
    path.write_bytes(path.read_bytes()[:-30])
    result = run("cer-feat ls --json")
    one, two = json.loads(result.stdout)["features"]
    assert "unusable" in one
    assert (one["feature"], two["rows"]) == (path.parent.name, 42)
    assert "cannot be used" in result.stderr
    assert "unusable" in run("cer-feat ls").stdout
    run("cer-feat show two")
    run("cer-feat compact")
    run("cer-feat gc")
    run("cer-feat export two --format npy -o rows")
    assert "is left out" not in run("cer-fuse train -f two --head linear").stderr
    assert "nothing in the store says what it said" in run("cer-feat verify --repair", code=1).stdout
    again = run("cer-feat import one.npy --names names.txt --as one --data faces.csv")
    assert "42 matched" in again.stderr
    assert json.loads(run("cer-feat ls --json").stdout)["features"][0]["rows"] == 42


def test_one_damaged_dataset_is_named_by_ls_and_the_others_are_listed(run, filled):
    run("cer-feat import one.npy --names names.txt --as one --data faces.csv --dataset more")
    path = filled / "more" / "manifest.csv"
    path.write_bytes(path.read_bytes()[:-5])
    entries = json.loads(run("cer-feat ls --json").stdout)["features"]
    assert [("unusable" in e, e["dataset"]) for e in entries] == [(False, "faces"), (False, "faces"), (True, "more")]
    assert "more" in run("cer-feat ls").stdout


def test_a_dataset_without_its_list_is_named_by_ls(run, filled):
    (filled / "faces" / "manifest.csv").unlink()
    result = run("cer-feat ls --json")
    assert [entry["dataset"] for entry in json.loads(result.stdout)["features"]] == ["faces"]
    assert "manifest.csv is missing" in result.stderr
    run("cer-feat import one.npy --names names.txt --as one --data faces.csv --dataset faces")
    assert [entry["rows"] for entry in json.loads(run("cer-feat ls --json").stdout)["features"]] == [42, 42]


def test_one_damaged_shard_keeps_no_other_feature_from_gc_and_compact(run, filled, caplog):
    next(filled.glob("faces/one@*/shard-*")).write_bytes(b"no shard")
    run("cer-feat gc")
    assert "is left alone" in caplog.text
    result = run("cer-feat compact", code=1)
    assert "two@" in result.stdout
    assert "is left alone" in result.stderr
    assert "is left alone" not in run("cer-feat compact one", code=1).stderr
