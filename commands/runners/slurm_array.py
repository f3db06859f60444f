"""Parts as the tasks of a Slurm array, by submitit: part k is array index k."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from ..console import Progress, escape, say
from ..parts import array_text
from .job import RETRIES, AtHome, Job, Outcome, WorkerError

FOLDER = Path("runs") / "slurm"
"""Where submitit keeps what it sends, what comes back, and the logs; on a file system that all nodes share."""
TIMEOUTS = 10
"""How often a part that ran out of time goes on with a new limit, unless `max_num_timeout` says otherwise."""
_POLL_S, _GRACE_S = 2.0, 20.0
"""How often Slurm is asked, and how long a result may take to be seen here once its task has ended."""
_OVER = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "TIMEOUT",
}
"""States of tasks that Slurm has done with."""


def slurm_options(entries: Sequence[str]) -> dict[str, Any]:
    """`--slurm partition=gpu,time=240,array_parallelism=16` as submitit takes it; values may hold commas.

    Names are those of submitit's `SlurmExecutor`, `folder` and `max_num_timeout` included; any other goes to sbatch as
    it is (`nice=100`, `reservation=mine`).

    Raises
    ------
    typer.BadParameter
        If an entry is no `key=value`.
    """
    found: dict[str, Any] = {}
    for entry in entries:
        for pair in re.split(r",(?=[A-Za-z][\w-]*=)", entry):
            key, equals, text = pair.partition("=")
            if not equals or not key.strip():
                raise typer.BadParameter(f"expected key=value,key=value, however: {entry!r}", param_hint="--slurm")
            found[key.strip().replace("-", "_")] = _value(text.strip())
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What a task of the array does; told to stop in time, submitit queues it again as it is."""

    home: AtHome
    """The job, and where its paths start from."""
    k: int
    """Which part; the index in the array."""
    n: int
    """Parts that the whole job has."""

    def __call__(self) -> Outcome:
        """Do the part; its own fault ends the task as failed, so that Slurm knows it too."""
        outcome = self.home.attempt(self.k, self.n)
        if outcome.fault:
            raise WorkerError(f"{outcome.fault}\n[exit status {outcome.exit_code}]", outcome.exit_code)
        return outcome

    def checkpoint(self) -> Any:
        """What is to be done after a requeue: the same, which goes on where the rows end."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class Submitted:
    """An array that was submitted, and the way to submit some of its parts again."""

    executor: Any
    """submitit's."""
    home: AtHome
    """The job, and where its paths start from."""
    n: int
    """Parts that the whole job has."""
    folder: Path
    """Of submitit's files and logs."""
    jobs: list[Any]
    """submitit's jobs, by part."""

    @property
    def job_id(self) -> str:
        """The array's."""
        return str(self.jobs[0].job_id).partition("_")[0]

    def how_to_look(self) -> list[str]:
        """Command lines for its user."""
        return [f"squeue --array --jobs {self.job_id}", f"tail {self.jobs[0].paths.stdout}", f"scancel {self.job_id}"]

    def wait(self, progress: Progress) -> list[Outcome]:
        """Wait until all parts are done; one whose process was killed is submitted again `RETRIES` times.

        Parameters
        ----------
        progress : callable (stage, done, total)

        Raises
        ------
        WorkerError
            If parts failed, were cancelled or lost too often: when all others are done.
        KeyboardInterrupt
            As it comes; the array goes on.
        """
        jobs, tries = dict(enumerate(self.jobs)), dict.fromkeys(range(self.n), 0)
        found: dict[int, Outcome] = {}
        faults: dict[int, tuple[str, int]] = {}
        unseen_since: dict[int, float] = {}
        try:
            while True:
                left = [k for k in jobs if k not in found and k not in faults]
                states = _states(sorted({str(jobs[k].job_id).partition("_")[0] for k in left}))
                lost = []
                for k in left:
                    state = states.get(str(jobs[k].job_id), "") if states is not None else "?"
                    if jobs[k].paths.result_pickle.exists():
                        _collect(jobs[k], k, found, faults)
                    elif state and state not in _OVER:
                        unseen_since.pop(k, None)
                    elif time.monotonic() - unseen_since.setdefault(k, time.monotonic()) > _GRACE_S:
                        if tries[k] < RETRIES and state != "CANCELLED":
                            lost.append((k, state))
                        else:
                            faults[k] = (f"its task ended without a result ({state or 'unknown to Slurm'})", 1)
                for k, state in lost:
                    tries[k] += 1
                    unseen_since.pop(k)
                    say(f"[yellow]part {k} of {self.n} was lost[/] ({state or 'unknown to Slurm'}): submitted again")
                jobs.update(zip([k for k, _ in lost], self._submit([k for k, _ in lost]), strict=True))
                progress("parts", len(found) + len(faults), self.n)
                if len(found) + len(faults) == self.n:
                    break
                time.sleep(_POLL_S)
        except KeyboardInterrupt:
            say(f"array [bold]{self.job_id}[/] goes on: {'; '.join(map(escape, self.how_to_look()))}")
            raise
        if faults:
            k, (text, code) = min(faults.items())
            raise WorkerError(
                f"{len(faults)} of {self.n} parts failed ({array_text(faults)}). Part {k}: {text}\n"
                f"  its log: {jobs[k].paths.stdout}, and {jobs[k].paths.stderr.name} beside it\n"
                "  what is finished is kept, and the same command goes on",
                code,
            )
        return [found[k] for k in range(self.n)]

    def _submit(self, parts: Sequence[int]) -> list[Any]:
        """Submit parts as one array; submitit's jobs."""
        with self.executor.batch() if parts else contextlib.nullcontext():
            return [self.executor.submit(Part(home=self.home, k=k, n=self.n)) for k in parts]


