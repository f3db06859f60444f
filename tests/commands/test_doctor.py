from __future__ import annotations

import errno
import json
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from cer_fusion.commands.doctor import device, guarded, libraries, ok, place
from cer_fusion.kit import machine


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def statuses(checks):
    return {check.name: check.status for check in checks}


def test_doctor_lists_its_checks_and_leaves_nothing_behind(run, filled, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    found = json.loads(run("cer-feat doctor --json").stdout)
    by_name = {check["name"]: check for check in found["checks"]}
    libraries_and_device = {"versions", "torch + torchvision", "timm", "h5py", "xgboost", "threads", "memory"}
    assert libraries_and_device | {"store", "file system", "free space", "hard links", "sync", "hub"} <= set(by_name)
    assert "1 datasets, 2 features" in by_name["store"]["found"]
    assert "HF_HUB_OFFLINE" in by_name["hub"]["found"]
    assert sum(found["counts"].values()) == len(found["checks"])
    assert all(check["advice"] for check in found["checks"] if check["status"] != "ok")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failure_is_exit_status_1_with_advice(run, filled):
    (filled / "store.json").write_text("{}")
    result = run("cer-feat doctor", code=1)
    assert "cer-feat verify says what is damaged" in " ".join(result.stdout.split())


def test_a_check_that_raises_or_hangs_is_reported_not_passed_on():
    def broken():
        raise ZeroDivisionError("of\nall things")

    never = threading.Event()
    assert guarded("x", lambda: ok("x", "fine")) == [ok("x", "fine")]
    [raised] = guarded("x", broken)
    assert (raised.status, raised.found) == ("fail", "ZeroDivisionError: of all things")
    [hung] = guarded("x", lambda: ok("x", str(never.wait())), limit_s=0.05)
    assert (hung.status, hung.found) == ("fail", "no answer within 0.05 s")
    never.set()


def test_libraries_that_are_too_old_or_do_not_pair_fail_by_name(monkeypatch):
    versions = {"numpy": "1.20.0", "torch": "2.99.0"}
    real = libraries.metadata.version
    monkeypatch.setattr(libraries.metadata, "version", lambda name: versions.get(name) or real(name))
    [old] = [check for check in libraries._versions() if check.status == "fail"]
    assert old.name == "numpy"
    assert "numpy>=1.26, however: 1.20.0" in old.found
    monkeypatch.setattr(libraries.metadata, "requires", lambda name: ["numpy", "torch (==2.15.0)"])
    [pair] = guarded("pair", libraries._vision)
    assert pair.status == "fail"
    assert "torch 2.99.0" in pair.found
    assert "wants torch==2.15.0" in pair.found


def test_a_library_that_cannot_be_imported_says_who_needs_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "xgboost", None)
    found = libraries._imports("xgboost", "the head xgboost needs it")
    assert (found.status, "the head xgboost needs it" in found.advice) == ("fail", True)


def test_the_store_is_read_and_what_killed_runs_left_is_named(filled, run):
    assert statuses(place._store(filled)) == {"store": "ok"}
    feature = next(filled.glob("faces/one@*"))
    (feature / ".tmp-abc").write_bytes(b"x")
    assert statuses(place._store(filled)) == {"store": "ok"}  # its writer may be alive
    os.utime(feature / ".tmp-abc", (time.time() - 7200,) * 2)
    (feature / "damaged-shard-00000-abc.h5").write_bytes(b"x")
    assert statuses(place._store(filled)) == {"store": "ok", "stale files": "warn", "damaged shards": "warn"}


def test_a_place_that_is_no_store_is_told_apart(tmp_path):
    assert place._store(tmp_path / "new")[0].status == "ok"
    (tmp_path / "file").write_bytes(b"x")
    assert "is a file" in place._store(tmp_path / "file")[0].found
    assert "neither empty nor a store" in place._store(tmp_path)[0].found


