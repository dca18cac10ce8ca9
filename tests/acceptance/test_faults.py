"""Jobs survive the death of Serve's controller, an unavailable database, the death of another service, and generators
that cannot start, run out of memory, hang, or lose their GPU.
"""

import ctypes
import os
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import torch
from transformers import UMT5EncoderModel

from deployments.generation.generator import HUNG
from tests.bucket import serving_bucket
from tests.pictures import png
from tests.service import LONG, Service, running_service, wait_until
from wan22_bridge.builtin import ensure_tiny_model

AWAY_SECONDS = 20
SPARE_BYTES = 100_000_000
BREAK_GPU = "WAN22_TEST_BREAK_GPU"
"""Environment variable with the path of a file that makes the next pass of an expert fail like a broken GPU."""
PTRACE_ATTACH, WAIT_FOR_A_THREAD = 16, 0x40000000
"""Constants of Linux."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with one generator for all models, which notices a hung step soon."""
    folder = tmp_path_factory.mktemp("faults")
    injected = {"PYTHONPATH": str(Path(__file__).parent / "injection"), BREAK_GPU: str(folder / "break-gpu")}
    models = ["tiny-t2v", {"id": "large", "like": "tiny-ti2v", "path": str(_make_large_model(folder))}]
    generator = {"shared": True, "hang_seconds": 10, "checkpoint_interval_seconds": 0.5, "loaded_models": 2}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in injected.items():
            environment.setenv(name, value)
        with running_service(folder, models=models, generator=generator, lease_seconds=60) as running:
            yield running


def _begun(service: Service, task_id: str, step: int = 3) -> bool:
    return bool(service.task(task_id)["current_step"] >= step)


def test_two_services_run_each_job_once_and_resume_each_others_jobs(tmp_path: Path) -> None:
    """Two services share a database and a bucket, but no folder, as on two machines."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    with serving_bucket() as url:
        common: dict[str, Any] = {"database_url": f"sqlite:///{tmp_path}/jobs.db", "storage_url": url}
        common |= {"generator": {"checkpoint_interval_seconds": 0.5, "preview_interval_seconds": 0.5}}
        with running_service(one, **common) as first, running_service(other, **common) as second:
            with ThreadPoolExecutor() as threads:
                tasks = list(threads.map(lambda service: service.submit(), [first, second] * 4))
            found = [first.wait_for(task_id, "completed", "failed") for task_id in tasks]
            assert [(task["status"], task["attempt"]) for task in found] == [("completed", 1)] * len(tasks)
            claims = [task_id for service in (first, second) for task_id in tasks if _has_claimed(service, task_id)]
            assert sorted(claims) == sorted(tasks), "each job was claimed once, by one of the services"
            assert all(_has_frame(second, task_id) for task_id in tasks), (
                "a service shows the videos of the other service too"
            )

            task_id, ended, left = _begin_with_an_image(first, second)
            ended.kill()
            task = left.wait_for(task_id, "completed", "failed")
            assert (task["status"], task["attempt"]) == ("completed", 2)
            assert task["result"]["resumed_from_step"] >= 2
            assert _has_frame(left, task_id)
            assert not list((left.data_dir / "outputs").iterdir()), "the outputs are in the bucket"


def _begin_with_an_image(first: Service, second: Service) -> tuple[str, Service, Service]:
    """Starts a job with an image and waits until both services show its preview.

    Returns:
        The job's id, the service that runs the job, and the other service.
    """
    with first.client() as client:
        upload = client.post("/api/v1/uploads", files={"file": ("red.png", png())}).json()["id"]
    task_id = first.submit(**LONG | {"steps": 30}, model_type="i2v", image_path=upload)
    wait_until(lambda: _begun(first, task_id))
    runs, other = (first, second) if _has_claimed(first, task_id) else (second, first)
    with other.client() as client:
        wait_until(lambda: client.get(f"/api/v1/generation/{task_id}/preview").is_success)
    return task_id, runs, other


def _has_frame(service: Service, task_id: str) -> bool:
    with service.client() as client:
        return client.get(f"/api/v1/outputs/{task_id}/last_frame").is_success


def _has_claimed(service: Service, task_id: str) -> bool:
    return f"Job {task_id} claimed" in service.log.read_text()


def test_jobs_survive_generators_that_cannot_start_run_out_of_memory_or_hang(service: Service) -> None:
    _kill_while_it_starts(service, times=3)
    [process] = service.replicas("generator")
    _run_out_of_memory(service, process)
    assert service.replicas("generator") == [process], "the generator's process survives"

    task_id = service.submit(**LONG | {"steps": 40})
    wait_until(lambda: _begun(service, task_id))
    assert _hang(process) == HUNG
    task = service.wait_for(task_id, "completed", "failed")
    assert (task["status"], task["attempt"]) == ("completed", 2)
    assert task["result"]["resumed_from_step"] >= 2


def test_a_job_resumes_in_another_process_after_an_error_of_cuda(service: Service) -> None:
    service.finished()
    [process] = service.replicas("generator")
    task_id = service.submit(**LONG | {"steps": 40})
    wait_until(lambda: _begun(service, task_id))

    Path(os.environ[BREAK_GPU]).touch()

    task = service.wait_for(task_id, "completed", "failed")
    assert (task["status"], task["attempt"]) == ("completed", 2)
    assert task["result"]["resumed_from_step"] >= 2
    assert not process.is_running()
    assert "The device failed: this process exits" in service.log.read_text()
    assert service.finished()["attempt"] == 1


def _make_large_model(folder: Path) -> Path:
    """Creates a tiny model whose vocabulary takes four hundred megabytes."""
    model = ensure_tiny_model(folder / "made", "ti2v")
    encoder = UMT5EncoderModel.from_pretrained(model / "text_encoder", dtype=torch.float32)
    encoder.resize_token_embeddings(1_000_000, mean_resizing=False)
    encoder.save_pretrained(model / "text_encoder")
    return model


def _kill_while_it_starts(service: Service, *, times: int) -> None:
    """Kills starting generators more often than Serve retries by default, which is three times."""
    task_id = service.submit()
    killed = set[psutil.Process]()
    while len(killed) < times:
        [starting] = wait_until(lambda: set(service.replicas("generator")) - killed, every=0.01)
        starting.kill()
        killed.add(starting)
    task = service.wait_for(task_id, "completed", "failed")
    assert (task["status"], task["attempt"]) == ("completed", 1), "only an attempt that has begun the job counts"


def _run_out_of_memory(service: Service, process: psutil.Process) -> None:
    """Limits a generator's memory while it loads the large model; without the limit, the same process succeeds."""
    limits = process.rlimit(psutil.RLIMIT_AS)
    process.rlimit(psutil.RLIMIT_AS, (process.memory_info().vms + SPARE_BYTES, limits[1]))
    task = service.wait_for(service.submit(model_type="large"), "completed", "failed")
    assert (task["status"], task["error"]["code"]) == ("failed", "vram_insufficient")
    process.rlimit(psutil.RLIMIT_AS, limits)
    assert service.finished(model_type="large")["attempt"] == 1


