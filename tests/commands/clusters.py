"""A Slurm cluster of two nodes and a Ray cluster of three, on one machine, that nothing outside can reach or outlives.

Each lives in namespaces of its own for network and processes: its only interface is the loopback, and all of its
processes end with the first. `isolated` runs one of this module's scenarios in them; its JSON comes back. A scenario
ends itself when its time is up, so that no daemon outlives a test run that was killed. A cluster that does not come up
is a part that is missing here, and its test skips and says what its daemons wrote; all that happens later is a failure.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# The C library passes over IPv4 where all addresses are 127.…: a second one, of those for examples, that no one has.
_ENTER = 'ip link set lo up && ip addr add 192.0.2.1/32 dev lo && exec "$0" -m tests.commands.clusters "$@"'
_NAMESPACES = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]


@functools.cache
def lacking(module: str, *programs: str) -> str:
    """Why a scenario cannot run here; empty if it can."""
    missing = [name for name in ("unshare", "ip", *programs) if shutil.which(name, path=_PATH) is None]
    if importlib.util.find_spec(module) is None:
        missing.append(f"Python's {module}")
    if missing:
        return f"not installed: {', '.join(missing)}"
    try:
        entered = subprocess.run([*_NAMESPACES, "true"], capture_output=True, stdin=subprocess.DEVNULL, timeout=20)
    except subprocess.TimeoutExpired:
        return "namespaces of one's own could not be made within 20 s"
    return "no namespaces of one's own may be made here" if entered.returncode else ""


_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


def isolated(scenario: Callable[[Path], dict[str, Any]], folder: Path, *, timeout_s: float) -> dict[str, Any]:
    """Run a scenario in namespaces of its own; what it returns, as JSON has it. Skips if no cluster comes up."""
    with (
        (folder / "out").open("w") as out,
        (folder / "err").open("w") as err,
        tempfile.TemporaryDirectory(prefix="r") as short,  # the names of Ray's sockets must fit into 107 bytes
    ):
        environment = {**os.environ, "PATH": _PATH, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", _SHORT: short}
        command = [*_NAMESPACES, "sh", "-c", _ENTER, sys.executable, scenario.__name__, str(folder), str(timeout_s)]
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err}
        try:
            done = subprocess.run(command, cwd=ROOT, env=environment, **streams, timeout=timeout_s + 30)
        except subprocess.TimeoutExpired:
            done = None
    said = (folder / "err").read_text(encoding="utf-8", errors="replace")[-6000:]
    assert done is not None, f"{scenario.__name__} did not end within {timeout_s} s\n{said}"
    if done.returncode == _NOT_UP:
        pytest.skip(f"the cluster did not come up here: {' '.join(said.split())[-600:]}")
    assert done.returncode == 0, f"{scenario.__name__} ended with {done.returncode}\n{said}"
    found: dict[str, Any] = json.loads((folder / "out").read_text(encoding="utf-8").splitlines()[-1])
    return found | {"said": said}


_SHORT = "CER_SHORT_FOLDER"
_NOT_UP, _TIME_IS_UP = 77, 124


class NotUp(Exception):
    """A cluster that could not be started on this machine."""


@contextlib.contextmanager
def _coming_up(logs: Path) -> Iterator[None]:
    """Around a cluster's start: what goes wrong is this machine's, and is told with its daemons' last words."""
    try:
        yield
    except Exception as error:  # whatever a daemon or a library says
        words = "".join(path.read_text(errors="replace")[-400:] for path in sorted(logs.glob("*.out")))
        raise NotUp(f"{error}\n{words}") from error


def main(scenario: str, folder: Path, timeout_s: float) -> None:
    """Run a scenario as the first process of its namespace, with which all others end."""

    def time_is_up(*_: object) -> None:
        print(f"{scenario}: {timeout_s} s are over", file=sys.stderr, flush=True)
        os._exit(_TIME_IS_UP)

    signal.signal(signal.SIGALRM, time_is_up)  # the first process of a namespace is not ended by a signal's default
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        print(json.dumps(globals()[scenario](folder)))
    except NotUp as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(_NOT_UP)


