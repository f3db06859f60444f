"""An option that says nothing in the form of a command that is meant is refused, for every command and every option."""

from __future__ import annotations

from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cer_fusion.commands import feat, fuse
from cer_fusion.commands import options as opt
from cer_fusion.commands.options import Form, forms, only
from cer_fusion.featstore.manifests.adapters import KINDS, takes
from tests.commands.walk import commands, kinds, options

ONE_FORM = {
    "cer-feat backbones", "cer-feat demo", "cer-feat doctor", "cer-feat gc", "cer-feat ls",
    "cer-feat manifest build", "cer-feat manifest check", "cer-feat manifest filter", "cer-feat manifest merge",
    "cer-feat manifest relabel", "cer-feat manifest split", "cer-feat manifest unity", "cer-feat parts",
    "cer-feat quarantine", "cer-fuse heads", "cer-feat use-manifest", "cer-feat show",
    "cer-feat pull", "cer-feat cache", "cer-feat rename", "cer-fuse pull",
    "cer-fuse recipes", "cer-feat prompts",
}  # fmt: skip
"""Commands whose every option says something whatever the others are."""

ALWAYS = {
    "cer-feat frames": "output faces every format workers overwrite as_json",
    "cer-feat extract":
        "backbone data store weights option name dataset root batch_size readers reader_processes runner parts "
        "device precision views align compiled dtype shard_rows max_errors check_pictures assume_unchanged "
        "retry_quarantined log "
        "replace_manifest seed as_json",
    "cer-feat inspect": "convert as_json",
    "cer-feat finetune":
        "backbone data output weights option recipe changes sync_bn class_set soft_labels root device precision "
        "readers reader_processes memory state_every state_minutes max_errors track tensorboard overwrite seed "
        "as_json",
    "cer-feat import": "name data store dataset root share_repeats blank extra replace_manifest as_json",
    "cer-feat verify": "store data images repair as_json",
    "cer-feat export": "output data store split form join missing overwrite as_json",
    "cer-feat diff": "as_json",
    "cer-feat push": "store data features dry_run as_json",
    "cer-feat rm": "data store runs dry_run as_json",
    "cer-fuse rm": "dry_run as_json",
    "cer-feat compact": "data store shard_rows drop_unlisted dry_run as_json",
    "cer-fuse train":
        "head features data store preset setting weights train_split test_split missing near soft_labels targets "
        "basic curriculum memory output metrics track overwrite seed as_json",
    "cer-fuse compare": "track class_intervals figure output as_json",
    "cer-fuse ablate":
        "head weights simplex axis setting preset features data store select seeds train_split test_split missing near "
        "soft_labels targets basic runner figure output seed as_json",
    "cer-fuse diagnose":
        "head features data store setting players cv near most train_split missing figure output seed as_json",
    "cer-fuse evaluate": "head data split store missing near metrics figure seed as_json",
    "cer-fuse predict": "head prompts store compounds output as_json",
    "cer-fuse explore": "output map split thumbnails data store missing overwrite as_json",
    "cer-fuse export": "output head_only check store data overwrite as_json",
    "cer-fuse push": "public licence with_answers with_rows dry_run as_json",
    "cer-fuse report": "output errors overwrite baseline metrics title keep seed as_json",
    "cer-fuse check-table": "supports as_json",
    "cer-fuse smooth": "method choose_on output as_json seed",
    "cer-fuse submit": "check diff as_json",
    "cer-fuse choose": "template as_json",
}  # fmt: skip
"""Options of commands of several forms that say something in every form."""

