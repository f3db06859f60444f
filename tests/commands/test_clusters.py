"""Real clusters on this machine: what is killed or lost costs time, and nothing else. They skip where there is none."""

from __future__ import annotations

import pytest

from tests.commands import clusters

no_slurm = clusters.lacking("submitit", "munged", "slurmctld", "slurmd", "sbatch", "srun", "ps")
no_ray = clusters.lacking("ray", "ps")
on_slurm = pytest.mark.skipif(bool(no_slurm), reason=f"no Slurm cluster: {no_slurm}")
on_ray = pytest.mark.skipif(bool(no_ray), reason=f"no Ray cluster: {no_ray}")


no_namespaces = clusters.lacking("pytest", "ps")


@pytest.mark.skipif(bool(no_namespaces), reason=no_namespaces)
def test_a_scenario_whose_time_is_up_ends_with_all_that_it_started(tmp_path):
    with pytest.raises(AssertionError, match=r"ended with 124\nendless: 1\.0 s are over"):
        clusters.isolated(clusters.endless, tmp_path, timeout_s=1)
    pid = (tmp_path / "started").read_text()
    assert pid not in clusters._asked("ps", "-e", "-o", "args=")


@pytest.mark.skipif(bool(no_namespaces), reason=no_namespaces)
def test_a_cluster_that_does_not_come_up_is_missing_and_its_test_says_why(tmp_path):
    with pytest.raises(pytest.skip.Exception, match=r"did not come up here: .*no such daemon.*its last words"):
        clusters.isolated(clusters.never_up, tmp_path, timeout_s=20)


@pytest.mark.slow
@on_slurm
def test_parts_are_what_slurm_says_in_arrays_and_under_srun(tmp_path):
    found = clusters.isolated(clusters.array_and_srun_on_slurm, tmp_path, timeout_s=240)
    found.pop("said")
    assert found == {
        "array=3 parts=8": ["3 8"],
        "array=3": ["refused this is task 3 of an array that does not say how many parts the work has (SLURM_"
                    "ARRAY_TASK_COUNT=1, SLURM_ARRAY_TASK_MIN=3, SLURM_ARRAY_TASK_MAX=3)"],
        "array=3,7 parts=8": ["3 8", "7 8"],
        "array=0-2": ["0 3", "1 3", "2 3"],
        "srun -n2": ["0 2", "1 2"],
        "sbatch -n2": ["0 1"],
    }  # fmt: skip


@pytest.mark.slow
@on_slurm
def test_on_slurm_a_killed_task_and_a_lost_node_cost_no_row(tmp_path):
    found = clusters.isolated(clusters.faults_on_slurm, tmp_path, timeout_s=300)
    assert found["done"][0] == "killed part 1"
    assert found["done"][1].startswith("lost n2 with")
    assert found["parts"] == list(range(6))
    assert (found["rows"], found["wrong"], found["samples"]) == (72, [], 72)
    assert found["same_names"]
    assert found["tries"]["1"] >= 2
    assert sum(found["tries"].values()) >= 8  # two parts were begun again
    assert set(found["loads"]) == {1}
    assert found["steps"] == ["parts", 6, 6]


@pytest.mark.slow
@on_ray
def test_on_ray_a_killed_worker_and_a_removed_node_cost_no_row(tmp_path):
    found = clusters.isolated(clusters.faults_on_ray, tmp_path, timeout_s=300)
    assert [one.partition(" part")[0] for one in found["done"]] == ["killed", "removed a node"]
    assert found["parts"] == list(range(6))
    assert (found["rows"], found["wrong"], found["samples"]) == (72, [], 72)
    assert found["same_names"]
    assert sum(found["tries"].values()) >= 8  # two parts were begun again
    assert set(found["loads"]) == {1}
    assert found["processes"] < 8  # those that live do part after part
    assert found["steps"] == ["parts", 6, 6]
