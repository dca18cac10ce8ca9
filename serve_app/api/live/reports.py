"""Measurements and states that are not in the event log. They are read at intervals while a socket wants them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from serve_app.api.downloading import look, read_statuses
from serve_app.api.live.alerts import read_alerts
from serve_app.api.live.feed import Feed
from serve_app.api.live.messages import ALERTS, DOWNLOADS, MODELS, STATS, Message
from serve_app.api.schemas.models import DownloadProgress
from serve_app.api.schemas.system import StatsBody
from serve_app.api.services import Services

logger = logging.getLogger("ray.serve")

Found = dict[str, Message]
"""Messages by a name, under which the next reading has the same thing."""
_NOT_COMPARED = ("last_update", "download_progress", "download_speed_mbps", "download_eta_seconds")
"""Fields whose change alone is no news of a topic: times, and what has a topic of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A topic whose messages are read at intervals."""

    topic: str
    seconds: float
    """Time between two readings."""
    read: Callable[[], Awaitable[Found]]


class Reports:
    """Reads each report while a socket of this replica is subscribed to its topic, and publishes what has changed."""

    def __init__(self, services: Services, feed: Feed) -> None:
        self._services, self._feed = services, feed
        self._found: dict[str, Found] = {}
        """The last reading of each topic that is wanted now."""
        self._reports = [
            Report(topic=STATS, seconds=2.0, read=self._read_stats),
            Report(topic=MODELS, seconds=2.0, read=self._read_models),
            Report(topic=DOWNLOADS, seconds=1.0, read=self._read_downloads),
            Report(topic=ALERTS, seconds=5.0, read=lambda: read_alerts(services)),
        ]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Reads in the background while the context is open."""
        tasks = [asyncio.create_task(self._run(report)) for report in self._reports]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()

    def current(self, topic: str) -> list[Message]:
        """Returns the messages of a topic's last reading; none if the first reading is still to be published."""
        return list(self._found.get(topic, {}).values())

    async def _run(self, report: Report) -> None:
        topic = report.topic
        while True:
            if not self._feed.is_wanted(topic):
                self._found.pop(topic, None)
            await self._feed.wait_until_wanted(topic)
            try:
                found = await report.read()
            except Exception:
                logger.exception("The report of %s failed; it is repeated", topic, extra={"action": "report_failed"})
            else:
                self._publish(topic, found)
            await asyncio.sleep(report.seconds)

    def _publish(self, topic: str, found: Found) -> None:
        before = self._found.get(topic, {})
        changed = [message for name, message in found.items() if _differs(message, before.get(name))]
        gone = [message for name, message in before.items() if name not in found and topic == ALERTS]
        ended = [(kind, data | {"active": False}) for kind, data in gone]
        self._found[topic] = found
        if changed or ended:
            self._feed.publish(topic, changed + ended)

    async def _read_stats(self) -> Found:
        measured = await run_in_threadpool(self._services.meter.read)
        stats = StatsBody.of(measured).model_dump(mode="json")
        found: Found = {"stats": ("system_stats_update", stats)}
        if stats["gpus"]:
            names = ("vram_used_mb", "vram_total_mb", "vram_percent", "gpus", "timestamp")
            found["vram"] = ("vram_monitoring", {name: stats[name] for name in names})
        return found

    async def _read_models(self) -> Found:
        statuses = await read_statuses(self._services, self._services.served)
        return {
            model_id: ("model_status_update", status.model_dump(mode="json")) for model_id, status in statuses.items()
        }

    async def _read_downloads(self) -> Found:
        available, _ = await look(self._services)
        return {
            spec.id: (
                "download_progress_update",
                DownloadProgress.of(spec, available[spec.id]).model_dump(mode="json"),
            )
            for spec in self._services.served
        }


def _differs(message: Message, before: Message | None) -> bool:
    """Returns whether a message says something new."""
    if before is None or message[0] == "system_stats_update":
        return True
    ignored = _NOT_COMPARED
    values, earlier = (
        {name: value for name, value in data.items() if name not in ignored} for _, data in (message, before)
    )
    return values != earlier
