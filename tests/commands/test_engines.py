"""Slurm and Ray as engines, with stand-ins for submitit and ray that are always there; the real ones: test_clusters."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pickle
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from cer_fusion.commands.runners import Engine, WorkerError, slurm_array
from cer_fusion.commands.runners.ray_tasks import run_on_ray
from cer_fusion.commands.runners.slurm_array import Part, slurm_options, submit_to_slurm
from tests.commands.jobs import Toy


def quiet(stage: str, done: int, total: int) -> None:
    """Progress for nobody."""


class FakeJob:
    """A task of an array: it runs when it is asked whether it has ended, and comes back as a file, as submitit's."""

    def __init__(self, job_id: str, part: Part, cluster: FakeSubmitit) -> None:
        self.job_id, self.part, self.cluster = job_id, pickle.loads(pickle.dumps(part)), cluster
        place = cluster.folder / f"{job_id}_0_result.pkl"
        self.paths = SimpleNamespace(
            result_pickle=place, stdout=place.with_suffix(".out"), stderr=place.with_suffix(".err")
        )

    @functools.cached_property
    def state(self) -> str:
        if self.part.k in self.cluster.killed:
            self.cluster.killed.remove(self.part.k)
            return "FAILED"
        if self.part.k in self.cluster.cancelled:
            return "CANCELLED"
        try:
            found = ("success", self.part())
        except Exception:  # a boundary, as submitit's: whatever a task raises is its result
            found = ("error", traceback.format_exc())
        self.paths.result_pickle.write_bytes(pickle.dumps(found))
        return "COMPLETED"

    def result(self):
        kind, value = pickle.loads(self.paths.result_pickle.read_bytes())
        if kind == "error":
            raise self.cluster.core.utils.FailedJobError(value)
        return value


