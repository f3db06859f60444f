"""Parts in processes on this machine."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cer_fusion.commands.console import FAILED
from cer_fusion.commands.runners import WorkerError, processes
from cer_fusion.commands.runners.processes import _Shown, run_here
from cer_fusion.featstore import Store
from cer_fusion.featstore.extraction.plan import positions_of, size_of_part
from cer_fusion.kit import machine
from tests.commands.jobs import Embedding, Toy, begun, loads
from tests.reliability import toy

ROOT = Path(__file__).parents[2]


def quiet(stage: str, done: int, total: int) -> None:
    """Progress for nobody."""


def test_every_part_is_done_once_and_comes_back_in_order_from_as_many_processes_as_were_asked_for(
    tmp_path, monkeypatch, capfd
):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    busy: dict[int, float] = {}
    steps = []
    job = Toy(folder=tmp_path, says="half a [bold]word")
    found = run_here(job, [1, 3, 5, 7, 9], 10, workers=2, progress=lambda *step: steps.append(step), busy=busy)
    assert [(one.value[0], one.value[1]) for one in found] == [(k, 10) for k in (1, 3, 5, 7, 9)]
    assert [job.tries(k) for k in range(10)] == [0, 1] * 5
    of_worker = {one.worker: {other.value[2] for other in found if other.worker == one.worker} for one in found}
    assert all(len(processes) == 1 for processes in of_worker.values())
    assert {one.value[3] for one in found} == set(of_worker) <= {"0", "1"}
    assert {one.value[4] for one in found} == {"3"}  # the user's own number of threads
    assert set(busy.values()) == {0.5}
    assert steps[-1] == ("embed", 10, 10)
    captured = capfd.readouterr()
    assert "worker 0: half a [bold]word" in captured.err
    assert "worker 0: printed by a library" in captured.err
    assert captured.out == ""  # which is for results


def test_a_part_whose_worker_is_killed_is_begun_again_and_no_other_is_lost(tmp_path, capfd):
    job = Toy(folder=tmp_path, dies=(0, 2))
    found = run_here(job, range(4), 4, workers=2, progress=quiet)
    assert [one.value[0] for one in found] == [0, 1, 2, 3]
    assert [job.tries(k) for k in range(4)] == [2, 1, 2, 1]
    said = capfd.readouterr().err
    assert "was lost amid part 2 of 4, ended by signal 9: it is begun again (2 more tries)" in said


def test_a_part_that_kills_every_worker_is_given_up_when_all_others_are_done(tmp_path):
    job = Toy(folder=tmp_path, doomed=(0,))
    with pytest.raises(WorkerError, match=r"1 of 3 parts .* lost 3 times \(part 0: ended by signal 9\)"):
        run_here(job, range(3), 3, workers=1, progress=quiet)
    assert [job.tries(k) for k in range(3)] == [3, 1, 1]


def test_an_error_of_the_jobs_own_is_told_in_its_words_and_not_tried_again(tmp_path):
    job = Toy(folder=tmp_path, fails=(1,), sleeps_s=0.05)
    with pytest.raises(WorkerError, match="part 1 of 40 failed: part 1 cannot be done") as caught:
        run_here(job, range(40), 40, workers=1, progress=quiet)
    assert caught.value.exit_code == FAILED
    assert job.tries(1) == 1
    assert job.tries(39) == 0  # the others are asked to stop


def test_a_bar_that_fails_does_not_end_the_work(tmp_path, capfd):
    def fail(*step):
        raise UnicodeEncodeError("ascii", "é", 0, 1, "cannot be shown")

    [one] = run_here(Toy(folder=tmp_path, says="x" * 100_000), [0], 1, workers=1, progress=fail)
    assert one.value[0] == 0
    assert "not all that worker 0 said could be shown" in capfd.readouterr().err


def test_an_interrupt_ends_the_workers_and_is_raised_again(tmp_path):
    job = Toy(folder=tmp_path, sleeps_s=60)

    def interrupt() -> None:
        while not job.tries(0):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_here(job, range(2), 2, workers=1, progress=quiet)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "0-0").read_text()), 0)


def test_what_no_part_has_told_yet_counts_as_much_as_what_has():
    seen, busy = [], {}
    shown = _Shown(lambda *step: seen.append(step), busy, dict.fromkeys(range(4), 1))
    shown.step(0, 0, "embed", 3, 10, 0.5)
    shown.step(1, 1, "embed", 4, 20, 0.75)
    shown.finished(2)  # nothing to do
    shown.step(0, 0, "embed", 10, 10, 0.5)
    assert seen == [("embed", 3, 40), ("embed", 7, 60), ("embed", 7, 40), ("embed", 14, 40)]
    assert busy == {0: 0.5, 1: 0.75}


@pytest.mark.parametrize(("samples", "shard_rows", "parts"), [(60, 10, 8), (60, 2048, 2), (7, 3, 2), (1, 1, 4)])
def test_the_total_of_parts_of_which_some_have_nothing_is_right_from_the_first_step(samples, shard_rows, parts):
    sizes = {k: size_of_part(samples, shard_rows, (k, parts)) for k in range(parts)}
    assert sizes == {k: len(positions_of(samples, shard_rows, (k, parts))) for k in range(parts)}
    seen = []
    shown = _Shown(lambda *step: seen.append(step), {}, sizes)
    for k in reversed(range(parts)):
        for done in range(1, sizes[k] + 1):
            shown.step(0, k, "hash", done, sizes[k], 0.0)
        shown.finished(k)
    assert {total for _, _, total in seen} == {samples}
    assert seen[-1] == ("hash", samples, samples)


def test_the_bar_ends_at_what_there_was_to_do_whichever_part_ends_last():
    for order in itertools.permutations(range(3)):
        seen = []
        shown = _Shown(lambda *step, to=seen: to.append(step), {}, {0: 5, 1: 5, 2: 0})
        for k in order:
            if k == 0:  # the rows of part 1 are there already
                shown.step(0, 0, "embed", 5, 5, 0.0)
            shown.finished(k)
        assert seen[-1] == ("embed", 5, 5), order


def test_workers_end_when_the_one_who_started_them_is_killed(tmp_path):
    code = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from cer_fusion.commands.runners.processes import run_here
from tests.commands.jobs import Embedding, Toy, begun, loads
from tests.reliability import toy
if __name__ == "__main__":
    run_here(Toy(folder=Path({str(tmp_path)!r}), sleeps_s=0.3), range(50), 50, workers=1, progress=lambda *step: None)
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    until = time.monotonic() + 60
    while not (tmp_path / "0-0").exists() and time.monotonic() < until:
        time.sleep(0.02)
    process.kill()
    process.wait()
    worker = int((tmp_path / "0-0").read_text())
    while time.monotonic() < until:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the worker lives on")
    assert not (tmp_path / "5-0").exists()


EXTRACT = "cer-feat extract -b timm:test_resnet -w random -d faces.csv --shard-rows 4"


def shards(store: str) -> dict[str, bytes]:
    """Content of every shard of a store by name."""
    return {path.name: path.read_bytes() for one in Store(store).features() for path in one.shard_paths()}


def test_a_killed_worker_costs_no_row_and_leaves_the_shards_of_an_unbroken_run(tmp_path):
    toy.embed(toy.write_manifest(tmp_path, 48), tmp_path / "whole", shard_rows=3)
    notes = tmp_path / "notes"
    notes.mkdir()
    job = Embedding(manifest=str(tmp_path / "m.csv"), store=str(tmp_path / "store"), notes=str(notes), batch_s=0.02)

    def kill_one() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if list(tmp_path.glob("store/d/toy@*/shard-*")):
                os.kill(begun(notes)[-1][1], signal.SIGKILL)
                return
            time.sleep(0.002)

    killer = threading.Thread(target=kill_one)
    killer.start()
    outcomes = run_here(job, range(4), 4, workers=2, progress=quiet)
    killer.join()
    assert len(begun(notes)) == 5  # one part was begun again
    assert set(loads(notes).values()) == {1}  # the encoder, once a worker
    assert len(loads(notes)) in (2, 3)  # the one begun anew may find all parts taken
    assert sum(one.value[0]["samples"] for one in outcomes) == 48
    assert toy.wrong(toy.rows(tmp_path / "store"), toy.rows(tmp_path / "whole")) == []
    assert len(toy.rows(tmp_path / "store")) == 48
    assert toy.names(tmp_path / "store") == toy.names(tmp_path / "whole")


@pytest.mark.slow
def test_extraction_in_parts_makes_what_one_process_makes(run, faces):
    run(f"{EXTRACT} --store alone")
    report = json.loads(run(f"{EXTRACT} --store shared --runner local --parts 3 --json").stdout)
    assert (report["samples"], report["embedded"], report["quarantined"]) == (42, 42, {})
    assert shards("shared") == shards("alone")


SAID_OF_TIME = ("elapsed_s", "fit_s", "predict_s")


def figures(path: Path) -> object:
    """A kept result without its times."""

    def without_times(value: object) -> object:
        if isinstance(value, dict):
            return {key: without_times(inner) for key, inner in value.items() if key not in (*SAID_OF_TIME, "digest")}
        return [without_times(inner) for inner in value] if isinstance(value, list) else value

    return without_times(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "compare --heads linear,late --cv 3 --repeats 2 --baseline linear",
        "ablate --head weighted --set mode=sum --set head=linear --weights one=0:1:0.25,two=1- --folds 3",
        "ablate --head linear --axis C=0.1,1,10 --folds 3",
    ],
)
def test_a_comparison_and_a_sweep_in_processes_are_those_of_one_process(command, run, filled, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")  # one table is made of all parts, whoever starts this
    run(f"cer-fuse {command} --figure none -o alone.json")
    result = run(f"cer-fuse {command} --figure none -o shared.json --runner local --workers 2 --parts 5")
    said = [line for line in result.stderr.splitlines() if line.startswith("worker") and "fitted" not in line]
    assert said == []  # what they would say has been said
    assert figures(tmp_path / "shared.json") == figures(tmp_path / "alone.json")


@pytest.mark.parametrize(
    ("devices", "cores", "ranks", "asked", "found"),
    [
        (["cpu"], 16, "", (None, None), (2, 0)),
        (["cuda"], 16, "", (None, None), (2, 14)),
        (["cpu", "cuda:1"], 64, "", (None, None), (2, 16)),  # one of several is on a GPU; more than it takes
        (["cuda:3"], 32, "4", (None, None), (2, 6)),  # four ranks share the cores
        (["cuda"], 2, "", (None, None), (2, 0)),
        (["cuda"], 16, "", (5, None), (5, 0)),
        (["cuda"], 16, "", (None, 3), (2, 3)),
        (["cpu"], 16, "", (None, 3), (2, 3)),
    ],
)
def test_readers_follow_device_and_cores_unless_they_are_asked_for(monkeypatch, devices, cores, ranks, asked, found):
    from cer_fusion.commands.options import readers_for

    monkeypatch.setattr(machine, "whole_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    assert readers_for(devices, *asked) == found


def test_workers_know_how_many_share_the_machine():
    assert {processes._environment(number, 4)["LOCAL_WORLD_SIZE"] for number in range(4)} == {"4"}