_SLURM_CONF = """
ClusterName=two
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdSpoolDir={folder}/slurmd.%n
SlurmdPidFile={folder}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=2
SchedulerParameters=sched_interval=1,sched_min_interval=0
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port=17001 CPUs=1
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port=17002 CPUs=1
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""
_CGROUP_CONF = """
CgroupPlugin=cgroup/v1
CgroupAutomount=no
ConstrainCores=no
ConstrainDevices=no
ConstrainRAMSpace=no
ConstrainSwapSpace=no
"""


@contextlib.contextmanager
def slurm(folder: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """A controller and the nodes n1 and n2; their daemons by name."""
    (folder / "state").mkdir(parents=True)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    (folder / "slurm.conf").write_text(_SLURM_CONF.format(folder=folder))
    (folder / "cgroup.conf").write_text(_CGROUP_CONF)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    munge = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket"]
    munge += [f"--{name}={folder}/munge.{end}" for name, end in
              (("key-file", "key"), ("pid-file", "pid"), ("log-file", "log"), ("seed-file", "seed"))]  # fmt: skip
    commands = {"munged": munge, "slurmctld": ["slurmctld", "-D"]}
    commands |= {node: ["slurmd", "-D", "-N", node] for node in ("n1", "n2")}
    daemons: dict[str, subprocess.Popen[bytes]] = {}
    try:
        with _coming_up(folder):
            for name, command in commands.items():
                with (folder / f"{name}.out").open("wb") as log:
                    daemons[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
                if name == "munged":
                    _until(lambda: (folder / "munge.socket").exists())
            _until(lambda: _asked("sinfo", "--noheader", "--format", "%T %D") == "idle 2")
        yield daemons
    finally:
        for daemon in daemons.values():
            daemon.kill()
            daemon.wait()


def _asked(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()


def _until(happened: Callable[[], Any], within_s: float = 60) -> Any:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        found = happened()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{happened} did not come to be within {within_s} s")


def _meanwhile(*steps: Callable[[], None]) -> threading.Thread:
    """Do these, one after the other, beside what goes on."""

    def all_of_them() -> None:
        for step in steps:
            step()

    thread = threading.Thread(target=all_of_them, daemon=True)
    thread.start()
    return thread


def _descendants(pid: int) -> list[int]:
    found = [int(word) for word in _asked("ps", "-o", "pid=", "--ppid", str(pid)).split()]
    return found + [deeper for one in found for deeper in _descendants(one)]


def endless(folder: Path) -> dict[str, Any]:
    """Never end, and hold on to a process that does not either."""
    (folder / "started").write_text(f"sleep 86{os.urandom(3).hex().translate(str.maketrans('abcdef', '123456'))}")
    subprocess.run((folder / "started").read_text().split(), start_new_session=True)
    return {}


def never_up(folder: Path) -> dict[str, Any]:
    """Start a cluster whose daemon is not there."""
    (folder / "daemon.out").write_text("its last words")
    with _coming_up(folder):
        raise OSError("no such daemon")
    return {}


def array_and_srun_on_slurm(folder: Path) -> dict[str, Any]:
    """Which part `part_of` finds in the tasks of arrays, in those of srun, and in a batch script of several tasks."""
    script = folder / "part"
    script.write_text(
        f"#!{sys.executable}\nimport os, sys\nimport typer\nfrom cer_fusion.commands.parts import part_of\n"
        "parts = int(sys.argv[1]) if sys.argv[1:] else None\n"
        "try:\n    print(*part_of(None, parts, os.environ))\n"
        "except typer.BadParameter as error:\n    print('refused', str(error).split(':')[0])\n"
    )
    script.chmod(0o700)
    cases = {
        "array=3 parts=8": (["--array=3"], f"{script} 8"),
        "array=3": (["--array=3"], f"{script}"),
        "array=3,7 parts=8": (["--array=3,7"], f"{script} 8"),
        "array=0-2": (["--array=0-2"], f"srun {script}"),
        "srun -n2": (["--nodes=2", "--ntasks=2"], f"srun {script}"),
        "sbatch -n2": (["--nodes=2", "--ntasks=2"], f"{script}"),
    }
    with slurm(folder / "slurm"):
        for number, (options, command) in enumerate(cases.values()):
            out = folder / f"case-{number}-%a.txt"
            subprocess.run(["sbatch", f"--output={out}", *options, "--wrap", command], check=True, capture_output=True)
        _until(lambda: not _asked("squeue", "--noheader"))
    lines = {
        case: [line for path in folder.glob(f"case-{number}-*.txt") for line in path.read_text().splitlines()]
        for number, case in enumerate(cases)
    }
    return {case: sorted(line for line in found if not line.startswith("part ")) for case, found in lines.items()}


def faults_on_slurm(folder: Path) -> dict[str, Any]:
    """Six parts on two nodes; a task's process is killed, then a node is lost with all that runs there."""
    from cer_fusion.commands.runners import slurm_array
    from tests.commands.jobs import begun

    slurm_array._POLL_S, slurm_array._GRACE_S = 0.2, 1.0
    job, notes = _embedding(folder)

    def kill_a_task() -> None:
        k, pid = _until(lambda: [one for one in begun(notes) if one[0] == 1])[0]
        os.kill(pid, signal.SIGKILL)
        done.append(f"killed part {k}")

    with slurm(folder / "slurm") as daemons:

        def lose_a_node() -> None:
            node = daemons["n2"].pid
            seen = len(begun(notes))
            _until(lambda: [pid for _, pid in begun(notes)[seen:] if _of_node(pid, "n2")])
            on_it = [pid for pid in map(int, _asked("ps", "-e", "-o", "pid=").split()) if _of_node(pid, "n2")]
            for pid in [node, *_descendants(node), *on_it]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            subprocess.run(["scontrol", "update", "nodename=n2", "state=down", "reason=lost"], check=True)
            done.append(f"lost n2 with {len(on_it)} processes")

        done: list[str] = []
        faults = _meanwhile(kill_a_task, lose_a_node)
        steps: list[tuple[str, int, int]] = []
        submitted = slurm_array.submit_to_slurm(
            job, 6, options=slurm_array.slurm_options([f"time=60,folder={folder}/jobs,nice=1"]), name="faults"
        )
        outcomes = submitted.wait(lambda *step: steps.append(step))
        faults.join(10)
    return _found(folder, outcomes, notes) | {"done": done, "steps": steps[-1]}


