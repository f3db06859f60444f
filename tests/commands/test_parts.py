from __future__ import annotations

import pytest
import typer

from cer_fusion.commands.parts import part_of

SLURM = {
    "SLURM_ARRAY_TASK_ID": "7",
    "SLURM_ARRAY_TASK_COUNT": "4",
    "SLURM_ARRAY_TASK_MIN": "1",
    "SLURM_ARRAY_TASK_STEP": "2",
}


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ((None, None), {}, (0, 1)),
        ((2, 3), {}, (2, 3)),
        ((None, 1), {"RANK": "1", "WORLD_SIZE": "2"}, (0, 1)),
        ((0, 2), {"RANK": "1", "WORLD_SIZE": "2"}, (0, 2)),
        ((None, None), {"RANK": "1", "WORLD_SIZE": "2"}, (1, 2)),
        ((None, None), {"RANK": "0", "WORLD_SIZE": "1"}, (0, 1)),
        ((None, None), SLURM, (3, 4)),
        ((None, None), {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "2"}, (0, 2)),
        ((None, None), {**SLURM, "RANK": "0", "WORLD_SIZE": "1"}, (3, 4)),
    ],
)
def test_a_part_is_found_in_options_then_in_the_environment(options, environment, expected):
    assert part_of(*options, environment) == expected


@pytest.mark.parametrize(
    ("options", "environment", "message"),
    [
        ((1, None), {}, "needs --parts"),
        ((None, 2), {}, "needs --part"),
        ((2, 2), {}, "0 to 1, however: 2"),
        ((None, None), {**SLURM, "RANK": "0", "WORLD_SIZE": "2"}, "both divide the work"),
        ((None, None), {"WORLD_SIZE": "2"}, "RANK and WORLD_SIZE=2 do not make a part"),
        ((None, None), {"RANK": "2", "WORLD_SIZE": "2"}, "found 2"),
        ((None, None), {"RANK": "one", "WORLD_SIZE": "2"}, "RANK must be a number, however: 'one'"),
        ((None, None), {**SLURM, "SLURM_ARRAY_TASK_ID": "9"}, "found 4"),
    ],
)
def test_what_makes_no_part_is_refused(options, environment, message):
    with pytest.raises(typer.BadParameter, match=message):
        part_of(*options, environment)


def test_a_part_taken_from_the_environment_is_told(capsys):
    part_of(None, None, SLURM)
    assert "part 3 of 4, from SLURM_ARRAY; --parts 1 does all of it" in capsys.readouterr().err
