"""Fits of a comparison or a sweep as a job: each process opens the rows itself, and sends back what its fits gave."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import typer

from ..console import Progress, hushed
from ..options import RunnerName
from .engine import Engine
from .job import PartProgress, WorkerError

if TYPE_CHECKING:
    from ...fusion import Rows


class Planned(Protocol):
    """A comparison or a sweep before its fits (`cer_fusion.fusion.judging.fits.Fits`)."""

    @property
    def train(self) -> Rows:
        """Rows that are learned from."""

    @property
    def test(self) -> Rows:
        """Rows that are judged."""

    def __len__(self) -> int:
        """Return how many fits there are."""

    def do(self, i: int, step: Any) -> Any:
        """Return what fit i gives."""

    def run(self, *, progress: Any) -> Any:
        """Do all fits here, and return what they make."""

    def report(self, found: Sequence[Any]) -> Any:
        """Return what they make, of what each gave."""


class Plan(Protocol):
    """What a command was asked for, from which any process makes the same fits; it can be sent to one."""

    def planned(self, pieces: int) -> Planned:
        """Open the store and plan; `pieces` fits, if there can be so many."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FitsJob:
    """Every n-th fit is a part."""

    plan: Plan
    """From which each process makes the fits anew."""
    pieces: int
    """How many fits the plan is to make, if it can."""
    digest: str
    """Of the rows that the fits are about."""
    _opened: list[Planned] = field(default_factory=list)
    """The fits of this process, once it has planned them; not sent."""

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to another process."""
        return {**self.__dict__, "_opened": []}

    def run_part(self, k: int, n: int, progress: PartProgress) -> dict[int, Any]:
        """Do fits k, k + n, k + 2 n, …; what they gave, by their number."""
        if not self._opened:
            key = (self.digest, repr(self.plan), self.pieces)
            if key not in _OPENED:
                with hushed():
                    planned = self.plan.planned(self.pieces)
                if digest_of(planned) != self.digest:
                    raise WorkerError("the store holds other rows than when this was started: start it again")
                _OPENED.clear()
                _OPENED[key] = planned
            self._opened.append(_OPENED[key])
        mine = range(k, len(self._opened[0]), n)
        found: dict[int, Any] = {}
        progress("fits", 0, len(mine), 0.0)
        for i in mine:
            found[i] = self._opened[0].do(i, _no_step)
            progress("fits", len(found), len(mine), 0.0)
        return found


_OPENED: dict[tuple[str, str, int], Planned] = {}
"""Of the job that this process did a part of last."""


def _no_step() -> None:
    """Count for nobody."""


def digest_of(planned: Planned) -> str:
    """sha256 of which rows the fits are about: samples, labels, groups, features, and what is known besides."""
    state = hashlib.sha256(str(len(planned)).encode())
    for rows in (planned.train, planned.test):
        state.update(repr((rows.names, rows.groups, rows.classes, sorted((rows.fingerprints or {}).items()))).encode())
        state.update(rows.y.tobytes())
        state.update(b"" if rows.soft is None else rows.soft.tobytes())
        if rows.targets is not None:
            state.update(repr((rows.units, *rows.targets)).encode())
            state.update(b"".join(known.tobytes() for known in rows.targets.values()))
        state.update(b"" if rows.time_s is None else b"time" + rows.time_s.tobytes())
    return state.hexdigest()


def fitted(
    plan: Plan,
    *,
    runner: RunnerName | None,
    parts: int | None,
    workers: int | None,
    slurm: Sequence[str] | None,
    ray_address: str | None,
    num_gpus: float | None,
    progress: Progress,
    name: str,
) -> Any:
    """Have all fits of a plan done, by `--runner` and the options beside it or one after the other here.

    Returns
    -------
    Report or Sweep
        What they make.
    """
    if runner is None and (workers or 1) == 1:
        if parts is not None:
            raise typer.BadParameter("is for fits that --runner has done elsewhere", param_hint="--parts")
        return plan.planned(1).run(progress=lambda done, total, what="": progress("fits", done, total, what))
    if runner in ("slurm", "ray") and parts is None:
        raise typer.BadParameter(
            f"--runner {runner} needs to know how many parts: at most as many as there are fits", param_hint="--parts"
        )
    engine = Engine.of_options(
        runner,
        parts=parts,
        workers=workers,
        slurm=slurm,
        ray_address=ray_address,
        num_gpus=num_gpus,
        gpus_wanted=False,
        environment={},
    )
    planned = plan.planned(engine.n)
    job = FitsJob(plan=plan, pieces=engine.n, digest=digest_of(planned))
    found: dict[int, Any] = {}
    for outcome in engine.run(job, progress, name=name):
        found |= outcome.value
    return planned.report([found[i] for i in range(len(planned))])
