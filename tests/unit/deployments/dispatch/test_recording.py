"""The recording of the machine's use."""

import asyncio
from pathlib import Path

from deployments.dispatch.recording import StatsRecorder
from deployments.jobs.stats_history import Use
from deployments.jobs.store import JobStore


def test_the_first_row_waits_until_the_use_of_the_cpu_is_known(tmp_path: Path) -> None:
    store = JobStore(f"sqlite:///{tmp_path}/jobs.db")

    async def record() -> Use:
        recorder = StatsRecorder(store)
        while not (points := store.stats.read(1).points):
            recorder.start()
            sum(range(100_000))  # keeps the CPU busy
            await asyncio.sleep(0.02)
        recorder.stop()
        return points[0][1]

    use = asyncio.run(asyncio.wait_for(record(), 60))
    assert use.cpu_percent > 0
    store.database.close()