MEANT: dict[str, list[tuple[str, set[str]]]] = {
    "cer-feat frames": [
        ("cer-feat frames videos -o out --faces none", {"jpg"}),
        ("cer-feat frames videos -o out --format png", {"found"}),
    ],
    "cer-feat extract": [
        ("cer-feat extract -b vit -d faces.csv", {"here"}),
        ("cer-feat extract -b vit -d faces.csv --align --runner local", {"aligned", "here"}),
        ("cer-feat extract -b audio:egemaps -d faces.csv --videos videos", {"heard", "here"}),
        ("cer-feat extract -b vit --runner slurm --parts 4", {"slurm"}),
        ("cer-feat extract -b vit --runner ray --parts 4", {"ray"}),
    ],
    "cer-feat verify": [("cer-feat verify", set()), ("cer-feat verify --images", {"images"})],
    "cer-feat inspect": [("cer-feat inspect w.pth", set())],
    "cer-feat finetune": [
        ("cer-feat finetune -b vit -d faces.csv -o out", {"shared", "resumed"}),
        ("cer-feat finetune -b vit -d faces.csv -o out --overwrite --resume", {"shared"}),
    ],
    "cer-feat import": [
        ("cer-feat import rows.npy --as x", {"listed"}),
        ("cer-feat import rows.npz --as x", {"listed", "keyed", "chosen"}),
        ("cer-feat import openface.csv --as x", {"chosen", "tabled"}),
        ("cer-feat import samples --as x", {"pooled"}),
        ("cer-feat import rows.parquet --as x", set()),
    ],
    "cer-feat export": [("cer-feat export --output x.npz", set()), ("cer-feat export --output x.csv", set())],
    "cer-feat diff": [
        ("cer-feat diff ./a ./b", set()),
        ("cer-feat diff faces/a ./b", {"stored"}),
    ],
    "cer-feat push": [
        ("cer-feat push file:///x --dry-run", {"bucket"}),
        ("cer-feat push hf://datasets/user/x --dry-run", {"hub"}),
    ],
    "cer-feat rm": [("cer-feat rm manet --dry-run", set())],
    "cer-fuse rm": [("cer-fuse rm runs/a --dry-run", set())],
    "cer-feat compact": [("cer-feat compact --dry-run", set())],
    "cer-fuse train": [
        ("cer-fuse train --head linear", {"unset", "noted"}),
        ("cer-fuse train --head mlp --set device=cpu --json", {"computing"}),
    ],
    "cer-fuse compare": [
        ("cer-fuse compare kept.json", {"noted", "table"}),
        ("cer-fuse compare runs/a", {"judging", "noted", "table", "written"}),
        ("cer-fuse compare runs/a --figure none --output none --format csv", {"judging", "table"}),
        ("cer-fuse compare runs/a --json", {"judging", "written"}),
        ("cer-fuse compare --heads linear",
         {"trained", "judging", "alone", "split", "seeded", "noted", "table", "written", "here"}),
        ("cer-fuse compare --heads linear --cv 3",
         {"trained", "judging", "alone", "repeated", "noted", "table", "written", "here"}),
        ("cer-fuse compare --heads linear --runner ray --parts 3",
         {"trained", "judging", "alone", "split", "seeded", "noted", "table", "written", "divided", "ray"}),
        ("cer-fuse compare --heads linear --runner slurm --parts 3",
         {"trained", "judging", "alone", "split", "seeded", "noted", "table", "written", "divided", "slurm"}),
        ("cer-fuse compare --recipes paper",
         {"trained", "judging", "split", "seeded", "named", "computing", "noted", "table", "written", "here"}),
        ("cer-fuse compare --heads mlp --no-singles --zero-shot basic",
         {"trained", "judging", "split", "seeded", "elsewhere", "paired", "computing", "noted", "table", "written",
          "here"}),
        ("cer-fuse compare --heads linear --no-singles --prompts p.npz",
         {"trained", "judging", "split", "seeded", "paired", "noted", "table", "written", "here"}),
    ],
    "cer-fuse ablate": [
        ("cer-fuse ablate --weights a=0:1:0.1 --select test", {"weighed", "noted", "table", "written", "here"}),
        ("cer-fuse ablate --weights a=0:1:0.1 --json --select test", {"weighed", "written", "here"}),
        ("cer-fuse ablate --weights a=0:1:0.1 --workers 2",
         {"weighed", "inner", "noted", "table", "written", "here", "divided"}),
        ("cer-fuse ablate --weights a=0:1:0.1 --runner ray --parts 2",
         {"weighed", "inner", "noted", "table", "written", "divided", "ray"}),
        ("cer-fuse ablate --weights a=0:1:0.1 --select inner --figure none --format json",
         {"weighed", "inner", "here", "table"}),
        ("cer-fuse ablate --axis locality=0,1 --select test", {"computing", "noted", "table", "written", "here"}),
    ],
    "cer-fuse diagnose": [
        ("cer-fuse diagnose --head linear --cv 3 --figure none", {"table", "noted", "unset"}),
        ("cer-fuse diagnose --head linear --cv 3 --format csv", {"table", "unset", "written"}),
        ("cer-fuse diagnose --head mlp --json --set device=cpu", {"split", "computing", "written"}),
    ],
    "cer-fuse evaluate": [("cer-fuse evaluate --head h", set())],
    "cer-fuse predict": [
        ("cer-fuse predict --head h", {"stored"}),
        ("cer-fuse predict --head h --compounds abaw7", {"stored", "compounded"}),
        ("cer-fuse predict --prompts p.npz", {"stored", "prompted"}),
        ("cer-fuse predict picture.png --head h --no-faces", {"shown"}),
        ("cer-fuse predict picture.png --head h", {"shown", "faces"}),
        ("cer-fuse predict picture.png --head h --no-faces --annotate drawn.png", {"shown", "drawn", "written"}),
    ],
    "cer-fuse export": [
        ("cer-fuse export runs/a -o x.onnx", {"whole"}),
        ("cer-fuse export runs/a -o x.onnx --head-only", set()),
    ],
    "cer-fuse explore": [
        ("cer-fuse explore runs/a -o x.parquet --thumbnails", {"pictured"}),
        ("cer-fuse explore runs/a -o x.parquet --map umap", {"drawn"}),
    ],
    "cer-fuse push": [("cer-fuse push runs/a user/a --dry-run", set())],
    "cer-fuse report": [
        ("cer-fuse report runs/a", set()),
        ("cer-fuse report --heads linear --no-sweep --no-diagnose", {"trained"}),
        ("cer-fuse report runs/a --errors", {"named", "seen"}),
    ],
    "cer-fuse check-table": [
        ("cer-fuse check-table table.csv --supports 2,2", {"table", "noted"}),
        ("cer-fuse check-table table.csv --json", {"search"}),
    ],
    "cer-fuse smooth": [
        ("cer-fuse smooth p.csv --method box", {"windows", "filling", "table", "noted"}),
        ("cer-fuse smooth p.csv --method hmm --stickiness em --json", {"chains", "filling"}),
        ("cer-fuse smooth p.csv --method none --format csv", {"filling", "table"}),
        ("cer-fuse smooth labelled.csv --method box --window 3,5", {"windows", "table", "noted"}),
        ("cer-fuse smooth p.csv --method box --json -o out.csv", {"windows", "filling", "written"}),
    ],
    "cer-fuse submit": [
        ("cer-fuse submit p.csv -t t.csv -o s.txt", {"answering", "videos", "table"}),
        ("cer-fuse submit p.csv -t t.csv -o s.txt --correct em --json", {"answering", "correcting"}),
        ("cer-fuse submit --check s.txt", {"checking"}),
        ("cer-fuse submit --diff a.txt b.txt", {"table"}),
        ("cer-fuse submit --diff a.txt b.txt --json", set()),
    ],
    "cer-fuse choose": [("cer-fuse choose a.csv b.csv --json", set())],
}  # fmt: skip
"""Command lines, and the forms of the command that each of them means."""


