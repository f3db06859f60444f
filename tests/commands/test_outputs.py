"""What is there already is never replaced by accident: one rule for every command and every option that writes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import typer

from cer_fusion.commands.outputs import check_outputs, numbered, put
from cer_fusion.fusion.keeping.runs import read_run
from tests.commands.walk import commands, kinds, options

READ = {
    "store", "root", "names", "soft_labels", "targets", "pictures", "table", "partition", "head", "template",
    "validation", "folder", "recipe_folder", "check", "diff", "choose_on", "data", "videos", "prompts", "runs",
}  # fmt: skip
"""Path options that name what is read; `--store` is added to and never replaced."""
WRITTEN = {"output", "to", "figure", "keep", "votes", "beside", "convert", "annotate", "frames"}
"""Path options that name what is written."""
APPENDED = {"log"}
"""Path options that name what lines are added to: nothing there is lost."""
GONE_ON_WITH = {"cer-feat frames", "cer-feat finetune", "cer-feat demo", "cer-fuse train", "cer-fuse pull"}
"""Commands whose output is a folder with rules of its own, tried below or beside their other tests."""

TRIED = [
    ("cer-feat manifest csv list.csv -o precious.csv", "precious.csv"),
    ("cer-feat manifest csv list.csv -o precious.csv", "precious.json"),
    ("cer-feat manifest ferplus votes --labels basic8 --votes precious.csv -o new.csv", "precious.csv"),
    ("cer-feat manifest fer2013 fer2013.csv -o new.csv", "new.pictures.zip"),
    ("cer-feat manifest filter list.csv has-label -o notes.txt", "notes.txt"),
    ("cer-feat manifest merge list.csv more.csv -o precious.csv", "precious.csv"),
    ("cer-feat manifest unity list.csv more.csv -o precious.csv", "precious.csv"),
    ("cer-feat manifest split list.csv -o precious.csv", "precious.csv"),
    ("cer-feat manifest relabel list.csv --map-to abaw7 -o precious.csv", "precious.csv"),
    ("cer-feat inspect w.pth --convert precious.safetensors", "precious.safetensors"),
    ("cer-feat prompts -b clip:none -o precious.npz", "precious.npz"),
    ("cer-fuse compare --output precious.json", "precious.json"),
    ("cer-fuse compare runs/a --figure precious.png", "precious.png"),
    ("cer-fuse ablate --simplex one,two:0.5 -o precious.json", "precious.json"),
    ("cer-fuse ablate --simplex one,two:0.5 --figure precious.svg", "precious.svg"),
    ("cer-fuse diagnose -o precious.json", "precious.json"),
    ("cer-fuse diagnose --figure precious.pdf", "precious.pdf"),
    ("cer-fuse evaluate --head h --figure precious.png", "precious.png"),
    ("cer-fuse predict --head h -o precious.csv", "precious.csv"),
    ("cer-fuse predict picture.png --head h --no-faces --annotate precious.png", "precious.png"),
    ("cer-fuse predict pictures --head h --no-faces --annotate drawn", "drawn/one.png"),
    ("cer-fuse export runs/a -o precious.onnx", "precious.onnx"),
    ("cer-fuse explore runs/a -o precious.parquet", "precious.parquet"),
    ("cer-fuse report -o precious.html", "precious.html"),
    ("cer-fuse report runs/a --keep precious.json", "precious.json"),
    ("cer-fuse smooth p.csv --window 3 -o precious.csv", "precious.csv"),
    ("cer-fuse submit p.csv --template t.csv -o precious.txt", "precious.txt"),
    ("cer-feat demo -o here", "here/report.json"),
    ("cer-feat demo -o here", "here/demo.json"),
    ("cer-feat finetune -b vit -d list.csv -o here --no-resume", "here/weights.safetensors"),
    ("cer-fuse train -o precious", "precious/thesis.tex"),
]


def test_every_path_option_says_whether_it_reads_or_writes_and_every_writer_has_overwrite():
    for name, command in commands().items():
        paths = {key for key in options(command) if Path in kinds(command)[key]}
        assert paths <= READ | WRITTEN | APPENDED, name
        writes = paths & WRITTEN
        assert bool(writes) is ("overwrite" in options(command)), name
        if writes:
            assert options(command)["overwrite"].opts == ["--overwrite"]
            tried = {line for line, _ in TRIED if line.startswith(name.replace(" build", ""))}
            assert tried or name in GONE_ON_WITH | {"cer-feat export"}, name


@pytest.mark.parametrize(("line", "there"), TRIED)
def test_what_is_there_is_left_as_it_is_and_the_message_names_it_and_the_way(run, made, tmp_path, line, there):
    target = tmp_path / there
    target.parent.mkdir(exist_ok=True)
    target.write_text("precious")
    before = sorted(tmp_path.rglob("*"))
    code = 1 if there.endswith(".zip") else 2
    said = " ".join(run(line, code=code).stderr.replace("│", " ").split())
    assert there in said or f"{target.parent.name} exists already" in said
    assert "--overwrite" in said
    assert target.read_text() == "precious"
    assert sorted(tmp_path.rglob("*")) == before


def test_exports_keep_their_refusal_and_cover_the_note_beside_a_csv(run, filled, tmp_path):
    (tmp_path / "x.export.json").write_text("precious")
    assert "--overwrite" in run("cer-feat export one -o x.csv", code=1).stderr
    assert (tmp_path / "x.export.json").read_text() == "precious"
    assert not (tmp_path / "x.csv").exists()
    (tmp_path / "y.npz").symlink_to(tmp_path / "nowhere")
    assert "--overwrite" in run("cer-feat export one -o y.npz", code=1).stderr
    assert (tmp_path / "y.npz").is_symlink()


def test_with_overwrite_every_manifest_tool_replaces_its_output_and_even_its_input(run, faces, tmp_path):
    from cer_fusion.featstore import Manifest

    for line in (
        "filter faces.csv split=train -o faces.csv",
        "split faces.csv --again --repeats ignore -o faces.csv",
        "relabel faces.csv --map-to abaw7 -o faces.csv",
    ):
        before = faces.read_bytes()
        assert "--overwrite" in run(f"cer-feat manifest {line}", code=2).stderr
        assert faces.read_bytes() == before
        run(f"cer-feat manifest {line} --overwrite")
        assert len(Manifest.read(faces)) == 28
    assert Manifest.read(faces).splits == ("train", "valid", "test")


@pytest.mark.parametrize("racing", ["out.csv", "out.json"])
def test_a_manifest_that_somebody_else_wrote_meanwhile_is_left_as_it_is(run, faces, tmp_path, monkeypatch, racing):
    from cer_fusion.featstore.manifests import changes

    kept = changes.keep_where

    def late(*args, **settings):
        (tmp_path / racing).write_text("precious")
        return kept(*args, **settings)

    monkeypatch.setattr(changes, "keep_where", late)
    said = run("cer-feat manifest filter faces.csv split=train -o out.csv", code=1).stderr
    assert racing in said
    assert "--overwrite" in said
    assert (tmp_path / racing).read_text() == "precious"
    assert sorted(path.name for path in tmp_path.glob("out*")) == [racing]


def test_a_result_that_somebody_else_wrote_meanwhile_is_left_as_it_is(run, made, tmp_path, monkeypatch):
    from cer_fusion.fusion.keeping import answers

    text = answers.predictions_csv

    def late(found):
        (tmp_path / "out.csv").write_text("precious")
        return text(found)

    monkeypatch.setattr(answers, "predictions_csv", late)
    said = run("cer-fuse smooth p.csv --window 3 -o out.csv", code=1).stderr
    assert "out.csv is there already, and is left as it is" in said
    assert (tmp_path / "out.csv").read_text() == "precious"
    run("cer-fuse smooth p.csv --window 3 -o out.csv --overwrite")
    assert (tmp_path / "out.csv").read_text().startswith("sample_id")
    assert not list(tmp_path.glob(".out*"))


def test_what_is_read_is_never_what_is_written(run, made, tmp_path):
    for line in (
        "cer-fuse submit p.csv --template t.csv -o p.csv --overwrite",
        "cer-fuse submit p.csv --template t.csv -o t.csv --overwrite",
        "cer-fuse predict picture.png --head h --no-faces --annotate picture.png --overwrite",
    ):
        before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
        assert "is what this reads" in run(line, code=2).stderr
        assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("-", "no file called '-'"),
        ("pictures", "is a folder, and a file is to be written"),
        ("p.csv/new.csv", "p.csv is no folder"),
        ("pipe", "is no plain file"),
        ("link.csv", "exists already"),
        ("dangling.csv", "exists already"),
    ],
)
def test_places_that_no_file_can_take_are_refused_before_the_work(run, made, tmp_path, output, said):
    import os

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.csv").symlink_to("labelled.csv")
    (tmp_path / "dangling.csv").symlink_to("nowhere")
    more = "" if said == "exists already" else " --overwrite"
    before = sorted(tmp_path.rglob("*"))
    result = run(f"cer-fuse smooth p.csv --window 3 -o {output}{more}", code=2)
    assert said.replace(" ", "") in "".join(result.stderr.replace("│", " ").split())  # a long path is broken anywhere
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_is_replaced_and_what_it_leads_to_stays(run, made, tmp_path):
    (tmp_path / "link.csv").symlink_to("labelled.csv")
    before = (tmp_path / "labelled.csv").read_bytes()
    run("cer-fuse smooth p.csv --window 3 -o link.csv --overwrite")
    assert not (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "labelled.csv").read_bytes() == before


def test_folders_of_an_output_are_made(run, made, tmp_path):
    run("cer-fuse smooth p.csv --window 3 -o deep/er/out.csv")
    assert (tmp_path / "deep" / "er" / "out.csv").is_file()


@pytest.mark.parametrize(("one", "other"), [("a.json", "a.json"), ("a.json", "./a.json"), ("A.json", "a.json")])
def test_two_outputs_of_one_name_are_refused_whatever_the_file_system_takes_for_one(one, other, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(typer.BadParameter, match="would be written twice"):
        check_outputs({"--output": Path(one), "--keep": Path(other)}, overwrite=True)


def test_all_files_in_the_way_are_named_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.json", "a.png"):
        Path(name).touch()
    with pytest.raises(typer.BadParameter, match=r"a\.json, a\.png exist already") as refused:
        check_outputs({"--output": Path("a.json"), "--figure": Path("a.png"), "--keep": None}, overwrite=False)
    assert refused.value.param_hint == "--output, --figure"


def test_a_manifest_that_would_be_its_own_second_file_is_refused(run, faces, tmp_path):
    assert "would be written twice" in run("cer-feat manifest filter faces.csv split=train -o part.json", code=2).stderr
    assert not (tmp_path / "part.json").exists()


def test_without_a_name_results_stand_side_by_side(tmp_path):
    def write(path: Path, overwrite: bool) -> Path:
        if path.exists() and not overwrite:
            raise FileExistsError
        path.write_text("new")
        return path

    default = tmp_path / "faces.tar.png"
    names = [put(write, None, default, overwrite=False).name for _ in range(3)]
    assert names == ["faces.tar.png", "faces.tar-2.png", "faces.tar-3.png"]
    assert put(write, None, default, overwrite=True) == default
    assert next(iter(numbered(default))) == default


def test_a_default_name_that_is_taken_meanwhile_is_passed_over(tmp_path):
    def write(path: Path, overwrite: bool) -> Path:
        if path.name == "a.png":  # free when it was looked at, and taken now
            path.write_text("precious")
            raise FileExistsError
        path.write_text("mine")
        return path

    assert put(write, None, tmp_path / "a.png", overwrite=False).name == "a-2.png"
    assert (tmp_path / "a.png").read_text() == "precious"


def test_a_second_comparison_and_a_second_page_keep_the_first(run, filled, tmp_path):
    for _ in range(2):
        run("cer-fuse train --head linear --features one")
        run("cer-fuse compare runs/faces-linear")
        run("cer-fuse report runs/faces-linear")
    names = {path.name for path in (tmp_path / "runs").iterdir()}
    assert names == {
        "faces-linear", "faces-linear-2", "faces-compare.png", "faces-compare-2.png", "faces-compare.json",
        "faces-compare-2.json", "faces-report.html", "faces-report-2.html",
    }  # fmt: skip


_TOGETHER = """
import sys, time
from pathlib import Path
import cer_fusion.kit.folders as module
ready, put, met = Path(sys.argv.pop(1)), module._put_new, []
def meet(built, target):
    if target.name != "head" and not met:
        met.append(True)
        ready.touch()
        while len(list(Path().glob("ready-*"))) < 2:
            time.sleep(0.01)
    return put(built, target)
