from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from cer_fusion.commands.console import app as make_app
from cer_fusion.commands.feat import extract as feat_extract
from cer_fusion.commands.feat import finetune as feat_finetune
from cer_fusion.featstore import Manifest, class_set

BASE = "finetune --backbone timm:test_vit --weights random -O img_size=48 --device cpu"
QUICK = f"{BASE} --set epochs=1 --set batch_size=8 --set layer_decay=null"
TINY = f"{QUICK} --data faces.csv --output out"


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def cer(faces):
    """Run `cer-feat finetune …` or `extract …` where a manifest of 28 + 14 schematic faces lies."""
    app = make_app("Toy front door.")
    app.command("finetune")(feat_finetune.finetune)
    app.command("extract")(feat_extract.extract)

    def cer(command: str, *, code: int = 0):
        result = CliRunner().invoke(app, command.split())
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return cer


def test_fine_tuned_weights_are_extracted_with_the_command_that_was_told(cer, caplog):
    result = cer(f"{TINY} --json")
    report = json.loads(result.stdout)
    assert report["best"]["epoch"] == 1
    assert "epoch 1/1: loss" in caplog.text
    assert "has no valid split: 10% of its training groups choose the epoch" in result.stderr
    told = next(line for line in result.stderr.splitlines() if line.startswith("extract with it: "))
    extracted = cer(told.removeprefix("extract with it: cer-feat ") + " --device cpu --json")
    found = json.loads(extracted.stdout)
    assert "these weights were fine-tuned on 28 of the pictures (28 of train)" in extracted.stderr
    assert found["embedded"] == 42
    shown = json.loads(next(Path("features").glob("faces/*/feature.json")).read_text())
    assert report["weights_digest"] in json.dumps(shown)


def test_the_test_split_is_never_read(cer, drawn):
    manifest = Manifest.read("faces.csv")
    gone = {sample.path for sample in manifest.samples if sample.split == "test"}
    moved = [
        sample._replace(path="gone/" + sample.path) if sample.path in gone else sample for sample in manifest.samples
    ]
    Manifest(samples=tuple(moved), classes=manifest.classes, root=manifest.root).write("faces.csv")
    assert json.loads(cer(f"{TINY} --max-errors 0 --json").stdout)["left_out"] == {}


def test_occurrences_of_one_picture_stand_on_one_side(cer, caplog):
    manifest = Manifest.read("faces.csv")
    training = [sample for sample in manifest.samples if sample.split == "train"]
    last = {sample.label: sample for sample in training}
    again = [  # of the four training faces of a class, three are one picture
        sample if sample is last[sample.label] else sample._replace(path=first.path)
        for first in {sample.label: sample for sample in reversed(training)}.values()
        for sample in training
        if sample.label == first.label
    ]
    Manifest(samples=tuple(again), classes=manifest.classes, root=manifest.root).write("faces.csv")
    cer(f"{TINY} --valid-share 0.5")
    assert "validation pictures are in the training part too" not in caplog.text


def test_running_it_again_says_that_it_is_finished(cer):
    first = json.loads(cer(f"{TINY} --json").stdout)
    again = json.loads(cer(f"{TINY} --json").stdout)
    assert (first["resumed"], again["resumed"]) == (False, True)
    assert first["weights_digest"] == again["weights_digest"]
    assert "recipe.lr: 0.0005 there, 0.01 now" in cer(f"{TINY} --set lr=0.01", code=1).stderr


def test_what_an_earlier_run_left_is_replaced_only_with_overwrite(cer):
    first = json.loads(cer(f"{TINY} --json").stdout)
    refused = cer(f"{TINY} --no-resume --set lr=0.01", code=2).stderr
    assert "weights.safetensors" in refused
    assert "--overwrite" in refused
    assert json.loads(cer(f"{TINY} --json").stdout)["weights_digest"] == first["weights_digest"]
    assert "--overwrite starts anew" in cer(f"{TINY} --overwrite --resume", code=2).stderr
    anew = json.loads(cer(f"{TINY} --overwrite --set lr=0.01 --json").stdout)
    assert anew["resumed"] is False
    assert anew["weights_digest"] != first["weights_digest"]


def test_a_share_for_validation_is_refused_where_every_manifest_has_a_valid_split(cer):
    cer_manifest = Manifest.read("faces.csv")
    valid = tuple(s._replace(split="valid" if s.split == "test" else s.split) for s in cer_manifest.samples)
    Manifest(samples=valid, classes=cer_manifest.classes, root=cer_manifest.root).write("faces.csv")
    refused = cer(f"{TINY} --valid-share 0.2", code=2).stderr
    assert "--valid-share" in refused
    assert "every manifest has a valid split of its own" in refused
    assert not Path("out").exists()


def test_several_manifests_are_one_by_the_names_of_their_labels(cer):
    whole = Manifest.read("faces.csv")
    half = whole.keep([sample.split == "train" for sample in whole.samples])
    order = class_set("rafdb_compound11")
    Manifest(samples=half.samples, classes=order, root=half.root).write("other.csv")
    assert "name one set" in cer(f"{QUICK} --data faces.csv --data other.csv -o out", code=2).stderr.replace("│", "")
    result = cer(f"{QUICK} --data faces.csv --data other.csv -o out --class-set abaw7")
    assert "learning 7 classes (abaw7) from 42 samples, choosing the epoch on 14" in result.stderr
    card = json.loads(Path("out/card.json").read_text())
    assert card["classes"] == list(class_set("abaw7").labels)