def _collect(job: Any, k: int, found: dict[int, Outcome], faults: dict[int, tuple[str, int]]) -> None:
    import submitit

    try:
        found[k] = job.result()
    except (submitit.core.utils.FailedJobError, submitit.core.utils.UncompletedJobError) as error:
        faults[k] = _told_in(str(error))


def _told_in(trace: str) -> tuple[str, int]:
    """What the part said, and its exit status, out of submitit's text of a traceback."""
    match = re.search(r"WorkerError: (.*)\n\[exit status (\d+)\]", trace, flags=re.DOTALL)
    return (match[1], int(match[2])) if match else (trace.strip().splitlines()[-1] if trace.strip() else "no word", 1)


def _states(job_ids: Sequence[str]) -> dict[str, str] | None:
    """The state of each task, `123_4`, of some arrays, as far as Slurm remembers; None if it cannot be asked just now.

    `squeue` knows tasks on every cluster, for minutes after their end; `sacct`, which submitit asks, only where
    accounting is set up.
    """
    command = ["squeue", "--noheader", "--array", "--states", "all", "--jobs", ",".join(job_ids), "--format", "%i %T"]
    try:
        asked = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if asked.returncode:
        return {} if "Invalid job id" in asked.stderr else None
    return dict(line.split(maxsplit=1) for line in asked.stdout.splitlines() if " " in line.strip())


def submit_to_slurm(job: Job, n: int, *, options: Mapping[str, Any], name: str) -> Submitted:
    """Submit all parts of a job as one array; preempted, timed-out and lost tasks are queued again.

    Parameters
    ----------
    job : Job
    n : int
        Parts.
    options : mapping
        As `slurm_options` gives it.
    name : str
        What the queue shows.

    Raises
    ------
    WorkerError
        If submitit is not installed, there is no Slurm here, or it refuses the array.
    """
    try:
        import submitit
    except ImportError:
        raise WorkerError("--runner slurm needs submitit: pip install 'cer-fusion[slurm]'") from None
    given = dict(options)
    folder = Path(str(given.pop("folder", FOLDER))).absolute()
    timeouts = given.pop("max_num_timeout", TIMEOUTS)
    known = submitit.SlurmExecutor._valid_parameters()
    other = {key: given.pop(key) for key in list(given) if key not in known}
    extra = {"requeue": True, **other, **given.pop("additional_parameters", {})}
    logging.getLogger("submitit").setLevel(logging.WARNING)
    try:
        executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=timeouts)
        executor.update_parameters(**{"job_name": name, **given, "additional_parameters": extra})
        made = Submitted(executor=executor, home=AtHome(job=job, folder=Path.cwd()), n=n, folder=folder, jobs=[])
        made.jobs.extend(made._submit(range(n)))
    except submitit.core.utils.FailedJobError as error:
        raise WorkerError(f"Slurm refused the array: {_first_of(str(error))}") from None
    except (RuntimeError, ValueError, TypeError) as error:
        raise WorkerError(f"the array could not be submitted: {error}") from None
    return made


def _first_of(text: str) -> str:
    """What sbatch said, out of what submitit says of it."""
    said = [line.strip() for line in text.splitlines() if "sbatch: error" in line]
    return " ".join(said) or text


def tell_submitted(submitted: Submitted) -> None:
    """Say what was submitted, and how to look."""
    span = f"0-{submitted.n - 1}" if submitted.n > 1 else "0"
    say(f"submitted array [bold]{submitted.job_id}[/]: parts {span}, logs in {escape(submitted.folder)}")
    for line in submitted.how_to_look():
        say(f"  {escape(line)}")
