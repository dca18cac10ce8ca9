"""Watching the processes of Ray without which a service can't work."""

from collections.abc import Mapping

import psutil

_ESSENTIAL = ("gcs_server", "raylet")
"""Names of Ray's own processes. Ray replaces all others, and Ray Serve its actors."""


def find_essential() -> dict[str, psutil.Process]:
    """Returns, by name, the processes of Ray that this process has started and that nothing replaces."""
    return {child.name(): child for child in psutil.Process().children() if child.name() in _ESSENTIAL}


def find_ended(processes: Mapping[str, psutil.Process]) -> str | None:
    """Returns the name of a process that has ended; None if all of them run."""
    for name, process in processes.items():
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return name
    return None