def declared(name: str) -> dict[str, Form]:
    return commands()[name].callback.forms


def _meant(form: str | None, meant: set[str], all_forms: dict[str, Form]) -> bool:
    return form is None or (form in meant and _meant(all_forms[form].within, meant, all_forms))


SEVERAL = sorted(name for name in commands() if hasattr(commands()[name].callback, "forms"))
CASES = [
    pytest.param(line, name, option, id=f"{line} {options(commands()[name])[option].opts[0]}")
    for name in SEVERAL
    for line, meant in MEANT.get(name, [])
    for option in options(commands()[name])
    if option not in ALWAYS[name].split()
    and not any(_meant(form, meant, declared(name)) and option in one.options for form, one in declared(name).items())
    and not set(options(commands()[name])[option].opts) & set(line.split())
]


def test_every_command_is_of_one_form_or_declares_its_forms():
    assert ONE_FORM.isdisjoint(SEVERAL)
    assert ONE_FORM | set(SEVERAL) == set(commands())
    assert set(ALWAYS) == set(SEVERAL)
    assert set(MEANT) == set(SEVERAL), "every command of several forms has command lines to try"


@pytest.mark.parametrize("name", SEVERAL)
def test_every_option_of_a_command_of_several_forms_is_declared_in_one_of_them_or_in_all(name):
    known, found = set(options(commands()[name])), declared(name)
    in_forms = {option for form in found.values() for option in form.options}
    always = set(ALWAYS[name].split())
    assert always | in_forms == known
    assert not always & in_forms
    assert {form.within for form in found.values()} <= {None, *found}


