"""Who does the parts of a job: processes on this machine, a Slurm cluster, a Ray cluster.

A `Job` is one function, `run_part(k, n)`, with everything that it takes; an `Engine` has its parts done. `run_here`,
`submit_to_slurm` and `run_on_ray` are three ways to call that function; each begins a part again whose worker was lost,
and none an error of the job's own.
"""

from __future__ import annotations

from .engine import Engine, gpus_here
from .fits import fitted
from .job import Job, Outcome, PartProgress, WorkerError
from .slurm_array import tell_submitted

__all__ = ["Engine", "Job", "Outcome", "PartProgress", "WorkerError", "fitted", "gpus_here", "tell_submitted"]
