"""Who holds what: each generator's replica tells what it has loaded, for as long as it lives."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from sqlalchemy import delete, insert, select, update

from deployments.jobs.database import Database
from deployments.jobs.schema import replicas

TELL_SECONDS = 10.0
"""How often a replica tells that it is there."""
SILENT_SECONDS = 45.0
"""One that has told nothing for so long is gone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedInfo:
    """A model in a replica."""

    model: str
    plan: list[str]
    """What is done to make it fit, in words."""
    load_seconds: float
    vram_mb: float
    """On the device as it was loaded; 0 on a CPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplicaInfo:
    """A generator's replica."""

    id: str
    deployment: str
    node: str
    process_id: int
    device: str
    """As its maker calls it."""
    job_id: str | None
    """What it runs."""
    models: list[LoadedInfo]
    """What it has loaded; the one that was used last is the last."""


class Holdings:
    """What replicas tell, in the database of the jobs."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    def tell(self, info: ReplicaInfo) -> None:
        """Writes what a replica holds now, and forgets those that have gone."""
        values = {"data": json.dumps(asdict(info)), "seen_at": self._clock()}
        with self._database.writing() as connection:
            connection.execute(delete(replicas).where(replicas.c.seen_at < self._clock() - SILENT_SECONDS))
            changed = connection.execute(update(replicas).where(replicas.c.id == info.id).values(**values))
            if not changed.rowcount:
                connection.execute(insert(replicas).values(id=info.id, **values))

    def remove(self, replica_id: str) -> None:
        """A replica ends."""
        with self._database.writing() as connection:
            connection.execute(delete(replicas).where(replicas.c.id == replica_id))

    def all(self) -> list[ReplicaInfo]:
        """The replicas that are there, by their ids."""
        alive = select(replicas.c.data).where(replicas.c.seen_at >= self._clock() - SILENT_SECONDS)
        with self._database.reading() as connection:
            found = [json.loads(data) for data in connection.execute(alive.order_by(replicas.c.id)).scalars()]
        return [ReplicaInfo(**data | {"models": [LoadedInfo(**model) for model in data["models"]]}) for data in found]
