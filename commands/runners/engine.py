"""What the options say of who does which parts, and one way to have it done."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from ...kit.machine import whole_cores
from ..console import Progress
from ..options import RunnerName
from ..parts import part_of, told_part
from .job import Job, Outcome
from .processes import run_here
from .ray_tasks import run_on_ray
from .slurm_array import Submitted, slurm_options, submit_to_slurm

PARTS_A_WORKER = 4
"""Few enough that a part is worth its start, and enough that workers end at about the same time."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Who does which parts of how many."""

    runner: RunnerName | None
    """None: this process, one part."""
    parts: Sequence[int]
    """Those that are to be done, in order."""
    n: int
    """Parts that the whole job has."""
    workers: int = 1
    """Processes at once, of `local`."""
    slurm: Mapping[str, Any] = field(default_factory=dict)
    """What Slurm is asked for, as `slurm_options` gives it."""
    ray_address: str = "auto"
    """HOST:PORT of a Ray cluster, or `auto` for the one that this machine is in."""
    num_gpus: float | None = None
    """GPUs that a task of Ray takes; None: one where there are any and `gpus_wanted`."""
    gpus_wanted: bool = False
    """Whether the job computes on a GPU where it may choose."""

    @classmethod
    def of_options(
        cls,
        runner: RunnerName | None,
        *,
        parts: int | None,
        workers: int | None,
        slurm: Sequence[str] | None,
        ray_address: str | None,
        num_gpus: float | None,
        gpus_wanted: bool,
        gpus_here: Callable[[], int] = lambda: 0,
        part: int | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> Engine:
        """Read the options that `--runner` has beside it.

        `--workers` alone means processes here. Where something says that this process does part k of n (`told_part`),
        its processes share that part; in an empty `environment` nothing does, as where all parts make one result.

        Raises
        ------
        typer.BadParameter
            If they do not say which parts there are.
        """
        asked = slurm_options(slurm or [])
        if runner is None and (workers or 1) > 1:
            runner = "local"
        if runner is None:
            k, n = part_of(part, parts, environment)
            return cls(runner=None, parts=[k], n=n)
        if runner == "local":
            k, shares = told_part(part, parts, environment) or (0, 1)
            inner = parts if parts is not None and shares == 1 else None
            count = workers or min(gpus_here() or whole_cores(), -(-(inner or 10**9) // PARTS_A_WORKER))
            inner = inner or PARTS_A_WORKER * count
            mine = [k + shares * j for j in range(inner)]
            return cls(runner=runner, parts=mine, n=shares * inner, workers=count)
        if parts is None:
            raise typer.BadParameter(
                f"--runner {runner} needs to know how many parts: about four times as many as work at once",
                param_hint="--parts",
            )
        return cls(
            runner=runner,
            parts=range(parts),
            n=parts,
            slurm=asked,
            ray_address=ray_address or "auto",
            num_gpus=num_gpus,
            gpus_wanted=gpus_wanted,
        )

    def run(
        self,
        job: Job,
        progress: Progress,
        *,
        name: str,
        busy: MutableMapping[int, float] | None = None,
        size_of: Callable[[int, int], int] | None = None,
    ) -> list[Outcome]:
        """Have the parts done, and wait for all of them.

        Parameters
        ----------
        job : Job
        progress : callable (stage, done, total)
            What a part tells, summed, where the engine passes that on; else `parts` that are done.
        name : str
            What a queue shows.
        busy : mapping, optional
            Filled with the share of the time in which each worker's model computed.
        size_of : callable (k, n), optional
            How much of the whole part k of n is; by default all are alike.

        Raises
        ------
        WorkerError
            If parts could not be done. Of a part that this very process does: what it raises.
        """
        if self.runner == "local":
            sizes = None if size_of is None else {k: size_of(k, self.n) for k in self.parts}
            return run_here(job, self.parts, self.n, workers=self.workers, progress=progress, busy=busy, sizes=sizes)
        if self.runner == "slurm":
            return self.submit(job, name=name).wait(progress)
        if self.runner == "ray":
            return run_on_ray(
                job,
                self.n,
                address=self.ray_address,
                num_gpus=self.num_gpus,
                gpus_wanted=self.gpus_wanted,
                progress=progress,
            )
        shares: MutableMapping[int, float] = {} if busy is None else busy

        def told(stage: str, done: int, total: int, share: float) -> None:
            shares[0] = share
            progress(stage, done, total)

        return [Outcome(part=k, worker="0", value=job.run_part(k, self.n, told)) for k in self.parts]

    def submit(self, job: Job, *, name: str) -> Submitted:
        """Submit the parts to Slurm, and do not wait for them."""
        return submit_to_slurm(job, self.n, options=self.slurm, name=name)


def gpus_here() -> int:
    """GPUs of this machine that torch would take; it is only asked where there is a driver for some."""
    if not Path("/proc/driver/nvidia/gpus").exists() and not os.environ.get("CUDA_VISIBLE_DEVICES"):
        return 0
    import torch

    return torch.cuda.device_count()
