"""Fixtures for all kinds of tests, and their distribution over the processes of a parallel run."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tests.service import Service, running_service

# Hypothesis tries the same examples in each run, without a time limit that a slow machine would exceed.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs with SIGINT ignored. Processes that tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


_MAX_WORKERS = 4
"""Each worker runs torch, and perhaps a service: more workers would need more memory than a small machine has."""
_OWN_SERVICES = ("test_faults", "test_restart", "test_start", "test_downloads", "test_ranks", "test_scaling")
"""Modules whose tests start services of their own."""


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Distributes the tests over the workers of a parallel run, in units that stay together.

    All tests of the shared service are one unit, so that it starts once. Every other module is a unit of its own.
    xdist's own groups (`--dist loadgroup`) do not work with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return path if "/unit/" in path or Path(path).stem in _OWN_SERVICES else "shared service"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Scheduling:
    """Installs the distribution."""
    return _Scheduling(config, log)


def pytest_xdist_auto_num_workers() -> int:
    """Sets the number of workers of `pytest -n auto`: one for each core, up to a limit."""
    return min(len(os.sched_getaffinity(0)), _MAX_WORKERS)


def pytest_configure() -> None:
    """Gives each worker cores of its own. Threads of several processes on one core make torch many times slower."""
    name = os.environ.get("PYTEST_XDIST_WORKER")
    if name is not None:
        index, count = int(name.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[index::count])


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service that most integration tests share, started once."""
    with running_service(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for built-in models, shared by the tests."""
    return tmp_path_factory.mktemp("models")
