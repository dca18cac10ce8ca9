"""Memory and cores that this process may use, within the limits of its container (cgroups v1 and v2)."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_SYSTEM = Path("/")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ram:
    """RAM of the machine, or of the container if that is less."""

    total_bytes: int
    available_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _MemoryFiles:
    """Names of the files of one version of cgroups."""

    limit: str
    usage: str
    reclaimable: str
    """Entry of `memory.stat` for cached files, which the kernel gives up when memory is short."""


_V1 = _MemoryFiles(limit="memory.limit_in_bytes", usage="memory.usage_in_bytes", reclaimable="total_inactive_file")
_V2 = _MemoryFiles(limit="memory.max", usage="memory.current", reclaimable="inactive_file")


def read_ram(root: Path = _SYSTEM) -> Ram:
    """Returns the RAM that this process may use.

    Args:
        root: The folder that contains `proc` and `sys`.
    """
    memory = psutil.virtual_memory()
    total, available = memory.total, memory.available
    for folder, files in _memory_folders(root):
        limit, usage = _read_number(folder / files.limit), _read_number(folder / files.usage)
        if limit is None or limit >= memory.total:
            continue
        total = min(total, limit)
        if usage is not None:
            used = usage - _read_entry(folder / "memory.stat", files.reclaimable)
            available = min(available, max(0, limit - used))
    return Ram(total_bytes=total, available_bytes=min(available, total))


def count_cores(root: Path = _SYSTEM) -> int:
    """Returns the number of cores that this process may use at the same time, at least 1.

    Args:
        root: The folder that contains `proc` and `sys`.
    """
    quotas = [quota for folder in _folders(root, "cpu") if (quota := _read_quota(folder)) is not None]
    return max(1, min([len(os.sched_getaffinity(0)), *map(math.ceil, quotas)]))


def _memory_folders(root: Path) -> Iterator[tuple[Path, _MemoryFiles]]:
    for folder in _folders(root, "memory"):
        for files in (_V1, _V2):
            if (folder / files.limit).is_file():
                yield folder, files


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Yields the folders of this process's cgroup and of those that contain it, each of which has limits.

    Inside a container the paths in /proc/self/cgroup may be those of the host. Then the container's own limits are at
    the top of the mounted tree, which is among the yielded folders too.
    """
    mounted = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            trees = [mounted, mounted / "unified"]
        elif controller in controllers.split(","):
            trees = [mounted / controller, mounted / controllers]
        else:
            continue
        own = Path(path.lstrip("/"))
        for tree in trees:
            for folder in (own, *own.parents):
                if (tree / folder).is_dir():
                    yield tree / folder


def _read_quota(folder: Path) -> float | None:
    """Returns the cores that a cgroup may use; None if it has no limit."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        microseconds, of = _read_number(folder / "cpu.cfs_quota_us"), _read_number(folder / "cpu.cfs_period_us")
        return None if not microseconds or microseconds < 0 or not of else microseconds / of
    return None if quota == "max" else int(quota) / int(period)


def _read_number(path: Path) -> int | None:
    """Returns the number in a file; None if there is none, as in `max`."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _read_entry(path: Path, name: str) -> int:
    """Returns an entry of `memory.stat`; 0 if it is missing."""
    try:
        entries = dict(line.split() for line in path.read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(entries.get(name, 0))
