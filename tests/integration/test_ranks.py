"""A generator that denoises with a second process, on the real Ray Serve graph."""

from pathlib import Path

import psutil

from tests.service import LONG, Service, running_service, wait_until


def followers(service: Service) -> list[psutil.Process]:
    """The processes that denoise together with a generator."""
    alive = [process for process in service.processes() if process.status() != psutil.STATUS_ZOMBIE]
    return [process for process in alive if "wan22_bridge.ranks.follower" in process.cmdline()]


def test_a_job_fails_cleanly_when_a_process_dies_and_the_next_one_works(tmp_path: Path) -> None:
    with running_service(tmp_path, generator={"parallel_degree": 2}) as service:
        assert service.finished()["result"]["optimizations_applied"] == ["context parallel over 2"]
        [follower] = followers(service)
        job = service.submit(**LONG)
        wait_until(lambda: service.task(job)["progress"] > 5)
        follower.kill()
        failed = service.wait_for(job, "failed")
        assert failed["error"]["code"] == "rank_lost"
        assert failed["error"]["can_retry"]
        assert service.finished()["result"]["optimizations_applied"] == ["context parallel over 2"]
        left = followers(service)
        assert len(left) == 1
    _, alive = psutil.wait_procs(left, timeout=10)
    assert alive == []
