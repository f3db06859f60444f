"""Which part of a job this process is: from options, from torchrun, or from a Slurm job array."""

from __future__ import annotations

from collections.abc import Mapping

import typer
from cer_fusion.commands.console import say


def part_of(shard_index: int | None, num_shards: int | None, environment: Mapping[str, str]) -> tuple[int, int]:
    """(k, n): this process does part k of n.

    Options come first. Without them, `RANK` and `WORLD_SIZE` (torchrun, most launchers) or `SLURM_ARRAY_TASK_ID`,
    `_COUNT`, `_MIN` and `_STEP` say it, and what they said is told. `--num-shards 1` ignores the environment.

    Raises
    ------
    typer.BadParameter
        If the options, or the environment, do not make a part.
    """
    if num_shards is not None or shard_index is not None:
        if num_shards is None:
            raise typer.BadParameter("--shard-index needs --num-shards beside it", param_hint="--num-shards")
        if shard_index is None and num_shards > 1:
            raise typer.BadParameter("--num-shards needs --shard-index beside it", param_hint="--shard-index")
        k = shard_index or 0
        if k >= num_shards:
            raise typer.BadParameter(f"must be 0 to {num_shards - 1}, however: {k}", param_hint="--shard-index")
        return k, num_shards
    found = {name: part for name, part in (("RANK", _ranks(environment)), ("SLURM_ARRAY", _array(environment))) if part}
    if len(found) > 1:
        raise typer.BadParameter(
            "RANK/WORLD_SIZE and SLURM_ARRAY_TASK_ID both divide the work; say which part this is with "
            "--shard-index and --num-shards",
            param_hint="--shard-index",
        )
    for source, (k, n) in found.items():
        say(f"part [bold]{k}[/] of {n}, from {source}; --num-shards 1 does all of it")
        return k, n
    return 0, 1


def _ranks(environment: Mapping[str, str]) -> tuple[int, int] | None:
    n = _number(environment, "WORLD_SIZE")
    if n is None or n < 2:
        return None
    k = _number(environment, "RANK")
    return _checked(k, n, "RANK", "WORLD_SIZE")


def _array(environment: Mapping[str, str]) -> tuple[int, int] | None:
    n = _number(environment, "SLURM_ARRAY_TASK_COUNT")
    if n is None or n < 2:
        return None
    task = _number(environment, "SLURM_ARRAY_TASK_ID")
    first = _number(environment, "SLURM_ARRAY_TASK_MIN") or 0
    step = _number(environment, "SLURM_ARRAY_TASK_STEP") or 1
    k = None if task is None else (task - first) // step
    return _checked(k, n, "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT")


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "").strip()
    if not text:
        return None
    if not text.isdecimal():
        raise typer.BadParameter(f"{name} must be a number, however: {text!r}", param_hint="--shard-index")
    return int(text)


def _checked(k: int | None, n: int, index_name: str, count_name: str) -> tuple[int, int]:
    if k is None or not 0 <= k < n:
        raise typer.BadParameter(
            f"{index_name} and {count_name}={n} do not make a part (found {k}); say it with --shard-index and "
            f"--num-shards, or --num-shards 1 for all of it",
            param_hint="--shard-index",
        )
    return k, n
