"""Kills of the processes of a running service, at random moments that a seed decides."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import psutil

REPLACED = {
    "generator": "ray::ServeReplica:wan22:generator",
    "ingress": "ray::ServeReplica:wan22:ingress",
    "dispatcher": "ray::ServeReplica:wan22:dispatcher",
    "downloader": "ray::ServeReplica:wan22:downloader",
    "controller": "ray::ServeController",
    "HAProxy": "haproxy",
    "HAProxy's manager": "ray::HAProxyManager",
    "Serve's proxy": "ray::ProxyActor",
    "decoder": "wan22_bridge.media.decoder_program",
}
"""Processes that the service replaces by itself, with a part of their command."""
ENDING = {"raylet": "raylet/raylet", "Ray's GCS": "gcs_server"}
"""Processes without which Ray ends, so that the whole service is started again."""
EVERYTHING = "everything"
"""Name for all processes of the service at once, as at a loss of power."""


class Service(Protocol):
    """A running service."""

    def processes(self) -> list[psutil.Process]: ...


class Killer:
    """Chooses victims so that each kind is killed about equally often, and counts the kills."""

    def __init__(self, seed: int, kinds: Sequence[str]) -> None:
        """Makes a killer.

        Args:
            seed: decides the moments and, among the processes that run then, the victims.
            kinds: names of the processes to kill.
        """
        self._chance = random.Random(seed)
        self._kinds = list(kinds)
        self.kills: Counter[str] = Counter(dict.fromkeys(kinds, 0))

    def wait_seconds(self, mean: float) -> float:
        """Returns the time until the next kill, which does not depend on the time since the last one."""
        return self._chance.expovariate(1 / mean)

    def kill(self, service: Service, most: int) -> str | None:
        """Kills a random process with SIGKILL.

        Args:
            service: the service.
            most: the largest number of kills of a kind.

        Returns:
            The kind; None if no process runs of the kinds that may be killed.
        """
        processes = _commands(service)
        order = sorted(self._kinds, key=lambda kind: (self.kills[kind], self._chance.random()))
        for kind in order:
            victims = [process for process, command in processes if _is_of(kind, command)]
            if victims and self.kills[kind] < most:
                for victim in victims if kind == EVERYTHING else [self._chance.choice(victims)]:
                    _kill(victim)
                self.kills[kind] += 1
                return kind
        return None


def kill_rest(processes: Sequence[psutil.Process]) -> int:
    """Kills those of the processes that still run, and returns their number."""
    alive = [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    for process in alive:
        _kill(process)
    psutil.wait_procs(alive, timeout=60)
    return len(alive)


def _commands(service: Service) -> list[tuple[psutil.Process, str]]:
    found = []
    for process in service.processes():
        try:
            found.append((process, " ".join(process.cmdline())))
        except psutil.Error:  # it has ended
            continue
    return found


def _is_of(kind: str, command: str) -> bool:
    if kind == "HAProxy":  # its manager's command holds the same word
        return command.startswith(REPLACED[kind])
    return kind == EVERYTHING or (REPLACED | ENDING)[kind] in command


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
