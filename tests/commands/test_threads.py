"""How threads wait is said before OpenMP is loaded; libgomp itself is asked what it was told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cer_fusion.commands.doctor import device
from cer_fusion.commands.runners import processes
from cer_fusion.kit import machine

ROOT = Path(__file__).parents[2]
NAMES = (machine.RULES_ALL, *machine.WAITING, "KMP_LIBRARY", machine.NUMBER)
LOADED = "sorted({m.partition('.')[0] for m in sys.modules} & {'torch', 'sklearn', 'xgboost', 'numpy', 'scipy'})"


@pytest.fixture
def unsaid(monkeypatch):
    """An environment in which nobody has said how threads wait, and a process in which nothing was chosen."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "chosen", {})
    monkeypatch.setattr(machine, "came_late", [])


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if name not in NAMES}
    own["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [own.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={**own, **environment}, check=True
    )


@pytest.mark.parametrize("main", ["feat_main", "fuse_main"])
def test_the_environment_is_chosen_before_anything_that_brings_openmp_is_imported(main):
    code = (
        "import json, os, sys; from cer_fusion.kit import machine\n"
        "def look(environment=os.environ):\n"
        f"    print(json.dumps([{LOADED}, machine.loaded()]))\n"
        "    sys.exit()\n"
        "machine.choose = look\n"
        f"from cer_fusion import cli; cli.{main}()"
    )
    assert json.loads(python(code).stdout) == [[], []]


@pytest.mark.parametrize("main", ["feat_main", "fuse_main"])
def test_what_a_command_chooses_is_in_force_when_it_runs_and_nothing_came_late(main):
    code = (
        "import json, os, sys; from cer_fusion import cli; from cer_fusion.kit import machine\n"
        "cli._run = lambda app, name: print(json.dumps([dict(machine.settings()), machine.came_late]))\n"
        f"cli.{main}()"
    )
    assert json.loads(python(code).stdout) == [machine.WAITING, []]


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp says what it was told on Linux")
@pytest.mark.parametrize(
    ("own", "spins"),
    [
        ({}, machine.WAITING["GOMP_SPINCOUNT"]),
        ({"GOMP_SPINCOUNT": "123"}, "123"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "0"),
        ({"OMP_WAIT_POLICY": "active"}, "30000000000"),
    ],
)
def test_every_copy_of_libgomp_is_told_what_was_chosen_unless_the_user_has_said_otherwise(own, spins):
    code = (
        "from cer_fusion import cli; cli._run = lambda app, name: None; cli.feat_main(); import torch, sklearn.ensemble"
    )
    told = python(code, OMP_DISPLAY_ENV="VERBOSE", **own).stderr
    found = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", told)
    if not found:
        pytest.skip("no library here brings libgomp")
    assert set(found) == {spins}


@pytest.mark.parametrize(
    ("own", "chosen"),
    [
        ({}, machine.WAITING),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {}),
        ({"GOMP_SPINCOUNT": "5"}, {"KMP_BLOCKTIME": machine.WAITING["KMP_BLOCKTIME"]}),
        ({"KMP_BLOCKTIME": "infinite"}, {"GOMP_SPINCOUNT": machine.WAITING["GOMP_SPINCOUNT"]}),
        ({"KMP_LIBRARY": "turnaround"}, {"GOMP_SPINCOUNT": machine.WAITING["GOMP_SPINCOUNT"]}),
        ({"OMP_NUM_THREADS": "7"}, machine.WAITING),
    ],
)
def test_a_users_own_setting_wins(own, chosen, unsaid, monkeypatch):
    monkeypatch.setattr(machine, "loaded", list)
    monkeypatch.setattr("cer_fusion.kit.machine.cpu_quota", lambda: None)
    environment = dict(own)
    machine.choose(environment)
    assert environment == {**chosen, **own}
    assert machine.chosen == chosen


def test_where_a_control_group_allows_less_than_the_cores_that_libraries_see_their_number_is_chosen(
    unsaid, monkeypatch
):
    monkeypatch.setattr("cer_fusion.kit.machine.cpu_quota", lambda: 1.5)
    monkeypatch.setattr("cer_fusion.kit.machine.bound_cores", lambda: 64)
    theirs: dict[str, str] = {"OMP_NUM_THREADS": "9"}
    machine.choose(theirs)
    assert theirs["OMP_NUM_THREADS"] == "9"
    machine.chosen.clear()
    ours: dict[str, str] = {}
    machine.choose(ours)
    assert ours["OMP_NUM_THREADS"] == "1"


