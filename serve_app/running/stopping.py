"""Stopping Ray Serve and Ray without losing jobs and without errors on the terminal."""

import contextlib
import time

import psutil

_SERVE_SECONDS = 30.0
"""Maximum time for the replicas to end their work."""
_PROCESS_SECONDS = 5.0
"""Maximum time for processes to end by themselves before they are killed."""


def stop_serve() -> None:
    """Stops all applications, then the proxies and the controller of Serve.

    `serve.shutdown()` waits in a call to the controller. The controller ends during that call, and Ray prints
    that the call failed and will be retried. So this function only asks for the shutdown, and watches for its end.
    """
    import ray
    from ray.exceptions import RayError
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

    if not ray.is_initialized():
        return
    deadline = time.monotonic() + _SERVE_SECONDS
    try:
        controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
        ray.get(controller.graceful_shutdown.remote(wait=False), timeout=_SERVE_SECONDS)
        while time.monotonic() < deadline:
            time.sleep(0.1)
            ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    except (ValueError, RayError):  # Ray raises ValueError when there is no such actor.
        return


def kill_ray() -> None:
    """Kills all processes that this process has started, and disconnects from Ray.

    It is for a Ray that has lost one of its own processes: the others would wait for that one.
    """
    import ray

    started = psutil.Process().children(recursive=True)
    for process in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(started, timeout=_PROCESS_SECONDS)
    ray.shutdown()


def stop_ray() -> None:
    """Stops Ray, and kills the processes that do not end in time."""
    import ray

    started = psutil.Process().children(recursive=True)
    ray.shutdown()
    _, alive = psutil.wait_procs(started, timeout=_PROCESS_SECONDS)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=_PROCESS_SECONDS)
