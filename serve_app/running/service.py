"""Running the service in the foreground until a signal stops it."""

import json
import logging
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from serve_app.running.config import find_url
from serve_app.running.dashboard import describe_dashboard
from serve_app.running.interruption import Interruption
from serve_app.running.stopping import kill_ray, stop_ray, stop_serve
from serve_app.running.watching import find_ended, find_essential

_WATCH_SECONDS = 2.0
"""Interval at which Ray's own processes are checked."""
_READY_SECONDS = 300.0
"""Maximum time from the deployment of the application until it is ready."""


class _StartFailed(Exception):
    """The service could not start."""


class _RayEnded(Exception):
    """A process of Ray has ended that nothing replaces."""


def run(
    config: dict[str, Any],
    interruption: Interruption,
    *,
    verbose: bool,
    say: Callable[[str], None],
    say_error: Callable[[str], None],
) -> int:
    """Serves until SIGINT or SIGTERM. When it returns, every process that it started has ended.

    It also ends if one of Ray's own processes does, because Ray does not replace these, and the service then answers
    nothing. Whatever has started this process can start it again, and the jobs continue.

    Args:
        config: a checked Serve config.
        interruption: the signals, which it already listens to.
        verbose: whether the terminal shows the logs of Ray and the replicas.
        say: prints a line for the user.
        say_error: prints the reason for a failed start.

    Returns:
        The exit status: 0 after a signal, 1 if the application could not start, or if Ray ended.
    """
    try:
        _start(config, verbose, interruption, say)
        _watch(interruption)
    except _RayEnded as exc:
        say_error(str(exc))
        kill_ray()
        return 1
    except _StartFailed as exc:
        say_error(str(exc))
        return 1
    finally:
        interruption.ignore()
        stop_serve()
        stop_ray()
    say("Stopped.")
    return 0


def _watch(interruption: Interruption) -> None:
    """Waits for a signal.

    Raises:
        _RayEnded: Ray can't work any more.
    """
    processes = find_essential()
    while not interruption.wait(_WATCH_SECONDS):
        if (name := find_ended(processes)) is not None:
            raise _RayEnded(f"Ray's process {name} has ended, so the service stops. Start it again: its jobs continue.")


def _start(config: dict[str, Any], verbose: bool, interruption: Interruption, say: Callable[[str], None]) -> None:
    """Starts Ray and the application, and waits until the service is ready or a signal arrives."""
    from ray.exceptions import RayError

    if interruption.wait(0):
        return
    try:
        dashboard = _start_ray(verbose, interruption)
        if interruption.wait(0):
            return
        say(f"Starting. {describe_dashboard(dashboard)}")
        _deploy(config)
        _wait_until_ready(config, interruption, say)
    except (SystemExit, RayError, TimeoutError) as exc:
        # `serve run` prints its errors itself, and then exits without a reason.
        reason = "" if isinstance(exc, SystemExit) else f": {str(exc).partition(chr(10))[0]}"
        raise _StartFailed(f"Ray Serve could not start{reason}. Start the service with --verbose to see why.") from exc


def _start_ray(verbose: bool, interruption: Interruption) -> str:
    """Starts Ray; returns the address of its dashboard, which is empty after an interruption."""
    import ray

    try:
        context = ray.init(
            "local", namespace="serve", log_to_driver=verbose, logging_level=logging.INFO if verbose else logging.ERROR
        )
    except SystemExit:  # raised by the handler of SIGTERM that ray.init installs
        interruption.request()
        return ""
    except Exception as exc:  # Ray raises a bare Exception, for example on a machine too busy to start in 30 s
        raise _StartFailed(f"Ray could not start: {str(exc).partition(chr(10))[0]}") from exc
    interruption.listen()
    return str(context.dashboard_url)


def _deploy(config: dict[str, Any]) -> None:
    from ray.serve.scripts import cli

    with tempfile.TemporaryDirectory(prefix="wan22-") as folder:
        path = Path(folder) / "serve_config.yaml"
        path.write_text(yaml.safe_dump(config), "utf-8")
        cli.main(["run", "--non-blocking", str(path)], standalone_mode=False)


def _wait_until_ready(config: dict[str, Any], interruption: Interruption, say: Callable[[str], None]) -> None:
    from ray import serve

    url = find_url(config)
    deadline = time.monotonic() + _READY_SECONDS
    while not interruption.wait(0.2):
        if _is_ready(url):
            say(f"Ready: {url}   API: {url}/docs   Ctrl-C stops it.")
            return
        for name, application in serve.status().applications.items():
            if application.status == "DEPLOY_FAILED":
                raise _StartFailed(f"The application {name} could not start: {application.message}")
        if time.monotonic() > deadline:
            raise _StartFailed(f"The service was not ready within {_READY_SECONDS:.0f} s. Start it with --verbose.")


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return bool(json.load(answer).get("status") == "ready")
    except (urllib.error.URLError, OSError, ValueError):
        return False
