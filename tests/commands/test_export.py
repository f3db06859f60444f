"""A run as one ONNX graph: it answers as the run does, says what it is, and what cannot be one is refused by name."""

from __future__ import annotations

import contextlib
import io
import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxscript", reason="the extra [export] is not installed")
pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")

import onnxruntime

import cer_fusion
from cer_fusion.featstore import Manifest, Store
from cer_fusion.fusion import load_head
from cer_fusion.fusion.keeping.answers import read_predictions
from tests.pages import Page

VIT = "-b timm:test_vit -w timm:test_vit=random --option timm:test_vit=img_size=64"
RESNET = "-b timm:test_resnet -w timm:test_resnet=random"
SMALL = "--set hidden=[8] --set epochs=3 --set members=2"


def extracted(run, rest: str) -> None:
    run(f"cer-feat extract {rest} --data faces.csv --device cpu")


def crops(manifest: Manifest, folder: Path, side: int, count: int) -> list[Path]:
    """Pictures that have the graph's size already, so that nobody resizes them."""
    folder.mkdir()
    found = []
    for i, sample in enumerate(manifest.samples[:count]):
        face = Image.open(manifest.root / sample.path).convert("RGB").resize((side, side))
        found.append(folder / f"{i}.png")
        face.save(found[-1])
    return found


@pytest.mark.slow
def test_a_graph_of_two_backbones_answers_as_the_run_does(run, faces, tmp_path):
    extracted(run, f"{VIT} --as vit --views flip --dtype float16")
    extracted(run, "-b timm:test_resnet -w random --option img_size=64 --as resnet")
    run(f"cer-fuse train --head mlp --features vit,resnet {SMALL} -o runs/one")
    told = run("cer-fuse export runs/one -o face.onnx --json")
    found = json.loads(told.stdout)
    assert found["rows"] == 8
    assert 0 < found["largest_difference"]["probabilities"] < 1e-5
    assert 0 < found["largest_difference"]["embeddings"] < 1e-2  # float16 keeps three digits
    assert "largest differences on 8 samples: probabilities" in told.stderr

    session = onnxruntime.InferenceSession(tmp_path / "face.onnx")
    [faces_in] = session.get_inputs()
    assert (faces_in.name, faces_in.type, faces_in.shape) == ("faces", "tensor(uint8)", ["batch", 64, 64, 3])
    assert [one.name for one in session.get_outputs()] == ["probabilities", "embeddings"]

    paths = crops(Manifest.read(tmp_path / "faces.csv"), tmp_path / "crops", 64, 5)
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    run("cer-fuse predict crops --head runs/one --no-faces -o own.csv --device cpu")
    own = read_predictions(tmp_path / "own.csv")
    proba, rows = session.run(None, {"faces": pixels})
    np.testing.assert_allclose(proba, own.proba, atol=1e-4)
    head = load_head(tmp_path / "runs/one/head")
    np.testing.assert_allclose(proba, head.predict_proba(rows), atol=1e-5)
    for i in (1, 3):  # any number of pictures, the same answers
        np.testing.assert_allclose(session.run(None, {"faces": pixels[:i]})[0], proba[:i], atol=1e-5)

    meta = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(meta["classes"])) == own.classes
    assert json.loads(meta["blocks"]) == [["vit", 64], ["resnet", 96]]
    described = json.loads(meta["preprocessing"])
    assert described["inputs"] == {"faces": {"size_px": 64, "layout": "uint8 RGB (b, h, w, 3)"}}
    kept = {feature.name: feature.spec for feature in Store("features").features()}
    assert {name: one["transform"] for name, one in described["features"].items()} == {
        name: spec.identity["transform"] for name, spec in kept.items()
    }
    digests = json.loads(meta["digests"])
    assert digests["fingerprints"] == {name: spec.fingerprint for name, spec in kept.items()}
    assert digests["weights"] == {name: spec.identity["weights"]["digest"] for name, spec in kept.items()}
    names_a_place((tmp_path / "face.onnx").read_bytes(), tmp_path)
    assert found["blocks"].keys() == {"vit", "resnet"}
    vit = Store("features").view(["vit"]).blocks["vit"][:8]  # resized as in the graph: it comes first
    assert found["blocks"]["vit"]["largest"] == pytest.approx(np.abs(vit).max(), rel=1e-3)
    assert max(one["difference"] for one in found["blocks"].values()) == found["largest_difference"]["embeddings"]

    told = runner_of_the_page("face.onnx", paths, tmp_path)
    assert told == [f"{own.classes[row.argmax()]} {row.max():.3f}" for row in proba]
    run("cer-fuse export runs/one -o face.onnx", code=2)  # it is there


