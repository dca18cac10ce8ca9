"""Fixtures for all kinds of tests, and their distribution over the processes of a parallel run."""

import gc
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tests.service import PROXY, Service, running_service

# Hypothesis tries the same examples in each run, without a time limit that a slow machine would exceed.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs with SIGINT ignored. Processes that tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


_MAX_WORKERS = 4
"""Each worker runs torch, and perhaps a service: more workers would need more memory than a small machine has."""
_SERVICE_SECONDS = 600
"""Time limit of a test with a service: on a slow machine, starting two services takes minutes."""
_OWN_SERVICES = (
    "test_faults",
    "test_keys",
    "test_restart",
    "test_start",
    "test_stop",
    "test_downloads",
    "test_ranks",
    "test_scaling",
    "test_webhooks",
)
"""Modules whose tests start services of their own."""


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Distributes the tests over the workers of a parallel run, in units that stay together.

    All tests of the shared service are one unit, so that it starts once. Every other module is a unit of its own.
    xdist's own groups (`--dist loadgroup`) do not work with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("::")[0] if _is_alone(nodeid) else "shared service"


def _is_alone(nodeid: str) -> bool:
    """Returns whether a test does not use the shared service."""
    path = nodeid.partition("::")[0]
    return "/unit/" in path or Path(path).stem in _OWN_SERVICES


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests of the shared service first, one after the other. Tests of services get more time."""
    items.sort(key=lambda item: _is_alone(item.nodeid))
    for item in items:
        if "/unit/" not in item.nodeid:
            item.add_marker(pytest.mark.timeout(_SERVICE_SECONDS))


def pytest_collection_finish() -> None:
    """Excludes what exists now from garbage collections.

    The imported modules hold half a million objects for the whole run. Each full collection would visit them, and
    pytest makes several at its end.
    """
    gc.collect()
    gc.freeze()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Scheduling:
    """Installs the distribution."""
    return _Scheduling(config, log)


def pytest_xdist_auto_num_workers() -> int:
    """Sets the number of workers of `pytest -n auto`: one for each core, up to a limit."""
    return min(len(os.sched_getaffinity(0)), _MAX_WORKERS)


def pytest_configure() -> None:
    """Prepares a worker of a parallel run: gives it cores of its own, and no width of a terminal.

    Threads of several processes on one core make torch many times slower.
    """
    name = os.environ.get("PYTEST_XDIST_WORKER")
    if name is not None:
        os.environ.pop("COLUMNS", None)  # xdist sets 80, which commands that tests run would take for their width
        index, count = int(name.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[index::count])


_shared = ExitStack()
"""Stops the shared service, while it runs."""
_running: list[Service] = []


@pytest.fixture
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """The service that most integration tests share. It starts with the first test that needs it."""
    if not _running:
        folder = tmp_path_factory.mktemp("service")
        _running.append(
            _shared.enter_context(running_service(folder, trusted_proxies=[PROXY], allowed_hosts=["videos.example"]))
        )
    return _running[0]


def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Stops the shared service as soon as the next test does not need it, because an idle service uses the CPU too."""
    if nextitem is None or _is_alone(nextitem.nodeid):
        _running.clear()
        _shared.close()


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for built-in models, shared by the tests."""
    return tmp_path_factory.mktemp("models")
