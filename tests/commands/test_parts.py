from __future__ import annotations

import json
from itertools import pairwise

import pytest
import typer

from cer_fusion.commands.parts import array_text, part_of


def array(task: int, indices: list[int], **more: str) -> dict[str, str]:
    """What Slurm 22.05 sets in a task of `sbatch --array` with these indices."""
    steps = {b - a for a, b in pairwise(indices)}
    return {
        "SLURM_ARRAY_TASK_ID": str(task),
        "SLURM_ARRAY_TASK_COUNT": str(len(indices)),
        "SLURM_ARRAY_TASK_MIN": str(min(indices)),
        "SLURM_ARRAY_TASK_MAX": str(max(indices)),
        "SLURM_ARRAY_TASK_STEP": str(steps.pop() if len(steps) == 1 else 1),
        "SLURM_PROCID": "0",  # a batch script is process 0, whatever its tasks are
        **more,
    }


def srun(k: int, n: int) -> dict[str, str]:
    return {"SLURM_PROCID": str(k), "SLURM_NTASKS": str(n), "SLURM_STEP_NUM_TASKS": str(n)}


def torchrun(k: int, n: int, agents: int) -> dict[str, str]:
    return {"RANK": str(k), "WORLD_SIZE": str(n), "GROUP_WORLD_SIZE": str(agents)}


MPI = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "3"}


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ((None, None), {}, (0, 1)),
        ((2, 3), {}, (2, 3)),
        ((None, 1), {"RANK": "1", "WORLD_SIZE": "2"}, (0, 1)),
        ((None, 1), array(3, [3]), (0, 1)),
        ((0, 2), {"RANK": "1", "WORLD_SIZE": "2"}, (0, 2)),
        ((0, 2), array(3, [3, 7]), (0, 2)),
        ((None, None), {"RANK": "1", "WORLD_SIZE": "2"}, (1, 2)),
        ((None, None), {"RANK": "0", "WORLD_SIZE": "1"}, (0, 1)),
        ((None, None), array(0, [0, 1]), (0, 2)),
        ((None, None), array(2, [0, 1, 2, 3]), (2, 4)),
        ((None, None), array(2, [0, 1, 2, 3], RANK="0", WORLD_SIZE="1"), (2, 4)),
        ((None, None), array(2, [0, 1, 2, 3], SLURM_STEP_NUM_TASKS="1", SLURM_NTASKS="1"), (2, 4)),
        ((None, 8), array(3, [3]), (3, 8)),
        ((None, 8), array(0, [0]), (0, 8)),
        ((None, 8), array(7, [3, 7]), (7, 8)),
        ((None, 16), array(13, [3, 7, 12, 13, 14, 15]), (13, 16)),
        ((None, 9), array(8, [1, 2, 3, 4, 5, 6, 7, 8]), (8, 9)),
        ((None, None), srun(2, 4), (2, 4)),
        ((None, 4), srun(2, 4), (2, 4)),
        ((None, None), {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (0, 1)),  # sbatch -n4 runs its script once
        ((None, None), MPI, (1, 3)),
        ((None, None), {"PMI_RANK": "1", "PMI_SIZE": "3"}, (1, 3)),
        ((None, None), {**MPI, "RANK": "1", "WORLD_SIZE": "3"}, (1, 3)),  # a script that hands them on
        ((None, None), {**srun(1, 2), **torchrun(5, 8, agents=2)}, (5, 8)),
        ((None, None), torchrun(5, 8, agents=1), (5, 8)),
    ],
)
def test_a_part_is_found_in_options_then_in_the_environment(options, environment, expected):
    assert part_of(*options, environment) == expected


@pytest.mark.parametrize(
    ("options", "environment", "message"),
    [
        ((1, None), {}, "needs --parts"),
        ((None, 2), {}, "which of them is this"),
        ((None, 4), {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, "which of them is this"),
        ((2, 2), {}, "0 to 1, however: 2"),
        ((None, None), array(1, [0, 1], **srun(0, 2)), "both divide the work"),
        ((None, 8), array(1, [0, 1], **srun(0, 2)), "both divide the work"),
        ((None, None), array(1, [0, 1], RANK="0", WORLD_SIZE="2"), "both divide the work"),
        ((None, None), {"WORLD_SIZE": "2"}, "RANK and WORLD_SIZE=2 do not make a part"),
        ((None, None), {"RANK": "2", "WORLD_SIZE": "2"}, "found 2"),
        ((None, None), {"RANK": "one", "WORLD_SIZE": "2"}, "RANK must be a number, however: 'one'"),
        ((None, 8), srun(2, 4), "4 processes .* do not make 8 parts"),
        ((None, None), {**srun(1, 4), **torchrun(0, 2, agents=1)}, "two launchers divide the work in different ways"),
        ((None, None), {**srun(1, 4), **MPI}, "two launchers divide the work in different ways"),
    ],
)
def test_what_makes_no_part_is_refused(options, environment, message):
    with pytest.raises(typer.BadParameter, match=message):
        part_of(*options, environment)


@pytest.mark.parametrize("indices", [[0], [3], [3, 7], [1, 2, 3], [12, 13, 14, 15], [0, 2, 4], [0, 1, 2, 5]])
def test_an_array_that_is_what_is_left_of_more_does_not_say_how_many_parts_there_are(indices):
    for task in indices:
        with pytest.raises(typer.BadParameter, match=f"say it with --parts N, of which this is part {task}"):
            part_of(None, None, array(task, indices))


def test_an_index_beyond_the_parts_is_refused():
    with pytest.raises(typer.BadParameter, match="SLURM_ARRAY_TASK_ID=7 is none of 4 parts"):
        part_of(None, 4, array(7, [3, 7]))


def test_an_array_that_does_not_say_its_size_is_refused():
    with pytest.raises(typer.BadParameter, match="--parts N"):
        part_of(None, None, {"SLURM_ARRAY_TASK_ID": "2"})


def test_a_part_taken_from_the_environment_is_told(capsys):
    part_of(None, None, array(3, [0, 1, 2, 3]))
    part_of(None, None, srun(1, 4))
    said = capsys.readouterr().err
    assert "part 3 of 4, from SLURM_ARRAY_TASK_ID; --parts 1 does all of it" in said
    assert "part 1 of 4, from SLURM_PROCID; --parts 1 does all of it" in said


@pytest.mark.parametrize(
    ("parts", "text"),
    [([], ""), ([3], "3"), ([3, 4], "3-4"), ([15, 3, 7, 12, 13, 14], "3,7,12-15"), (range(1000), "0-999")],
)
def test_parts_are_written_as_sbatch_takes_an_array(parts, text):
    assert array_text(parts) == text


def test_the_parts_that_are_unfinished_are_printed_as_sbatch_takes_them(run, faces, tmp_path):
    extract = "cer-feat extract -b timm:test_resnet -w random -d faces.csv --shard-rows 4"  # eleven shards
    listed = "cer-feat parts --parts 16 --shard-rows 4"
    run("cer-feat use-manifest faces.csv --dataset faces", code=1)  # there is no store yet
    for k in (0, 4, 6):
        run(f"{extract} --part {k} --parts 16")
    result = run(listed)
    assert result.stdout == "1-3,5,7-10\n"
    assert json.loads(run(f"{listed} --json --features test_resnet").stdout)["unfinished"] == [1, 2, 3, 5, 7, 8, 9, 10]
    assert run("cer-feat parts --parts 1 --shard-rows 4").stdout == "0\n"
    run(extract)
    result = run(listed)
    assert result.stdout == ""
    assert "all parts are finished, of test_resnet@" in result.stderr
