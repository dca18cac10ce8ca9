"""Tests of the limits of containers, with files as the kernel writes them."""

import os
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from wan22_bridge.machine import count_cores, read_ram

GIB = 2**30
LIMIT, USED, CACHED = GIB, 700 << 20, 200 << 20
NO_LIMIT_V1 = str(9223372036854771712)

V2_MEMORY = {
    "memory.max": f"{LIMIT}\n",
    "memory.current": f"{USED}\n",
    "memory.stat": f"anon 5\ninactive_file {CACHED}\n",
}
V1_MEMORY = {
    "memory.limit_in_bytes": f"{LIMIT}\n",
    "memory.usage_in_bytes": f"{USED}\n",
    "memory.stat": f"cache 5\ntotal_inactive_file {CACHED}\n",
}
V2 = "0::{path}\n"
V1 = "9:name=systemd:{path}\n4:memory:{path}\n1:cpu,cpuacct:{path}\n0::/\n"

MEMORY = {
    "v2 in a container": (V2, "/", "sys/fs/cgroup", V2_MEMORY),
    "v2 in a slice": (V2, "/kubepods/pod1/main", "sys/fs/cgroup/kubepods/pod1/main", V2_MEMORY),
    "v2 of the pod": (V2, "/kubepods/pod1/main", "sys/fs/cgroup/kubepods/pod1", V2_MEMORY),
    "v1 in a container with the host's path": (V1, "/docker/1234", "sys/fs/cgroup/memory", V1_MEMORY),
    "v1 in a slice": (V1, "/user/1", "sys/fs/cgroup/memory/user/1", V1_MEMORY),
}
CORES: dict[str, tuple[str, str, str, dict[str, str], int | None]] = {
    "v2": (V2, "/", "sys/fs/cgroup", {"cpu.max": "100000 100000\n"}, 1),
    "v2, half a core": (V2, "/pod", "sys/fs/cgroup/pod", {"cpu.max": "50000 100000\n"}, 1),
    "v1": (
        V1,
        "/a",
        "sys/fs/cgroup/cpu,cpuacct/a",
        {"cpu.cfs_quota_us": "90000\n", "cpu.cfs_period_us": "100000\n"},
        1,
    ),
    "v2, no limit": (V2, "/", "sys/fs/cgroup", {"cpu.max": "max 100000\n"}, None),
    "v1, no limit": (V1, "/", "sys/fs/cgroup/cpu", {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, None),
    "v2, more than the machine has": (V2, "/", "sys/fs/cgroup", {"cpu.max": "99900000 100000\n"}, None),
}


def write(root: Path, line: str, path: str, folder: str, files: Mapping[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(line.format(path=path))
    (root / folder).mkdir(parents=True)
    for name, content in files.items():
        (root / folder / name).write_text(content)
    return root


@pytest.mark.parametrize("case", MEMORY)
def test_ram_is_that_of_the_container_and_cached_files_are_available(case: str, tmp_path: Path) -> None:
    ram = read_ram(write(tmp_path, *MEMORY[case]))

    assert ram.total_bytes == LIMIT
    assert ram.available_bytes == LIMIT - USED + CACHED


@pytest.mark.parametrize(
    ("line", "folder", "files"),
    [
        (V2, "sys/fs/cgroup", {"memory.max": "max\n", "memory.current": f"{USED}\n"}),
        (V1, "sys/fs/cgroup/memory", {"memory.limit_in_bytes": NO_LIMIT_V1, "memory.usage_in_bytes": f"{USED}\n"}),
        (V2, "sys/fs/cgroup", {"memory.max": "not a number\n"}),
    ],
)
def test_ram_without_a_limit_is_that_of_the_machine(
    line: str, folder: str, files: Mapping[str, str], tmp_path: Path
) -> None:
    ram = read_ram(write(tmp_path, line, "/", folder, files))

    assert ram.total_bytes == psutil.virtual_memory().total
    assert 0 < ram.available_bytes < ram.total_bytes


def test_a_container_that_uses_all_its_memory_has_none_available(tmp_path: Path) -> None:
    root = write(tmp_path, V2, "/", "sys/fs/cgroup", {"memory.max": f"{LIMIT}", "memory.current": f"{LIMIT + 1}"})

    assert read_ram(root).available_bytes == 0


def test_the_smallest_limit_of_nested_containers_applies(tmp_path: Path) -> None:
    root = write(tmp_path, V2, "/pod/main", "sys/fs/cgroup/pod/main", V2_MEMORY)
    (root / "sys/fs/cgroup/pod/memory.max").write_text(f"{LIMIT // 2}")

    assert read_ram(root).total_bytes == LIMIT // 2


@pytest.mark.parametrize("case", CORES)
def test_cores_follow_the_quota_of_the_container(case: str, tmp_path: Path) -> None:
    line, path, folder, files, expected = CORES[case]

    assert count_cores(write(tmp_path, line, path, folder, files)) == (expected or len(os.sched_getaffinity(0)))


def test_a_machine_without_cgroups_has_no_limits(tmp_path: Path) -> None:
    assert read_ram(tmp_path).total_bytes == psutil.virtual_memory().total
    assert count_cores(tmp_path) == len(os.sched_getaffinity(0))
