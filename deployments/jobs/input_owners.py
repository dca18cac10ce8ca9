"""Owners and uses of stored inputs. Equal files share one object in the storage, so it may have several owners."""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

from sqlalchemy import delete, select

from deployments.jobs.database import Database, insert_or_update
from deployments.jobs.job import JobState
from deployments.jobs.schema import input_owners as table
from deployments.jobs.schema import jobs
from deployments.jobs.unneeded_inputs import InputUses
from wan22_bridge.types import INPUTS

_AT_ONCE = 500
"""Number of rows that one query reads, or that one transaction deletes."""
_USES = (
    select(jobs.c.number, jobs.c.state, *(jobs.c.params[name].as_string().label(name) for name in INPUTS))
    .order_by(jobs.c.number)
    .limit(_AT_ONCE)
)


class InputOwners:
    """Records who has stored which inputs. Its transactions are short."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def record(self, owner: str, keys: Collection[str]) -> None:
        """Records that an owner has stored inputs now, named by their keys in the storage.

        The owner is empty for inputs without one, which only callers who see everything can name. They are recorded
        because the cleaning removes no input that the database does not know.
        """
        if not keys:
            return
        with self._database.writing() as connection:
            row = insert_or_update(connection.dialect.name, table)
            renew = row.on_conflict_do_update(
                index_elements=["key", "owner"], set_={"stored_at": row.excluded.stored_at}
            )
            rows = [{"key": key, "owner": owner, "stored_at": self._clock()} for key in sorted(set(keys))]
            connection.execute(renew, rows)

    def has(self, owner: str, key: str) -> bool:
        """Returns whether an owner has stored an input."""
        with self._database.reading() as connection:
            found = select(table.c.key).where(table.c.key == key, table.c.owner == owner)
            return connection.execute(found).one_or_none() is not None

    def all(self) -> dict[str, list[str]]:
        """Returns the names of the owners of each recorded input by its key; an empty name stands for no owner."""
        owners = defaultdict[str, list[str]](list)
        with self._database.reading() as connection:
            for row in connection.execute(select(table.c.key, table.c.owner)):
                owners[row.key].append(row.owner)
        return dict(owners)

    def uses(self) -> InputUses:
        """Returns the inputs to which jobs refer. It reads the jobs in chunks."""
        needed, by_jobs, last = set[str](), set[str](), 0
        while True:
            with self._database.reading() as connection:
                rows = connection.execute(_USES.where(jobs.c.number > last)).all()
            if not rows:
                return InputUses(needed=frozenset(needed), by_jobs=frozenset(by_jobs))
            last = rows[-1].number
            for row in rows:
                keys = [key for name in INPUTS if (key := getattr(row, name))]
                by_jobs.update(keys)
                if not JobState(row.state).ended:
                    needed.update(keys)

    def forget(self, keys: Sequence[str], *, stored_before: float) -> None:
        """Forgets the owners of removed inputs, except those who have stored one again since."""
        for start in range(0, len(keys), _AT_ONCE):
            gone = table.c.key.in_(keys[start : start + _AT_ONCE]) & (table.c.stored_at < stored_before)
            with self._database.writing() as connection:
                connection.execute(delete(table).where(gone))

    def prune(self, *, keep: Collection[str], older_than_seconds: float) -> None:
        """Forgets the owners of inputs that were stored longer ago than this, except those of the keys in `keep`."""
        before = self._clock() - older_than_seconds
        with self._database.reading() as connection:
            old = connection.execute(select(table.c.key).where(table.c.stored_at < before).distinct()).scalars().all()
        # Another owner may have stored the same file since.
        self.forget([key for key in old if key not in keep], stored_before=before)