def names_a_place(content: bytes, tmp_path: Path) -> None:
    """What the exporter notes of each node are folders of this machine and lines of our files."""
    for piece in (str(tmp_path), str(Path(cer_fusion.__file__).parent), "site-packages", ".py", "stack_trace"):
        assert piece.encode() not in content


def runner_of_the_page(graph: str, paths: list[Path], tmp_path: Path) -> list[str]:
    """What the ten lines of docs/onnx.md print of pictures, but for their names."""
    out = io.StringIO()
    script = tmp_path / "runner.py"
    script.write_text(Page("docs/onnx.md").python[0])
    assert "cer_fusion" not in script.read_text()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr("sys.argv", ["runner.py", graph, *map(str, paths)])
        runpy.run_path(str(script))
    return [line.split(" ", 1)[1] for line in out.getvalue().splitlines()]


@pytest.mark.slow
def test_the_page_s_runner_resizes_as_the_run_did(run, faces, tmp_path):
    extracted(run, f"{VIT} --as vit --option timm:test_vit=interpolation=lanczos")
    run("cer-fuse train --head lda --features vit -o runs/one")
    run("cer-fuse export runs/one -o face.onnx")
    (tmp_path / "whole").mkdir()
    for i, sample in enumerate(Manifest.read(tmp_path / "faces.csv").samples[:5]):  # 100 px, the graph takes 64
        with Image.open(Manifest.read(tmp_path / "faces.csv").root / sample.path) as face:
            turned = Image.Exif()
            turned[0x0112] = 3  # half a turn
            face.convert("RGB").rotate(180 * (i % 2)).save(
                tmp_path / "whole" / f"{i}.png", **({"exif": turned} if i % 2 else {})
            )
    run("cer-fuse predict whole --head runs/one --no-faces -o own.csv --device cpu")
    own = read_predictions(tmp_path / "own.csv")
    told = runner_of_the_page("face.onnx", sorted((tmp_path / "whole").iterdir()), tmp_path)
    assert told == [f"{own.classes[row.argmax()]} {row.max():.3f}" for row in own.proba]


@pytest.mark.slow
def test_backbones_of_two_sizes_need_an_input_each(run, faces, tmp_path):
    extracted(run, f"{VIT} --as vit")
    extracted(run, "-b timm:test_resnet -w random --option img_size=96 --as resnet")
    run("cer-fuse train --head ridge --features vit,resnet -o runs/one")
    talk = run("cer-fuse export runs/one", code=2).stderr
    assert "resnet 96 px" in talk
    assert "--inputs each" in talk
    assert not (tmp_path / "one.onnx").exists()
    run("cer-fuse export runs/one --inputs each --check 3")
    session = onnxruntime.InferenceSession(tmp_path / "one.onnx")
    assert {one.name: one.shape[1] for one in session.get_inputs()} == {"faces.vit": 64, "faces.resnet": 96}


@pytest.mark.slow
def test_a_head_alone_takes_blocks_and_answers_all_declared_classes(run, filled, tmp_path):
    run("cer-fuse train --head late --set member=ridge -o runs/late")
    found = json.loads(run("cer-fuse export runs/late --head-only --check 20 --json").stdout)
    names_a_place((tmp_path / "late.onnx").read_bytes(), tmp_path)
    assert (found["blocks"], found["rows_held"]) == ({}, 0)
    assert (found["inputs"], found["rows"]) == (["one", "two"], 20)
    assert found["largest_difference"]["probabilities"] < 1e-5
    view = Store("features").view(["one", "two"])
    session = onnxruntime.InferenceSession(tmp_path / "late.onnx")
    [proba] = session.run(None, dict(view.blocks))
    own = load_head(tmp_path / "runs/late/head").predict_proba(view.join())
    np.testing.assert_allclose(proba, own, atol=1e-5)
    assert proba.shape == (42, 7)


@pytest.mark.slow
def test_that_a_graph_holds_rows_it_learned_from_is_said(run, filled, tmp_path):
    run("cer-fuse train --head knn -o runs/knn")
    done = run("cer-fuse export runs/knn --head-only --json")
    assert json.loads(done.stdout)["rows_held"] == 28
    assert "the graph holds 28 of the rows that the head learned from" in " ".join(done.stderr.split())