def _of_node(pid: int, node: str) -> bool:
    with contextlib.suppress(OSError):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return f"SLURMD_NODENAME={node}".encode() in environment
    return False


def faults_on_ray(folder: Path) -> dict[str, Any]:
    """Six parts on two nodes of one CPU; a worker is killed amid its part, then a node is removed."""
    short = Path(os.environ[_SHORT])
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(short)}
    (short / "ray").mkdir()
    from ray.cluster_utils import Cluster

    from cer_fusion.commands.runners import ray_tasks
    from tests.commands.jobs import begun

    job, notes = _embedding(folder)
    small = {"object_store_memory": 80_000_000, "include_dashboard": False}
    head = {"num_cpus": 0} | small
    with _coming_up(short):
        cluster = Cluster(initialize_head=True, head_node_args=head)
        nodes = [cluster.add_node(num_cpus=1, **small) for _ in range(2)]
    done: list[str] = []

    def kill_a_worker() -> None:
        k, pid = _until(lambda: begun(notes))[0]
        os.kill(pid, signal.SIGKILL)
        done.append(f"killed part {k}")

    def remove_a_node() -> None:
        seen = len(begun(notes))
        _until(lambda: len(begun(notes)) > seen + 1)
        cluster.remove_node(nodes[1], allow_graceful=False)
        done.append("removed a node")

    try:
        faults = _meanwhile(kill_a_worker, remove_a_node)
        steps: list[tuple[str, int, int]] = []
        outcomes = ray_tasks.run_on_ray(
            job,
            6,
            address=cluster.address,
            num_gpus=None,
            gpus_wanted=True,
            progress=lambda *step: steps.append(step),
        )
        faults.join(10)
    finally:
        cluster.shutdown()
    return _found(folder, outcomes, notes) | {"done": done, "steps": steps[-1]}


def _embedding(folder: Path) -> tuple[Any, Path]:
    from tests.commands.jobs import Embedding
    from tests.reliability import toy

    notes = folder / "notes"
    notes.mkdir()
    toy.embed(toy.write_manifest(folder, 72), folder / "whole", shard_rows=3)
    return Embedding(manifest=str(folder / "m.csv"), store=str(folder / "store"), notes=str(notes), batch_s=0.12), notes


def _found(folder: Path, outcomes: list[Any], notes: Path) -> dict[str, Any]:
    """What came of a run, beside an unbroken one."""
    from tests.commands.jobs import begun, loads
    from tests.reliability import toy

    expected, rows = toy.rows(folder / "whole"), toy.rows(folder / "store")
    tries = [k for k, _ in begun(notes)]
    return {
        "parts": [one.part for one in outcomes],
        "rows": len(rows),
        "wrong": toy.wrong(rows, expected),
        "same_names": toy.names(folder / "store") == toy.names(folder / "whole"),
        "samples": sum(one.value[0]["samples"] for one in outcomes),
        "tries": {str(k): tries.count(k) for k in sorted(set(tries))},
        "loads": sorted(loads(notes).values()),
        "processes": len({pid for _, pid in begun(notes)}),
    }


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
