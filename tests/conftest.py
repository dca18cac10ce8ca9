"""Fixtures for all kinds of tests, and their distribution over the processes of a parallel run."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.service import Service, running_service

# Hypothesis tries the same examples in each run, without a time limit that a slow machine would exceed.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs with SIGINT ignored. Processes that tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


UNIT = Path(__file__).parent / "unit"
_MOST_WORKERS = 4
"""Each worker runs torch, and perhaps a service: more of them would need more memory than a small machine has."""


def pytest_xdist_auto_num_workers() -> int:
    """Sets the number of workers of `pytest -n auto`: one for each core, up to a limit."""
    return min(len(os.sched_getaffinity(0)), _MOST_WORKERS)


def pytest_configure() -> None:
    """Gives each worker cores of its own, which its subprocesses inherit.

    Threads of several processes on the same core make torch many times slower, because they wait for each other.
    """
    name = os.environ.get("PYTEST_XDIST_WORKER")
    if name is not None:
        index, count = int(name.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[index::count])


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups the tests that run in the same worker: those of one service, and those of one unit test module.

    A test that starts services of its own goes to whichever worker is free.
    """
    for item in items:
        shares = isinstance(item, pytest.Function) and "service" in item.fixturenames
        if UNIT in item.path.parents:
            item.add_marker(pytest.mark.xdist_group(item.path.name))
        elif shares:
            own = hasattr(item.getparent(pytest.Module).obj, "service")  # type: ignore[union-attr]
            item.add_marker(pytest.mark.xdist_group(item.path.name if own else "service"))


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service that most integration tests share, started once."""
    with running_service(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for built-in models, shared by the tests."""
    return tmp_path_factory.mktemp("models")
