"""Which part of a job a process does, as options and launchers say it, and parts as Slurm writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import typer

from .console import say

LAUNCHERS = {
    "RANK": "WORLD_SIZE",  # torchrun, accelerate, and most scripts
    "SLURM_PROCID": "SLURM_STEP_NUM_TASKS",  # srun; SLURM_NTASKS stands in a batch script too, which runs once
    "OMPI_COMM_WORLD_RANK": "OMPI_COMM_WORLD_SIZE",  # Open MPI
    "PMI_RANK": "PMI_SIZE",  # MPICH, Intel MPI
}
"""How launchers number the copies of one command that they start: the number's variable, and that of how many."""

ARRAY = "SLURM_ARRAY_TASK_ID"


def part_of(part: int | None, parts: int | None, environment: Mapping[str, str]) -> tuple[int, int]:
    """(k, n): this process does part k of n, as `told_part` finds it; all of it where nothing divides the work.

    Raises
    ------
    typer.BadParameter
        As `told_part`; or if `--parts` stands alone, and nothing says which of them this is.
    """
    told = told_part(part, parts, environment)
    if told is None and parts is not None:
        raise typer.BadParameter(
            "which of them is this? say it with --part beside it, by a Slurm array or a launcher, or do all of them "
            "here with --runner local",
            param_hint="--parts",
        )
    return told or (0, 1)


def told_part(part: int | None, parts: int | None, environment: Mapping[str, str]) -> tuple[int, int] | None:
    """(k, n) where something says that this process does part k of n, else None.

    Options come first. Then come a Slurm array, whose index is the part's number, and launchers that start one command
    several times: torchrun, srun, mpirun. What they said is told. `--parts 1` ignores them. An array says how many
    parts there are only if it holds all of them, 0 to n - 1: `--array=3` and `--array=3,7` are what is left of more, so
    that `--parts` must stand beside them.

    Raises
    ------
    typer.BadParameter
        If the options, or the environment, do not make a part, or two divide the work.
    """
    if part is not None:
        if parts is None:
            raise typer.BadParameter("--part needs --parts beside it", param_hint="--parts")
        if part >= parts:
            raise typer.BadParameter(f"must be 0 to {parts - 1}, however: {part}", param_hint="--part")
        return part, parts
    if parts == 1:
        return 0, 1
    found = _launched(environment)
    index = _number(environment, ARRAY)
    if index is not None:
        if found:
            raise typer.BadParameter(
                f"{next(iter(found))} and {ARRAY} both divide the work; say which part this is with --part and --parts",
                param_hint="--part",
            )
        found = {ARRAY: _of_array(index, parts, environment)}
    for source, (k, n) in found.items():
        if parts not in (None, n):
            raise typer.BadParameter(
                f"{n} processes ({LAUNCHERS[source]}) do not make {parts} parts: leave --parts out, or say which part "
                "this is with --part",
                param_hint="--parts",
            )
        say(f"part [bold]{k}[/] of {n}, from {source}; --parts 1 does all of it")
        return k, n
    return None


def _of_array(k: int, parts: int | None, environment: Mapping[str, str]) -> tuple[int, int]:
    """Part k, the index in an array, of `parts`; without these of as many as the array has, if it has all of them."""
    if parts is not None:
        if k >= parts:
            raise typer.BadParameter(
                f"{ARRAY}={k} is none of {parts} parts, 0 to {parts - 1}: part k is array index k", param_hint="--parts"
            )
        return k, parts
    names = [f"SLURM_ARRAY_TASK_{name}" for name in ("COUNT", "MIN", "MAX")]
    count, first, last = (_number(environment, name) for name in names)
    if count is None or count < 2 or first != 0 or last != count - 1 or k > last:
        found = ", ".join(f"{name}={environment.get(name, '')}" for name in names)
        raise typer.BadParameter(
            f"this is task {k} of an array that does not say how many parts the work has ({found}): a whole one has "
            f"the indices 0 to N - 1\n  say it with --parts N, of which this is part {k}; --parts 1 does all of it",
            param_hint="--parts",
        )
    return k, count


def _launched(environment: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """The launcher that divides the work, by its variable, and the part that it says; nothing if there is none."""
    sizes = {rank: _number(environment, size) or 1 for rank, size in LAUNCHERS.items()}
    found = {
        rank: _checked(_number(environment, rank), size, rank, LAUNCHERS[rank])
        for rank, size in sizes.items()
        if size > 1
    }
    agents = _number(environment, "GROUP_WORLD_SIZE")  # torchrun's own processes, which srun or mpirun may have started
    if "RANK" in found and agents is not None:
        found = {rank: one for rank, one in found.items() if rank == "RANK" or one[1] != agents}
    if len(set(found.values())) > 1:
        told = ", ".join(f"{rank} {k} of {n}" for rank, (k, n) in found.items())
        raise typer.BadParameter(
            f"two launchers divide the work in different ways ({told}); say which part this is with --part and --parts",
            param_hint="--part",
        )
    return dict(list(found.items())[:1])


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "").strip()
    if not text:
        return None
    if not text.isdecimal():
        raise typer.BadParameter(f"{name} must be a number, however: {text!r}", param_hint="--part")
    return int(text)


def _checked(k: int | None, n: int, index_name: str, count_name: str) -> tuple[int, int]:
    if k is None or not 0 <= k < n:
        raise typer.BadParameter(
            f"{index_name} and {count_name}={n} do not make a part (found {k}); say it with --part and "
            f"--parts, or --parts 1 for all of it",
            param_hint="--part",
        )
    return k, n


def array_text(parts: Iterable[int]) -> str:
    """Numbers as `sbatch --array` takes them: `3,7,12-15`."""
    runs: list[list[int]] = []
    for k in sorted(parts):
        if runs and k == runs[-1][-1] + 1:
            runs[-1].append(k)
        else:
            runs.append([k])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
