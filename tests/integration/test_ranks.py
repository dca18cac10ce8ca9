"""A generator with two ranks, on the real Ray Serve graph."""

from pathlib import Path

import psutil

from tests.service import LONG, Service, running_service, wait_until


def followers(service: Service) -> list[psutil.Process]:
    """Returns the processes of a generator's other ranks."""
    alive = [process for process in service.processes() if process.status() != psutil.STATUS_ZOMBIE]
    return [process for process in alive if "wan22_bridge.follower" in process.cmdline()]


def test_a_job_resumes_when_a_rank_dies(tmp_path: Path) -> None:
    with running_service(tmp_path, generator={"parallel_degree": 2}) as service:
        assert service.finished()["result"]["optimizations_applied"] == ["context parallel over 2"]
        [follower] = followers(service)
        job = service.submit(**LONG | {"steps": 40})
        wait_until(lambda: service.task(job)["progress"] > 5)
        follower.kill()
        done = service.wait_for(job, "completed")
        assert done["attempt"] == 1
        assert done["result"]["optimizations_applied"] == ["context parallel over 2"]
        left = followers(service)
        assert len(left) == 1
    _, alive = psutil.wait_procs(left, timeout=10)
    assert alive == []