module._put_new = meet
from cer_fusion.cli import fuse_main
fuse_main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("named", [True, False])
def test_of_two_runs_that_end_together_one_is_never_lost(filled, tmp_path, named):
    """Both have found their name free when they give it to what they made."""
    line = ["train", "--head", "linear", "--features", "one", *(["-o", "same"] if named else [])]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", _TOGETHER, f"ready-{number}", *line, "--seed", str(number)],
            cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        )
        for number in (1, 2)
    ]  # fmt: skip
    said = [process.communicate()[1] for process in both]
    ends = sorted(process.returncode for process in both)
    if named:
        assert ends == [0, 1], said
        (refused,) = (one for one in said if "kept in" not in one)
        assert "same is there already, and is left as it is" in refused
        assert "--overwrite" in refused
        winner = next(i for i, process in enumerate(both, start=1) if process.returncode == 0)
        assert read_run(tmp_path / "same").config.seed == winner
        assert [path.name for path in tmp_path.glob("*same*")] == ["same"]
        assert not list(tmp_path.glob(".same*"))
    else:
        assert ends == [0, 0], said
        runs = sorted((tmp_path / "runs").iterdir())
        assert [path.name for path in runs] == ["faces-linear", "faces-linear-2"]
        assert {read_run(path).config.seed for path in runs} == {1, 2}


