from __future__ import annotations

import pytest

from cer_fusion.kit import machine


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Control groups in a folder, and a function that writes a setting of one."""
    texts = {"/proc/meminfo": "MemTotal: 8000 kB\nMemAvailable: 6000 kB"}
    read = machine.text_of
    monkeypatch.setattr(machine, "text_of", lambda path: texts.get(str(path)) or read(path))
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)

    def write(own: str, **settings: str) -> None:
        texts["/proc/self/cgroup"] = own
        for name, text in settings.items():
            path = tmp_path / name.replace("__", "/").replace("_of_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


def test_without_control_groups_the_machine_is_all_there_is(groups):
    groups("")
    assert (machine.cpu_quota(), machine.memory_limit(), machine.memory_available()) == (None, None, 6000 * 1024)


def test_the_tightest_group_of_version_2_counts(groups):
    groups("0::/job/step", job__cpu_of_max="150000 100000", job__step__cpu_of_max="max 100000")
    groups(
        "0::/job/step", job__memory_of_max="4000000", job__memory_of_current="3000000", job__step__memory_of_max="max"
    )
    assert (machine.cpu_quota(), machine.memory_limit(), machine.memory_available()) == (1.5, 4_000_000, 1_000_000)


def test_file_cache_counts_as_available(groups):
    groups("0::/job", job__memory_of_max="4000000", job__memory_of_current="3900000")
    groups("0::/job", job__memory_of_stat="anon 100\ninactive_file 2500000")
    assert machine.memory_available() == 2_600_000


def test_version_1_is_understood_and_no_limit_is_no_limit(groups):
    groups(
        "5:memory:/job\n4:cpu,cpuacct:/",
        memory__job__memory_of_limit_in_bytes="2000000",
        memory__job__memory_of_usage_in_bytes="500000",
        memory__memory_of_limit_in_bytes="9223372036854771712",
        cpu__cpu_of_cfs_quota_us="-1",
        cpu__cpu_of_cfs_period_us="100000",
    )
    assert (machine.cpu_quota(), machine.memory_limit(), machine.memory_available()) == (None, 2_000_000, 1_500_000)