def test_labels_that_the_class_set_does_not_have_are_left_out_aloud(cer):
    result = cer(f"{TINY} --class-set basic8", code=1)
    assert "left out of faces: 4 × label 'Sadly Angry' is not in basic8" in result.stderr
    assert "no labelled sample of faces" in result.stderr


def test_votes_take_the_place_of_labels(cer):
    manifest = Manifest.read("faces.csv")
    rows = "".join(f"{sample.sample_id},1,3\n" for sample in manifest.samples[:20])
    Path("votes.csv").write_text("sample_id,Sadly Angry,Sadly Fearful\n" + rows)
    result = cer(f"{TINY} --soft-labels votes.csv")
    assert "samples learn from votes, the others from their label" in result.stderr
    Path("votes.csv").write_text("sample_id,Sad\n")
    assert "column 'Sad' is none of the classes" in cer(f"{TINY} --soft-labels votes.csv", code=1).stderr


def test_ferplus_votes_are_written_for_the_samples_of_the_manifest(run, tmp_path):
    folder = tmp_path / "plus" / "FER2013Train"
    folder.mkdir(parents=True)
    lines = ["a.png,box,8,1,1,0,0,0,0,0,0,0", "b.png,box,3,3,2,2,0,0,0,0,0,0", "c.png,box,0,0,1,7,1,0,1,0,0,0"]
    lines.append("d.png,box,0,0,4,0,0,0,5,1,0,0")
    (folder / "label.csv").write_text("\n".join(lines) + "\n")
    for name in "abcd":
        (folder / f"{name}.png").write_bytes(name.encode())
    command = "cer-feat manifest ferplus plus -o m.csv --votes votes.csv"
    assert "the votes of 2 samples" in run(f"{command} --labels basic8").stderr
    rows = (tmp_path / "votes.csv").read_text().splitlines()
    assert rows[0].startswith("sample_id,Neutral,Happiness,Surprise,Sadness")
    assert rows[1:] == ["a,8,1,1,0,0,0,0,0", "c,0,0,1,7,1,0,1,0"]
    assert "the votes of 1 samples" in run(f"{command} --overwrite").stderr
    header, *rows = (tmp_path / "votes.csv").read_text().splitlines()
    assert header.startswith("sample_id,Fearfully Surprised,Happily Surprised")
    assert rows == ["d,20,0,0,0,0,0,0"]


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        (TINY.replace("test_vit", "test_vitt"), 1, "nearest: 'test_vit"),
        (f"{TINY} --recipe papers", 2, "'papers' is not one of"),
        (f"{TINY} --set learning_rate=1", 1, "no field 'learning_rate'"),
        (f"{TINY} --set epochs", 2, "expected key=value"),
        (TINY.replace("epochs=1", "epochs=0"), 1, "epochs must be a whole number within 1..100000"),
        (f"{TINY} --valid-share 1.5", 2, "between 0 and 1"),
        (f"{TINY} --class-set basic9", 1, "no class set 'basic9'"),
        (f"{QUICK} --data none.csv -o out", 1, "no manifest none.csv"),
        (f"{TINY} --precision float16", 1, "needs a CUDA device"),
        (f"{TINY} --data faces.csv", 2, "different names"),
        (f"{TINY} --soft-labels none.csv", 1, "none.csv"),
    ],
)
def test_mistakes_are_told_in_words_with_an_exit_status(cer, command, code, message):
    result = cer(command, code=code)
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.output


def test_random_weights_with_layer_wise_rates_are_remarked_on(cer):
    assert "--set layer_decay=null" in cer(TINY.replace("layer_decay=null", "layer_decay=0.8")).stderr


@pytest.mark.slow
def test_a_signal_ends_a_run_in_words_and_the_next_one_goes_on(cer, tmp_path, caplog):
    code = (
        "import os, signal, sys\n"
        "import torch; torch.set_num_threads(1)\n"
        "from cer_fusion.commands.feat import finetune; from cer_fusion.commands.console import app\n"
        "from cer_fusion.backbones.finetuning.training import Training\n"
        "update = Training._update\n"
        "def kill(self, parts, size):\n"
        "    update(self, parts, size); os.kill(os.getpid(), signal.SIGTERM)\n"
        "Training._update = kill\n"
        "front = app('Toy.'); front.command('finetune')(finetune.finetune); front.command('x')(lambda: None)\n"
        f"front({TINY.split()!r})"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert found.returncode == 130, found.stderr
    assert "run the same command again" in found.stderr
    cer(TINY)
    assert "going on after epoch 0, step 1" in caplog.text


def test_pictures_that_cannot_be_compared_across_the_two_parts_are_told(tmp_path):
    from cer_fusion.commands.feat.finetune import _split
    from cer_fusion.featstore import Manifest, Sample, class_set

    for i in range(8):
        (tmp_path / f"{i}.png").write_bytes(b"picture %d" % i)
    classes = class_set("abaw7")
    samples = tuple(
        Sample(sample_id=f"s{i}", path=f"{i if i else 'none'}.png", label=classes.labels[i % 2], split="train")
        for i in range(8)
    )
    said = []
    _split(Manifest(samples=samples, classes=classes, root=tmp_path), "faces", 0.25, 0, said.append)
    assert "1 pictures of faces cannot be read" in said[0]
    assert "s0: missing" in said[0]