def test_a_demo_goes_on_in_the_folder_that_a_demo_made_and_replaces_nobody_else_s_file(tmp_path):
    from cer_fusion.commands.feat.demo import RESULTS, _begin, _digest, _write_made

    folder = tmp_path / "demo-out"
    _begin(folder, False)
    for name in RESULTS[:2]:
        (folder / name).write_text("half a demo")
    _begin(folder, False)  # after a kill
    for name in RESULTS:
        (folder / name).write_text("a demo")
    _write_made(folder, {name: _digest(folder / name) for name in RESULTS})
    _begin(folder, False)
    _write_made(folder, {name: _digest(folder / name) for name in RESULTS})
    (folder / "report.json").write_text("precious")
    with pytest.raises(typer.BadParameter, match=r"report\.json exists already.*--overwrite"):
        _begin(folder, False)
    _begin(folder, True)
    (tmp_path / "file").write_text("precious")
    with pytest.raises(typer.BadParameter, match="file is a file, and a folder is to be written"):
        _begin(tmp_path / "file", True)
    assert (tmp_path / "file").read_text() == "precious"


@pytest.fixture
def made(tmp_path) -> None:
    """Enough of what the command lines read for what is looked at before outputs are."""
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    for name in ("picture.png", "pictures/one.png", "pictures/two.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "votes").mkdir()
    header = "emotion,pixels,Usage\n"
    (tmp_path / "fer2013.csv").write_text(header + f"0,{' '.join(['7'] * 2304)},Training\n")
    for name in ("list.csv", "more.csv"):
        (tmp_path / name).write_text("sample_id,path,label\n" + f"{name[0]},picture.png,Anger\n")
    for name, label in (("p.csv", ""), ("labelled.csv", "a")):
        lines = [f"01/{i:05d}.jpg,{label},a,0.75,0.25" for i in range(1, 6)]
        (tmp_path / name).write_text("sample_id,label,predicted,a,b\n" + "\n".join(lines) + "\n")
    (tmp_path / "t.csv").write_text("image_location,x\n01/00001.jpg,\n")


@pytest.mark.parametrize(
    "line",
    [
        "cer-fuse train --head ncm -o {}", "cer-fuse compare --heads ncm -o {}.json",
        "cer-fuse compare --heads ncm --figure {}.png",
        "cer-fuse ablate --simplex one,two:0.5 --figure {}.pdf", "cer-fuse diagnose --head ncm -o {}.json",
        "cer-fuse report --heads ncm -o {}.html", "cer-feat manifest check faces.csv",
    ],
)  # fmt: skip
def test_a_place_that_takes_no_files_is_told_before_the_work(run, filled, tmp_path, line, monkeypatch) -> None:
    """As on read-only disks, which permissions do not tell: nothing can be made in `sealed`."""
    (tmp_path / "sealed").mkdir()
    real = tempfile.TemporaryFile

    def refusing(*args, dir=None, **more):
        if dir is not None and Path(dir).name == "sealed":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(dir))
        return real(*args, dir=dir, **more)

    monkeypatch.setattr(tempfile, "TemporaryFile", refusing)
    if "{}" not in line:
        run(line)
        return
    told = run(line.format("sealed/x"), code=2).stderr
    assert "sealedisread-onlyforyou" in "".join(told.replace("│", "").split())  # long paths are folded anywhere
    assert "learning from" not in told


@pytest.mark.parametrize(
    "line", ["cer-feat finetune -b timm:test_vit -w random -d faces.csv -o {}", "cer-feat frames faces.csv -o {}"]
)
def test_a_folder_that_cannot_be_made_is_told_before_the_work(run, filled, tmp_path, line) -> None:
    for place in ("faces.csv", "faces.csv/x"):
        told = " ".join(run(line.format(place), code=2).stderr.replace("│", " ").split())
        assert "--output" in told
        assert "is a file" in told or "is no folder" in told


def test_a_comparison_and_its_figure_have_one_number(run, filled, tmp_path) -> None:
    run("cer-fuse compare --heads ncm --figure none")
    for _ in range(2):
        run("cer-fuse compare --heads ncm")
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {
        "faces-compare.json", "faces-compare-2.json", "faces-compare-2.png",
        "faces-compare-3.json", "faces-compare-3.png",
    }  # fmt: skip