@pytest.mark.parametrize("name", SEVERAL)
def test_every_form_has_a_command_line_that_means_it_and_one_that_does_not(name):
    lines = [meant for _, meant in MEANT[name]]
    assert set().union(*lines) <= set(declared(name))
    for form in set(declared(name)) - {"shared"}:  # finetune's, which its manifests decide: see test_finetune
        assert any(form not in meant for meant in lines), form


@pytest.mark.parametrize(("line", "name", "option"), CASES)
def test_an_option_that_the_form_ignores_is_refused(run, made, line, name, option):
    parameter = options(commands()[name])[option]
    result = run(f"{line} {_written(parameter, kinds(commands()[name])[option])}", code=2)
    assert parameter.opts[0] in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("kind", KINDS)
def test_an_option_that_a_kind_of_manifest_ignores_is_refused(run, made, kind):
    build = options(commands()["cer-feat manifest build"])
    of_kinds = {name for name in build if any(takes(one, name) for one in KINDS)} - {"overwrite"}
    assert {"labels", "pictures", "partition", "columns", "id_column", "group_column"} <= of_kinds
    for name in sorted(of_kinds - {"classes"}):
        if not takes(kind, name):
            of = {int} if name == "first_frame" else {str}
            said = run(f"cer-feat manifest {kind} pictures -o x.csv {_written(build[name], of)}", code=1).stderr
            assert f"kind {kind!r} takes no option {name!r}" in said
    if (kind, "basic8") != ("ferplus", "basic8"):
        assert "has votes" in run(f"cer-feat manifest {kind} pictures -o x.csv --votes v.csv", code=2).stderr


@pytest.mark.parametrize(
    "line",
    [
        "cer-feat verify", "cer-feat gc", "cer-feat compact", "cer-feat show one", "cer-feat rm one",
        "cer-feat rename one two", "cer-feat export --output x.npz",
        "cer-feat push file:///x", "cer-feat pull file:///x",
        "cer-feat diff one two", "cer-fuse train", "cer-fuse compare", "cer-fuse ablate --simplex one,two:0.5",
        "cer-fuse diagnose", "cer-fuse report", "cer-fuse evaluate --head h", "cer-fuse predict --head h",
    ],
)  # fmt: skip
@pytest.mark.parametrize("file", ["list.csv", "lists/list.csv", "./list"])
def test_a_file_where_a_dataset_is_named_is_refused_with_the_dataset_s_name(run, line, file):
    said = " ".join(run(f"{line} --data {file}", code=2).stderr.replace("│", " ").split())
    assert f"{file} is a file, and a dataset of the store is named here: --data list" in said


@pytest.mark.parametrize(
    "line", ["cer-feat extract -b timm:test_vit -w random", "cer-feat finetune -b timm:test_vit -w random -o out",
             "cer-feat import rows.npz --as x", "cer-fuse train", "cer-feat gc"],
)  # fmt: skip
def test_a_folder_of_pictures_is_told_to_need_a_manifest(run, made, tmp_path, line):
    folder = tmp_path / "pictures"
    said = " ".join(run(f"{line} --data {folder}", code=2).stderr.replace("│", " ").split())
    assert "is a folder: make a manifest of it first" in said
    assert "cer-feat manifest folder" in said