def _hang(process: psutil.Process) -> int:
    """Stops one computing thread of a generator, so that the denoising step never ends.

    The thread is the youngest of those with the most CPU time: a worker of the thread that waits for the step, without
    Python's global lock.

    Returns:
        The exit status of the process.
    """
    threads = process.threads()
    most = max(thread.user_time for thread in threads)
    youngest = max(thread.id for thread in threads if thread.user_time > most / 2)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.ptrace(PTRACE_ATTACH, youngest, None, None) == 0, os.strerror(ctypes.get_errno())
    assert os.WIFSTOPPED(os.waitpid(youngest, WAIT_FOR_A_THREAD)[1])
    return os.waitstatus_to_exitcode(os.waitpid(youngest, WAIT_FOR_A_THREAD)[1])


def test_a_job_continues_without_the_controller_and_while_the_database_is_locked(service: Service) -> None:
    task_id = service.submit(**LONG | {"steps": 40})
    wait_until(lambda: _begun(service, task_id))
    [controller] = [found for found in service.processes() if "ServeController" in " ".join(found.cmdline())]
    controller.kill()
    assert service.task(task_id)["status"] == "processing", "the ingress needs no controller"
    assert service.finished()["attempt"] == 1
    task = service.wait_for(task_id, "completed", "failed")
    assert (task["status"], task["attempt"]) == ("completed", 1)

    task_id = service.submit(**LONG | {"steps": 40})
    wait_until(lambda: _begun(service, task_id))
    with sqlite3.connect(service.data_dir / "jobs.db", isolation_level=None) as database:
        database.execute("BEGIN EXCLUSIVE")
        time.sleep(AWAY_SECONDS)  # the outage itself
        database.execute("ROLLBACK")
    waiting = service.submit()
    task = service.wait_for(task_id, "completed", "failed")
    assert (task["status"], task["attempt"]) == ("completed", 1)
    assert service.wait_for(waiting, "completed", "failed")["status"] == "completed"


@pytest.mark.parametrize("name", ["HAProxyManager", "haproxy"])
def test_the_service_answers_again_after_the_death_of_its_http_proxy(service: Service, name: str) -> None:
    task_id = service.submit(**LONG | {"steps": 40})
    [proxy] = [found for found in service.processes() if _program(found).endswith(name)]

    proxy.kill()

    wait_until(lambda: _answers(service), seconds=120)
    task = service.wait_for(task_id, "completed", "failed")
    assert (task["status"], task["attempt"]) == ("completed", 1)


def _program(process: psutil.Process) -> str:
    """Returns the first word of a process's command; Ray puts the name of an actor there."""
    try:
        return "".join(process.cmdline()[:1])
    except psutil.Error:
        return ""


def _answers(service: Service) -> bool:
    try:
        with service.client() as client:
            return client.get("/readyz").is_success
    except httpx.TransportError:
        return False