class FakeSubmitit:
    """What of submitit is used: an executor whose array is done one task a look at the queue."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.killed, self.cancelled = folder, [], []
        self.arrays: list[list[FakeJob]] = []
        self.given: dict[str, object] = {}
        errors = {name: type(name, (Exception,), {}) for name in ("FailedJobError", "UncompletedJobError")}
        self.core = SimpleNamespace(utils=SimpleNamespace(**errors))
        fake = self

        class SlurmExecutor:
            def __init__(self, folder, max_num_timeout):
                fake.given |= {"folder": folder, "max_num_timeout": max_num_timeout}

            @staticmethod
            def _valid_parameters():
                return {"time", "partition", "job_name", "array_parallelism", "additional_parameters", "setup"}

            def update_parameters(self, **given):
                fake.given |= given

            def batch(self):
                fake.arrays.append([])
                return contextlib.nullcontext()

            def submit(self, part):
                array = fake.arrays[-1]
                array.append(FakeJob(f"{len(fake.arrays)}_{len(array)}", part, fake))
                return array[-1]

        self.SlurmExecutor = SlurmExecutor

    def states(self, job_ids):
        jobs = {job.job_id: job for array in self.arrays for job in array if job.job_id.split("_")[0] in job_ids}
        return {name: job.state for name, job in jobs.items()}


@pytest.fixture
def submitit(tmp_path, monkeypatch):
    fake = FakeSubmitit(tmp_path)
    monkeypatch.setitem(sys.modules, "submitit", fake)
    monkeypatch.setattr(slurm_array, "_states", fake.states)
    monkeypatch.setattr(slurm_array, "_POLL_S", 0.0)
    monkeypatch.setattr(slurm_array, "_GRACE_S", 0.0)
    return fake


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], {}),
        (["partition=gpu,time=240,array_parallelism=16"], {"partition": "gpu", "time": 240, "array_parallelism": 16}),
        (["nodelist=n1,n2,time=4", "mail-user=a@b"], {"nodelist": "n1,n2", "time": 4, "mail_user": "a@b"}),
        (["exclusive=true"], {"exclusive": True}),
    ],
)
def test_what_slurm_is_asked_for_is_read_with_commas_in_values(entries, expected):
    assert slurm_options(entries) == expected


@pytest.mark.parametrize("entry", ["gpu", "=3", "time=4,,"])
def test_what_is_no_pair_is_refused(entry):
    if entry == "time=4,,":
        assert slurm_options([entry]) == {"time": "4,,"}
        return
    with pytest.raises(typer.BadParameter, match="expected key=value"):
        slurm_options([entry])


def test_part_k_is_array_index_k_and_what_submitit_does_not_know_goes_to_sbatch(submitit, tmp_path, capsys):
    job = Toy(folder=tmp_path)
    options = slurm_options([f"partition=gpu,time=240,nice=5,folder={tmp_path}"])
    submitted = submit_to_slurm(job, 3, options=options, name="toy")
    assert [one.part.k for one in submitit.arrays[0]] == [0, 1, 2]
    assert submitit.given["additional_parameters"] == {"requeue": True, "nice": 5}
    assert (submitit.given["partition"], submitit.given["time"], submitit.given["job_name"]) == ("gpu", 240, "toy")
    steps = []
    outcomes = submitted.wait(lambda *step: steps.append(step))
    assert [one.value[:2] for one in outcomes] == [[0, 3], [1, 3], [2, 3]]
    assert steps[-1] == ("parts", 3, 3)


def test_a_task_that_was_killed_is_submitted_again_and_one_that_was_cancelled_is_not(submitit, tmp_path, capsys):
    job = Toy(folder=tmp_path)
    submitit.killed = [1, 1]
    found = submit_to_slurm(job, 3, options={}, name="toy").wait(quiet)
    assert [one.part for one in found] == [0, 1, 2]
    assert [[one.part.k for one in array] for array in submitit.arrays] == [[0, 1, 2], [1], [1]]
    assert capsys.readouterr().err.count("part 1 of 3 was lost (FAILED): submitted again") == 2
    submitit.cancelled = [2]
    with pytest.raises(WorkerError, match=r"1 of 3 parts failed \(2\).*ended without a result \(CANCELLED\)"):
        submit_to_slurm(job, 3, options={}, name="toy").wait(quiet)
    submitit.cancelled, submitit.killed = [], [0, 0, 0]
    with pytest.raises(WorkerError, match=r"1 of 3 parts failed \(0\).*\(FAILED\)"):
        submit_to_slurm(job, 3, options={}, name="toy").wait(quiet)


def test_an_error_of_the_jobs_own_is_told_in_its_words_when_all_others_are_done(submitit, tmp_path):
    job = Toy(folder=tmp_path, fails=(0, 2))
    with pytest.raises(WorkerError, match=r"2 of 4 parts failed \(0,2\). Part 0: part 0 cannot be done\n  its log"):
        submit_to_slurm(job, 4, options={}, name="toy").wait(quiet)
    assert [job.tries(k) for k in range(4)] == [1, 1, 1, 1]


def test_without_wait_the_command_says_what_was_submitted_and_how_to_look(submitit, run, faces, tmp_path):
    command = "cer-feat extract -b timm:test_vit -w random -d faces.csv --runner slurm --parts 4"
    result = run(f"{command} --slurm time=30 --json")
    assert json.loads(result.stdout)["parts"] == 4
    for line in ("submitted array 1: parts 0-3", "squeue --array --jobs 1", "scancel 1",
                 "cer-feat parts --store features --data faces --parts 4"):  # fmt: skip
        assert line in result.stderr
    assert [one.paths.result_pickle.exists() for one in submitit.arrays[0]] == [False] * 4
    assert run("cer-feat parts --parts 4 --shard-rows 12").stdout == "0-3\n"


@pytest.mark.parametrize("runner", ["slurm", "ray"])
def test_a_runner_elsewhere_needs_to_know_how_many_parts(runner, run, faces):
    said = run(f"cer-feat extract -b timm:test_vit -w random -d faces.csv --runner {runner}", code=2).stderr
    assert "about four times as many as work at once" in " ".join(said.replace("│", " ").split())


@pytest.mark.parametrize(("runner", "library"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_library_that_is_missing_is_named_with_the_extra_that_brings_it(runner, library, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    engine = Engine(runner=runner, parts=range(2), n=2)
    with pytest.raises(WorkerError, match=rf"needs {library}: pip install 'cer-fusion\[{runner}\]'"):
        engine.run(Toy(folder=tmp_path), quiet, name="toy")


class FakeRay:
    """What of ray is used, each task done when it is waited for."""

    class exceptions:
        class RayError(Exception):
            pass

    def __init__(self, *, gpus: float = 0.0, cluster: bool = True) -> None:
        self.gpus, self.cluster, self.killed = gpus, cluster, []
        self.asked: dict[str, object] = {}
        self.cancelled: list[object] = []
        self.down = False

    def init(self, **settings):
        self.asked |= settings
        if not self.cluster:
            raise ConnectionError("Could not find any running Ray instance.\nmore")

    def shutdown(self):
        self.down = True

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 4.0, "GPU": self.gpus} if self.gpus else {"CPU": 4.0}}]

    def put(self, value):
        return pickle.dumps(value)

    def remote(self, **settings):
        self.asked |= settings
        return lambda function: SimpleNamespace(remote=lambda home, k, n: (function, home, k, n))

    def wait(self, tasks, num_returns):
        return tasks[-1:], tasks[:-1]

    def get(self, task):
        function, home, k, n = task
        if k in self.killed:
            raise self.exceptions.RayError(f"worker of part {k} died\nunexpectedly")
        return function(pickle.loads(home), k, n)

    def cancel(self, task):
        self.cancelled.append(task[2])


def on_ray(monkeypatch, fake: FakeRay, job: Toy, n: int, **more):
    monkeypatch.setitem(sys.modules, "ray", fake)
    return run_on_ray(job, n, **{"address": "auto", "num_gpus": None, "gpus_wanted": True, "progress": quiet, **more})


def test_tasks_of_ray_are_retried_by_it_keep_their_process_and_upload_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    fake = FakeRay()
    found = on_ray(monkeypatch, fake, Toy(folder=tmp_path), 3, address="10.0.0.1:6379")
    assert [one.value[:2] for one in found] == [[0, 3], [1, 3], [2, 3]]
    assert (fake.asked["address"], fake.asked["runtime_env"]) == ("10.0.0.1:6379", {})
    assert (fake.asked["max_retries"], fake.asked["max_calls"], fake.asked["num_gpus"]) == (5, 0, 0.0)
    assert fake.down
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] == "0"


@pytest.mark.parametrize(("asked", "wanted", "expected"), [(None, True, 1.0), (None, False, 0.0), (0.5, True, 0.5)])
def test_a_task_takes_a_gpu_where_there_are_any_or_as_many_as_asked(asked, wanted, expected, tmp_path, monkeypatch):
    fake = FakeRay(gpus=2.0)
    on_ray(monkeypatch, fake, Toy(folder=tmp_path), 1, num_gpus=asked, gpus_wanted=wanted)
    assert fake.asked["num_gpus"] == expected


def test_what_ray_would_wait_for_for_ever_is_refused(tmp_path, monkeypatch):
    with pytest.raises(WorkerError, match="to have 1 GPUs, and no node of the Ray cluster has more than 0"):
        on_ray(monkeypatch, FakeRay(), Toy(folder=tmp_path), 1, num_gpus=1.0)
    with pytest.raises(WorkerError, match="no Ray cluster at 'auto': Could not find any running Ray instance"):
        on_ray(monkeypatch, FakeRay(cluster=False), Toy(folder=tmp_path), 1)


def test_a_fault_of_the_jobs_own_cancels_the_other_tasks_and_a_lost_part_does_not(tmp_path, monkeypatch):
    fake = FakeRay()
    with pytest.raises(WorkerError, match="part 2 of 4 failed: part 2 cannot be done"):
        on_ray(monkeypatch, fake, Toy(folder=tmp_path, fails=(2,)), 4)
    assert fake.cancelled == [0, 1]
    fake = FakeRay()
    fake.killed = [3]
    job = Toy(folder=tmp_path / "lost")
    job.folder.mkdir()
    with pytest.raises(WorkerError, match=r"1 of 4 parts could not be done.*part 3: RayError: worker of part 3 died"):
        on_ray(monkeypatch, fake, job, 4)
    assert [job.tries(k) for k in range(4)] == [1, 1, 1, 0]


def test_a_machine_that_does_not_share_the_folder_says_so(tmp_path):
    from cer_fusion.commands.runners.job import AtHome

    outcome = AtHome(job=Toy(folder=tmp_path), folder=tmp_path / "elsewhere").attempt(0, 1)
    assert "cannot be entered" in outcome.fault
    assert "that all machines share" in outcome.fault


OPTIONS = {
    "workers": None,
    "slurm": None,
    "ray_address": None,
    "num_gpus": None,
    "gpus_wanted": True,
    "environment": {},
}


def test_processes_here_are_a_quarter_of_the_parts_and_share_the_part_that_this_process_has(monkeypatch):
    monkeypatch.setattr("cer_fusion.commands.runners.engine.whole_cores", lambda: 16)
    engine = Engine.of_options("local", parts=8, **OPTIONS)
    assert (engine.workers, list(engine.parts), engine.n) == (2, list(range(8)), 8)
    engine = Engine.of_options("local", parts=None, **OPTIONS)
    assert (engine.workers, engine.n) == (16, 64)
    engine = Engine.of_options("local", parts=None, gpus_here=lambda: 3, **OPTIONS)
    assert (engine.workers, engine.n) == (3, 12)
    engine = Engine.of_options(None, parts=None, **{**OPTIONS, "workers": 2})
    assert (engine.runner, engine.workers, engine.n) == ("local", 2, 8)
    engine = Engine.of_options("local", part=1, parts=3, **{**OPTIONS, "workers": 2})
    assert (list(engine.parts), engine.n) == ([1, 4, 7, 10, 13, 16, 19, 22], 24)
    task = {"SLURM_ARRAY_TASK_ID": "3"}
    engine = Engine.of_options(None, parts=8, **{**OPTIONS, "workers": 1, "environment": task})
    assert (engine.runner, list(engine.parts), engine.n) == (None, [3], 8)
