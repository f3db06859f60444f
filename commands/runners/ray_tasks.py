"""Parts as tasks of a Ray cluster. Tasks, not actors: a part whose worker or node is lost is begun again elsewhere."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from ..console import Progress, say
from .job import AtHome, Job, Outcome, WorkerError

MOST_RETRIES = 5
"""How often a part is begun again; more than on one machine, as nodes come and go."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no usage statistics leave the cluster
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # under `uv run` Ray would upload the working directory
}


def run_on_ray(
    job: Job, n: int, *, address: str, num_gpus: float | None, gpus_wanted: bool, progress: Progress
) -> list[Outcome]:
    """Do all parts of a job as tasks of a cluster that is there, and wait for them.

    Nothing is uploaded: the machines have this package installed, and share the folder in which the command was
    started. What a task loads, for example an encoder, is kept by its worker process for the next.

    Parameters
    ----------
    job : Job
    n : int
        Parts.
    address : str
        `auto` for the cluster that this machine is in (`RAY_ADDRESS` or the one that runs here), or HOST:PORT.
    num_gpus : float or None
        GPUs that a task takes; None for one where the cluster has any and `gpus_wanted`.
    gpus_wanted : bool
    progress : callable (stage, done, total)

    Raises
    ------
    WorkerError
        If ray is not installed, there is no cluster, or a part failed: of itself, which ends the others, or as its
        workers were lost more than `MOST_RETRIES` times.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise WorkerError("--runner ray needs ray: pip install 'cer-fusion[ray]'") from None
    try:
        ray.init(address=address, runtime_env={}, log_to_driver=True, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise WorkerError(
            f"no Ray cluster at {address!r}: {(str(error) or repr(error)).splitlines()[0]}\n"
            "  start one with ray start --head, name it with --ray-address HOST:PORT, or use --runner local"
        ) from None
    try:
        gpus = _gpus(ray, num_gpus, gpus_wanted)
        # A task with a GPU would otherwise have a process, and so an encoder, of its own (max_calls=1).
        attempt = ray.remote(max_retries=MOST_RETRIES, num_gpus=gpus, max_calls=0)(_attempted)
        home = ray.put(AtHome(job=job, folder=Path.cwd()))
        return _collected(ray, {attempt.remote(home, k, n): k for k in range(n)}, n, progress)
    finally:
        ray.shutdown()


def _attempted(home: AtHome, k: int, n: int) -> Outcome:
    return home.attempt(k, n)


def _collected(ray: Any, waiting: dict[Any, int], n: int, progress: Progress) -> list[Outcome]:
    """Wait for all tasks; those that are left are cancelled when one has failed, or this process is interrupted."""
    found: dict[int, Outcome] = {}
    lost: dict[int, str] = {}
    progress("parts", 0, n)
    try:
        while waiting:
            for ready in ray.wait(list(waiting), num_returns=1)[0]:
                k = waiting.pop(ready)
                try:
                    found[k] = ray.get(ready).checked(n)
                except ray.exceptions.RayError as error:  # of Ray's own: the part's faults are values
                    lost[k] = _word_of(error)
                progress("parts", len(found) + len(lost), n)
    finally:
        for left in waiting:
            ray.cancel(left)
    if lost:
        told = "; ".join(f"part {k}: {why}" for k, why in sorted(lost.items()))
        raise WorkerError(
            f"{len(lost)} of {n} parts could not be done, since their workers were lost more than {MOST_RETRIES} times "
            f"({told})\n  what is finished is kept, and the same command goes on"
        )
    return [found[k] for k in range(n)]


def _word_of(error: Exception) -> str:
    """Ray's reason in a line: the last one of a traceback, the first one of anything else."""
    lines = str(error).strip().splitlines() or ["no word"]
    return f"{type(error).__name__}: {lines[-1 if 'Traceback' in str(error) or 'ray::' in lines[0] else 0]}"


def _gpus(ray: Any, num_gpus: float | None, wanted: bool) -> float:
    """GPUs a task: as asked, or one where there are any; refuses more than any node has, for which Ray would wait."""
    most = max((node["Resources"].get("GPU", 0.0) for node in ray.nodes() if node["Alive"]), default=0.0)
    if num_gpus is None:
        num_gpus = 1.0 if most and wanted else 0.0
        say(f"ray: {len([1 for node in ray.nodes() if node['Alive']])} nodes, {num_gpus:g} GPU a task (--num-gpus)")
    if num_gpus > most:
        raise WorkerError(f"a task is to have {num_gpus:g} GPUs, and no node of the Ray cluster has more than {most:g}")
    return num_gpus