def test_a_place_that_does_not_exist_is_judged_by_the_nearest_folder(tmp_path):
    checks = place.checks(tmp_path / "a" / "b")
    assert {check.status for check in checks} <= {"ok", "warn"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_read_only_place_is_said_and_is_no_failure(tmp_path, monkeypatch, number):
    def refuse(*args, **kwargs):
        raise OSError(number, "no")

    monkeypatch.setattr(place.tempfile, "mkdtemp", refuse)
    [found] = place._operations(tmp_path)
    assert (found.status, "read-only" in found.found) == ("warn", True)


def test_file_systems_without_links_or_folder_sync_are_told(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EPERM, "Operation not permitted")

    def only_files(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(place.os, "link", refuse)
    assert statuses(place._operations(tmp_path))["hard links"] == "warn"
    monkeypatch.setattr(place.os, "link", os.replace)
    assert statuses(place._operations(tmp_path))["exclusive names"] == "fail"
    monkeypatch.setattr(place.os, "fsync", only_files)
    assert statuses(place._operations(tmp_path))["sync"] == "fail"
    monkeypatch.setattr(place.os, "fsync", refuse)
    assert statuses(place._operations(tmp_path))["committing"] == "fail"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("mounts", "status"),
    [
        ("server:/x {} nfs4 rw 0 0", "warn"),
        ("sshfs {} fuse.sshfs rw 0 0", "warn"),
        ("tmpfs {} tmpfs rw 0 0", "warn"),
        ("/dev/sda {} ext4 rw 0 0", "ok"),
    ],
)
def test_the_kind_of_file_system_is_read_from_the_mounts(tmp_path, monkeypatch, mounts, status):
    text = "/dev/root / ext4 rw 0 0\n" + mounts.format(tmp_path) + "\n"
    monkeypatch.setattr(Path, "read_text", lambda self, **_: text)
    assert place._kind(tmp_path).status == status
    assert place.mounted(tmp_path)[0] == str(tmp_path)


@pytest.mark.parametrize(("free", "status"), [(10**6, "fail"), (10**8, "warn"), (10**12, "ok")])
def test_free_space_is_judged(tmp_path, monkeypatch, free, status):
    usage = type("Usage", (), {"free": free, "total": 10**13})
    monkeypatch.setattr(place.shutil, "disk_usage", lambda _: usage)
    assert place._space(tmp_path).status == status
    monkeypatch.setattr(place.os, "access", lambda *_: False)
    assert place._space(tmp_path).status == "ok"  # nothing is written to a read-only place


def test_little_memory_is_warned_of(monkeypatch):
    monkeypatch.setattr(machine, "memory_available", lambda: 10**9)
    assert device._memory().status == "warn"


def test_more_threads_than_cores_are_warned_of(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 64)
    monkeypatch.setattr("cer_fusion.kit.machine.cpu_quota", lambda: 1.5)
    found = device._threads()
    assert (found.status, "OMP_NUM_THREADS=1" in found.advice) == ("warn", True)


@pytest.mark.parametrize(
    ("built", "hidden", "found"),
    [("12.8", None, "cannot use it"), ("12.8", "", "hides it"), (None, None, "built without CUDA")],
)
def test_a_gpu_that_torch_cannot_use_is_explained(monkeypatch, built, hidden, found):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setattr("torch.version.cuda", built)
    monkeypatch.setattr(device, "_driver_sees", lambda: "the driver sees Some GPU, 500.1")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    [check] = device._gpu()
    assert (check.status, found in check.found) == ("warn", True)
    monkeypatch.setattr(device, "_driver_sees", lambda: "")
    assert device._gpu()[0].status == "ok"


@pytest.mark.parametrize("error", [TimeoutError("timed out"), OSError("no route"), ValueError("unknown url type")])
def test_a_hub_that_does_not_answer_is_a_warning_with_what_works_without(monkeypatch, error):
    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(libraries.urllib.request, "urlopen", refuse)
    [found] = libraries._answer()
    assert (found.status, "does not answer" in found.found, "--weights random" in found.advice) == ("warn", True, True)


def test_a_hub_that_hangs_is_given_up(monkeypatch):
    never = threading.Event()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(libraries, "_ANSWER_S", 0.02)
    monkeypatch.setattr(libraries.urllib.request, "urlopen", lambda *args, **kwargs: never.wait())
    [found] = libraries._answer()
    never.set()
    assert (found.status, "no answer within" in found.found) == ("warn", True)


def test_caches_are_measured(tmp_path):
    assert "empty so far" in libraries._folder("hub cache", tmp_path / "none", "HF_HOME moves it").found
    (tmp_path / "blob").write_bytes(bytes(2500))
    assert "2.5 kB; HF_HOME moves it" in libraries._folder("hub cache", tmp_path, "HF_HOME moves it").found
