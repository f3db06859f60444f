"""A job in parts: one function, `run_part(k, n)`, that every engine calls in its own way, and what comes back of it."""

from __future__ import annotations

import contextlib
import os
import platform
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import typer

from ...kit import machine
from ..console import FAILED, fault_of, log_to_stderr, logs_shown, show_logs

RETRIES = 2
"""How often a part is begun again whose worker was lost."""

PartProgress = Callable[[str, int, int, float], None]
"""Told stage, done and total of a part, and the share of the time, 0 to 1, in which its model computed."""


class Job(Protocol):
    """What is to be done, whole, with everything that it takes: it is sent to other processes and machines.

    A part can be done again, and by two at once, without harm; it does what it finds undone.
    """

    def run_part(self, k: int, n: int, progress: PartProgress) -> Any:
        """Do part k of n, in whatever process this is."""


class WorkerError(Exception):
    """A part could not be done; the message says why, and what to do."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a part. A fault of the job's own is a value too: engines try again only what was lost."""

    part: int
    """Its number, from 0."""
    worker: str
    """Which process did it: parts of one process were done one after the other."""
    value: Any = None
    """What `run_part` gave."""
    fault: str = ""
    """What went wrong, in words; empty if nothing did."""
    exit_code: int = 0
    """That a command ends with which failed so; 0 if nothing did."""

    def checked(self, n: int) -> Outcome:
        """This outcome, if it is none of a fault; else raises WorkerError with it."""
        if self.fault:
            raise WorkerError(f"part {self.part} of {n} failed: {self.fault}", self.exit_code)
        return self


def attempted(job: Job, k: int, n: int, worker: str, progress: PartProgress | None = None) -> Outcome:
    """Do a part; what goes wrong is told, our own errors in words and all others with their traceback."""
    try:
        return Outcome(part=k, worker=worker, value=job.run_part(k, n, progress or _quiet))
    except typer.BadParameter as error:
        return Outcome(part=k, worker=worker, fault=error.format_message(), exit_code=error.exit_code)
    except Exception as error:  # the boundary of a process, or of a machine
        told = fault_of(error) or (f"{error!r}\n{traceback.format_exc()}", FAILED)
        return Outcome(part=k, worker=worker, fault=told[0], exit_code=told[1])


@dataclass(frozen=True, kw_only=True)
class AtHome:
    """A job as it is sent to another machine: with the folder that its paths start from, and who it is."""

    job: Job
    """What is sent."""
    folder: Path
    """Where the command was started, which is to be on a file system that all share."""
    logs: bool = field(default_factory=logs_shown)
    """Whether notes of the packages are let through, as here."""

    def attempt(self, k: int, n: int) -> Outcome:
        """Do a part in a process of an engine's, which knows nothing of us yet."""
        machine.choose()
        log_to_stderr()
        if self.logs:
            show_logs()
        worker = f"{platform.node()}:{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            if Path.cwd() == self.folder:
                return attempted(self.job, k, n, worker)
        try:
            os.chdir(self.folder)
        except OSError as error:
            fault = (
                f"{self.folder}, where the command was started, cannot be entered on {platform.node()}: "
                f"{error.strerror}\n  start it from a folder on a file system that all machines share"
            )
            return Outcome(part=k, worker=worker, fault=fault, exit_code=FAILED)
        return attempted(self.job, k, n, worker)


def _quiet(stage: str, done: int, total: int, busy: float) -> None:
    """Progress for nobody."""
