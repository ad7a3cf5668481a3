import math
import os
from pathlib import Path

import pytest

from featherpose import machine


def tree(folder, files: dict[str, str]):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


QUOTAS = [
    ("no control groups", "", {}, math.inf),
    ("version 2", "0::/pod/me\n", {"pod/me/cpu.max": "150000 100000\n"}, 1.5),
    ("version 2, no limit", "0::/pod/me\n", {"pod/me/cpu.max": "max 100000\n"}, math.inf),
    ("version 2, the parent's limit is smaller", "0::/pod/me\n",
     {"pod/me/cpu.max": "400000 100000", "pod/cpu.max": "200000 100000"}, 2.0),
    ("version 2 in a container: paths are the host's", "0::/host/path\n", {"cpu.max": "300000 100000"}, 3.0),
    ("version 2 in a container: above its root", "0::/../../x\n", {"cpu.max": "300000 100000"}, 3.0),
    ("version 1", "4:memory:/a\n3:cpu,cpuacct:/a\n",
     {"cpu,cpuacct/a/cpu.cfs_quota_us": "50000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, 0.5),
    ("version 1, no limit", "3:cpu:/a\n",
     {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, math.inf),
    ("version 1 in a container", "3:cpu:/docker/0af\n",
     {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4.0),
    ("malformed", "0::/me\n", {"me/cpu.max": "many"}, math.inf),
]  # fmt: skip


@pytest.mark.parametrize(("groups", "files", "quota"), [pytest.param(*row[1:], id=row[0]) for row in QUOTAS])
def test_cpu_quota_of_control_groups(tmp_path, groups, files, quota):
    (tmp_path / "cgroup").write_text(groups)
    assert machine.cpu_quota(tmp_path / "cgroup", tree(tmp_path / "root", files)) == quota


def test_no_control_groups_mean_no_limit(tmp_path):
    assert machine.cpu_quota(tmp_path / "none", tmp_path) == math.inf


@pytest.mark.parametrize(
    ("allowed", "quota", "wanted"),
    [({0, 1, 2, 3}, math.inf, 4), ({2}, math.inf, 1), ({0, 1, 2, 3}, 2.9, 2), ({0, 1}, 0.3, 1), ({0, 1}, 64.0, 2)],
)
def test_threads_are_minimum_of_cores_and_quota(monkeypatch, allowed, quota, wanted):
    monkeypatch.setattr(machine, "_allowed", lambda: allowed)
    monkeypatch.setattr(machine, "_physical", len)
    monkeypatch.setattr(machine, "cpu_quota", lambda: quota)
    assert machine.available_threads() == wanted


def test_hardware_threads_of_a_core_count_once(tmp_path):
    files = {f"cpu{i}/topology/thread_siblings_list": f"{i % 2},{i % 2 + 2}\n" for i in range(4)}
    assert machine._physical({0, 1, 2, 3}, tree(tmp_path, files)) == 2
    assert machine._physical({0, 1, 2, 3}, tmp_path / "none") == 4


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_one_allowed_cpu_means_one_thread():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert machine.available_threads() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_cpu_model_is_read_from_cpuinfo(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(
        "processor : 0\nmodel name : Quick CPU: 3 GHz\nprocessor : 1\nmodel name : other\n"
    )
    assert machine.cpu_model(tmp_path / "cpuinfo") == "Quick CPU: 3 GHz"
    assert machine.cpu_model(tmp_path / "none")