def test_a_worker_waits_as_its_command_does_and_has_its_share_of_the_threads(unsaid, monkeypatch):
    monkeypatch.setattr("cer_fusion.kit.machine.cpu_quota", lambda: 8)
    monkeypatch.setattr("cer_fusion.kit.machine.bound_cores", lambda: 64)
    machine.choose()
    given = {**os.environ, **processes._environment(1, 4)}
    assert {name: given[name] for name in machine.WAITING} == machine.WAITING
    assert given["OMP_NUM_THREADS"] == "2"  # not the 8 that the command chose for itself
    for name in machine.chosen:
        monkeypatch.delenv(name)


def test_a_workers_number_of_threads_is_the_users_where_the_user_has_said_one(unsaid, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert processes._environment(0, 2)["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_that_python_starts_inherit_the_choice(method):
    code = (
        "import multiprocessing, os; from cer_fusion import cli\n"
        "cli._run = lambda app, name: None\n"
        "cli.feat_main()\n"
        f"pool = multiprocessing.get_context({method!r}).Pool(1)\n"
        "print(pool.apply(os.getenv, ('GOMP_SPINCOUNT',)))\n"
        "pool.terminate()"
    )
    if method == "fork" and not hasattr(os, "fork"):
        pytest.skip("there is no fork here")
    assert python(code).stdout.strip() == machine.WAITING["GOMP_SPINCOUNT"]


def test_the_benchmarks_wait_as_the_commands_do():
    code = "import os, benchmarks; print(os.environ['GOMP_SPINCOUNT'])"
    assert python(code).stdout.strip() == machine.WAITING["GOMP_SPINCOUNT"]


def test_a_choice_that_came_too_late_is_said():
    code = "import sklearn.ensemble; from cer_fusion import cli; cli._run = lambda app, name: None; cli.fuse_main()"
    told = " ".join(python(code).stderr.split())
    assert "had been loaded before this command could say how threads wait" in told
    assert "set GOMP_SPINCOUNT=" in told
    silent = python(code, OMP_WAIT_POLICY="PASSIVE").stderr  # the user said it in time
    assert "had been loaded" not in silent


def test_doctor_says_how_threads_wait_and_who_says_so(unsaid, monkeypatch):
    nobody = device._waiting()
    assert (nobody.status, f"set {machine.advice()}" in nobody.advice) == ("warn", True)
    monkeypatch.setattr(machine, "loaded", list)
    monkeypatch.setattr("cer_fusion.kit.machine.cpu_quota", lambda: None)
    machine.choose()
    ours = device._waiting()
    assert (ours.status, "GOMP_SPINCOUNT=3000 (this command)" in ours.found) == ("ok", True)
    assert "in programs of your own" in ours.advice
    monkeypatch.setattr(machine, "came_late", ["libgomp.so.1"])
    late = device._waiting()
    assert (late.status, "libgomp.so.1" in late.advice) == ("warn", True)
    for name in machine.WAITING:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("OMP_WAIT_POLICY", "PASSIVE", "ok"),
        ("OMP_WAIT_POLICY", "Active", "warn"),
        ("GOMP_SPINCOUNT", "0", "ok"),
        ("GOMP_SPINCOUNT", "INFINITY", "warn"),
        ("KMP_BLOCKTIME", "200", "warn"),
    ],
)
def test_doctor_tells_a_users_own_setting_from_ours_and_warns_of_a_long_one(name, value, status, unsaid, monkeypatch):
    monkeypatch.setenv(name, value)
    found = device._waiting()
    assert (found.status, f"{name}={value} (yours)" in found.found) == (status, True)


@pytest.mark.parametrize("command", ["feat.extract", "fuse.compare", "fuse.ablate"])
def test_what_a_worker_opens_its_job_with_loads_no_library_that_counts_threads(command):
    """Else its share of the threads, which it is told as it starts, would come too late."""
    code = f"import sys, cer_fusion.commands.{command}; print({{'numpy', 'torch', 'sklearn'}} & set(sys.modules))"
    assert python(code).stdout.strip() == "set()"