def test_a_block_that_is_another_is_not_written(monkeypatch):
    from cer_fusion.commands.fuse import export
    from cer_fusion.fusion.errors import SavedHeadError

    rows = np.array([[1.0, 0.0, 300.0], [0.5, 1.0, 200.0]], np.float32)
    graph = SimpleNamespace(
        info=SimpleNamespace(blocks=(("a", 2), ("b", 1))), inputs={"faces": np.zeros((2, 4, 4, 3), np.uint8)}, rows=2,
        outputs={"probabilities": np.full((2, 2), 0.5), "embeddings": rows},
    )  # fmt: skip

    def answering(off: float):
        given = rows + np.array([0, off, 0.01], np.float32)
        told = lambda names, inputs: [np.full((n := len(inputs["faces"]), 2), 0.5), given[:n]]  # noqa: E731
        monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: SimpleNamespace(run=told))
        return export._differences(graph, b"")

    off, blocks = answering(1e-3)
    assert off["embeddings"] == pytest.approx(0.01, rel=1e-2)
    assert blocks["a"] == {"difference": pytest.approx(1e-3, rel=1e-3), "largest": 1.0}
    assert blocks["b"]["largest"] == 300
    with pytest.raises(
        SavedHeadError, match=r"the block 'a' differs by up to 0\.02 on 2 samples, expected at most 0\.01"
    ):
        answering(2e-2)
    with pytest.raises(SavedHeadError, match="the block 'a' differs by up to nan"):
        answering(float("nan"))


def test_trees_are_refused_by_name(run, filled, tmp_path):
    run("cer-fuse train --head histgb --set trees=2 --features one")
    for more in ("", "--head-only"):
        talk = run(f"cer-fuse export runs/faces-histgb {more}", code=1).stderr
        assert "'histgb' cannot be written as a graph" in talk or "imported" in talk
    assert list(tmp_path.glob("*.onnx")) == []


def test_a_backbone_of_ones_own_code_is_refused_by_name(run, faces, tmp_path):
    (tmp_path / "mine.py").write_text(Page("CONTRIBUTING.md").file("mine.py"))
    extracted(run, "-b mine.py:Mine -O width=8 -w random --as mine")
    run("cer-fuse train --head ridge --features mine")
    talk = run("cer-fuse export runs/faces-ridge", code=1).stderr
    assert "'mine' (mine.py:Mine) cannot be put into the graph: it runs code of your own" in talk
    assert "--head-only" in talk


def test_five_crops_are_refused_by_name(run, faces):
    extracted(run, f"{VIT} --as vit --views five-crop")
    run("cer-fuse train --head ridge --features vit")
    assert "five crops of a larger picture" in run("cer-fuse export runs/faces-ridge", code=1).stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("export runs/faces-ridge -o face.pb", "must end in .onnx"),
        ("export runs/faces-ridge --head-only --inputs each", "takes blocks"),
        ("export runs/faces-ridge --head-only --weights one=x.pth", "takes blocks"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_work(run, command, words):
    assert words in " ".join(run(f"cer-fuse {command}", code=2).stderr.split())


@pytest.mark.parametrize(("library", "told"), [("onnxscript", "'cer-fusion[export]'"), ("old", "onnxscript>=0.7.2")])
def test_a_library_that_is_missing_or_too_old_is_named(run, filled, monkeypatch, library, told):
    run("cer-fuse train --head ridge --features one")
    if library == "old":
        from importlib import metadata

        monkeypatch.setattr(metadata, "version", lambda name: "0.5.7")
    else:
        monkeypatch.setitem(__import__("sys").modules, library, None)
    assert told in run("cer-fuse export runs/faces-ridge --head-only", code=1).stderr


def test_a_torch_that_writes_no_backbones_is_named_before_any_is_made(run, filled, monkeypatch):
    from importlib import metadata

    run("cer-fuse train --head ridge --features one")
    known = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.6.0+cpu" if name == "torch" else known(name))
    told = run("cer-fuse export runs/faces-ridge", code=1).stderr
    assert "needs torch 2.7 or newer, however: 2.6.0+cpu is installed" in told
    assert "--head-only" in told
    run("cer-fuse export runs/faces-ridge --head-only")