def test_every_command_that_names_a_dataset_refuses_a_file():
    """Only those that read a manifest take one."""
    read = {"cer-feat extract", "cer-feat import", "cer-feat finetune"}
    found = {name for name, one in commands().items() if "data" in options(one)}
    refuse = lambda one: getattr(one.callback, "__wrapped__", None) is opt.no_file  # noqa: E731
    assert {name for name in found if not refuse(options(commands()[name])["data"])} == read


def test_what_an_environment_variable_says_is_never_refused(run, made, monkeypatch):
    monkeypatch.setenv("CER_STORE", "elsewhere")
    assert "no run folder" in run("cer-fuse compare runs/a", code=1).stderr


@pytest.mark.parametrize(
    "line", ["--head mlp --set device=cpu --device cpu", "--head late --set weights=learned --weights one=1"]
)
def test_a_setting_that_an_option_says_too_is_refused(run, filled, line):
    said = " ".join(run(f"cer-fuse train {line}", code=2).stderr.replace("│", " ").split())
    assert "says that too: leave one of them out" in said


def test_the_reason_is_that_of_the_outermost_form_that_is_not_meant():
    app = typer.Typer()

    @app.command()
    @forms(a=Form("no a", ("x",)), b=Form("no b", ("y", "z"), within="a"), c=Form("no c", ("z",)))
    def toy(ctx: typer.Context, name: str = "", x: str = "", y: str = "", z: str = "", meant: str = "") -> None:
        only(ctx, **{form: form in meant for form in "abc"})

    def end(*args: str) -> str:
        return CliRunner().invoke(app, args).output

    assert end("--meant", "abc", "--x", "1", "--y", "1", "--z", "1") == ""
    assert "--x: no a" in end("--meant", "bc", "--x", "1")
    assert "--y: no a" in end("--meant", "bc", "--y", "1")
    assert "--y: no b" in end("--meant", "a", "--y", "1")
    assert end("--meant", "c", "--z", "1") == ""
    assert end("--meant", "ab", "--z", "1") == ""
    assert end("--name", "1") == ""
    assert feat.app is not fuse.app


@pytest.fixture
def made(tmp_path) -> None:
    """What the command lines above name, as far as it is looked at before options are."""
    import io

    import numpy as np
    from PIL import Image

    rows = np.ones((3, 2), dtype=np.float32)
    np.save(tmp_path / "rows.npy", rows)
    np.savez(tmp_path / "rows.npz", rows=rows, names=np.array(["a", "b", "c"]))
    (tmp_path / "openface.csv").write_text(
        "frame, timestamp, confidence, success, AU01_r, AU01_c\n1, 0, 0.9, 1, 2, 1\n"
    )
    (tmp_path / "rows.parquet").write_bytes(b"PAR1" + bytes(12) + b"PAR1")
    for folder in ("samples", "pictures"):
        (tmp_path / folder).mkdir()
    np.save(tmp_path / "samples" / "a.npy", rows[0])
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    (tmp_path / "picture.png").write_bytes(picture.getvalue())
    lines = [f"01/{i:05d}.jpg,,a,0.75,0.25" for i in range(1, 6)]
    (tmp_path / "p.csv").write_text("sample_id,label,predicted,a,b\n" + "\n".join(lines) + "\n")
    labelled = [f"{v:02d}/{i:05d}.jpg,{'ab'[i % 2]},a,0.75,0.25" for v in (1, 2) for i in range(1, 6)]
    (tmp_path / "labelled.csv").write_text("sample_id,label,predicted,a,b\n" + "\n".join(labelled) + "\n")
    (tmp_path / "table.csv").write_text("class,x\na,50.00\nb,50.00\naccuracy,50.00\n")


def _written(parameter: Any, kinds: set[Any]) -> str:
    """The option with a value of its kind."""
    if parameter.is_flag:
        return parameter.opts[0]
    choices = sorted(one for one in kinds if isinstance(one, str) and one != parameter.default)
    if choices:
        return f"{parameter.opts[0]} {choices[0]}"
    value = "2" if int in kinds else "0.5" if float in kinds else "x"
    return " ".join([parameter.opts[0], *[value] * (parameter.nargs if parameter.nargs > 1 else 1)])
