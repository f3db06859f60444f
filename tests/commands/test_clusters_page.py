"""Every command of docs/clusters.md, run in order.

Slurm and Ray are stand-ins that do the parts in this process, sbatch, srun and torchrun ones that set the variables
which the real ones set (those of Slurm are compared with a real one in test_clusters.py), the bucket is a folder.
"""

from __future__ import annotations

import re
import shlex
import sys

import numpy as np
import pytest
from joblib import parallel_config

from cer_fusion.commands.parts import part_of
from cer_fusion.commands.runners import Outcome, engine
from cer_fusion.featstore import Manifest, Sample, Store, class_set, import_rows, plan_push, push
from cer_fusion.featstore.extraction.plan import unfinished_parts
from cer_fusion.fusion import Rows
from tests.commands.test_engines import FakeRay, submitit  # noqa: F401  # fixture
from tests.pages import Page, options, parsed

PAGE = Page("docs/clusters.md")


SMALLER = {
    "--backbone vit": "--backbone timm:test_vit -w random --shard-rows 2",
    "cer-feat parts": "cer-feat parts --features test_vit --shard-rows 2",
    "rafdb.csv": "faces.csv",
    "rafdb": "faces",
    "a=0": "one=0",
    "b=1-": "two=1-",
    "--cv 5": "--cv 3 --features one,two",
    "compare": "compare --figure none",
    "ablate": "ablate --folds 3 --figure none",
    "push --store": "push --yes --store",
    "--features vit": "--features test_vit",
}
LAUNCHED = [line.removeprefix("$ ") for block in PAGE.blocks("console") for line in block.splitlines()
            if re.match(r"\$ (?!cer-)", line)]  # fmt: skip


def smaller(words: str) -> str:
    for written, other in SMALLER.items():
        words = words.replace(written, other)
    return words


def indices(spec: str) -> list[int]:
    """Those of `sbatch --array`: `3,7,12-15`."""
    spans = [span.partition("-") for span in spec.split(",")]
    return [k for first, _, last in spans for k in range(int(first), int(last or first) + 1)]


def launched(line: str) -> tuple[str, list[dict[str, str]]]:
    """The command that a launcher starts, and the variables of each copy; an option that it does not have raises."""
    program, *words = shlex.split(line)
    if program == "sbatch":
        [array, wrap, command] = words
        assert wrap == "--wrap"
        found = indices(array.removeprefix("--array="))
        said = {"COUNT": len(found), "MIN": min(found), "MAX": max(found)}
        each = [{"TASK_ID": k, **said} for k in found]
        return command, [{f"SLURM_ARRAY_{'' if key == 'TASK_ID' else 'TASK_'}{key}": str(value)
                          for key, value in one.items()} for one in each]  # fmt: skip
    if program == "srun":
        count = int(words.pop(0).removeprefix("--ntasks="))
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")
    else:
        assert (program, words[0], words[2]) == ("torchrun", "--nproc-per-node", "--no-python")
        count, words = int(words[1]), words[3:]
        names = ("RANK", "WORLD_SIZE")
    return shlex.join(words), [{names[0]: str(k), names[1]: str(count)} for k in range(count)]


def in_this_process(job, parts, n, *, workers, progress, busy=None, sizes=None):
    return [Outcome(part=k, worker="0", value=job.run_part(k, n, lambda *step: None)) for k in parts]


@pytest.mark.slow
def test_every_command_of_the_page_runs_and_leaves_the_rows_of_the_first(run, filled, submitit, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(engine, "run_here", in_this_process)
    monkeypatch.setitem(sys.modules, "ray", FakeRay(gpus=1.0))
    run("cer-feat use-manifest faces.csv --dataset faces")
    monkeypatch.setenv("CER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "pictures").mkdir()
    for step in PAGE.steps:
        result = run(smaller(step.command).replace("s3://", f"file://{tmp_path}/"))
        if "parts" in step.command.split()[1]:
            assert result.stdout == ""  # the first command on the page has done them
    assert len(PAGE.steps) == 16
    assert [feature.name for feature in Store("elsewhere").features("faces")] == ["test_vit"]
    features = Store("features").features("faces")
    assert sorted(feature.name for feature in features) == ["one", "test_vit", "two"]


def test_what_the_page_has_launched_does_each_part_once(monkeypatch):
    """As the command itself would read its options and the launcher's variables."""
    assert [line.partition(" ")[0] for line in LAUNCHED] == ["sbatch", "sbatch", "srun", "torchrun"]
    told = []
    for line in LAUNCHED:
        command, copies = launched(line)
        name, found = parsed(command)
        assert name == "extract"
        told.append([part_of(found["part"], found["parts"], variables) for variables in copies])
    assert told[0] == [(k, 16) for k in range(16)]
    assert told[1] == [(k, 16) for k in (3, 7, 12, 13, 14, 15)]
    assert told[2] == [(k, 4) for k in range(4)]
    assert told[3] == [(k, 8) for k in range(8)]


@pytest.mark.slow
@pytest.mark.parametrize("line", LAUNCHED)
def test_what_the_page_has_launched_leaves_the_rows_of_its_parts(run, faces, line, monkeypatch):
    command, copies = launched(line)
    mine = [copies[0], copies[-1]]
    for variables in mine:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            run(smaller(command))
    store = Store("features")
    [feature] = store.features("faces")
    parsed_parts = parsed(command)[1]["parts"] or len(copies)
    done = {int(next(iter(v.values()))) for v in mine}
    left = unfinished_parts(store.manifest("faces"), [feature], shard_rows=2, parts=parsed_parts)
    assert left == [k for k in range(parsed_parts) if k not in done]


def test_a_store_in_a_bucket_is_read_as_the_page_says(tmp_path, monkeypatch):
    pytest.importorskip("obstore", reason="no bucket without obstore: pip install 'cer-fusion[cloud]'")
    monkeypatch.setenv("CER_CACHE", str(tmp_path / "cache"))
    samples = tuple(Sample(sample_id=f"s{i}", path=f"{i}.png", split="train") for i in range(6))
    manifest = Manifest(samples=samples, classes=class_set("abaw7"), root=tmp_path)
    store = Store.create(tmp_path / "features")
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    import_rows(rows, manifest.ids, manifest, store, dataset="faces", name="vit", need_pictures=False)
    push(store, plan_push(store, f"file://{tmp_path}/bucket/faces"))
    exec(PAGE.python[0].replace("s3://", f"file://{tmp_path}/"), found := {})
    np.testing.assert_array_equal(found["view"].join(), rows)
    assert found["store"].path.is_relative_to(tmp_path / "cache")


def test_the_python_of_the_page_runs():
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    blocks = {name: (y[:, None] + rng.normal(size=(40, 3))).astype(np.float32) for name in ("a", "b")}
    rows = Rows(blocks=blocks, y=y, classes=("x", "y"))
    _, code = PAGE.python
    with parallel_config(backend="threading"):
        exec(code.replace('"loky"', '"threading"'), found := {"rows": rows})
    assert [column.name for column in found["report"].columns] == ["linear", "late", "a", "b"]


def test_every_option_the_page_names_exists():
    assert set(re.findall(r"`(--[a-z-]+)", PAGE.text)) <= options() | {"--array"}
