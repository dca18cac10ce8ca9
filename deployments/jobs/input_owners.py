"""Owners of stored inputs. Equal files share one object in the storage, so an object may have several owners."""

from collections.abc import Callable, Collection

from sqlalchemy import bindparam, delete, select

from deployments.jobs.database import Database, insert_or_update
from deployments.jobs.schema import input_owners as table


class InputOwners:
    """Records who has stored which inputs. Each method is one short transaction."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def record(self, owner: str, keys: Collection[str]) -> None:
        """Records that an owner has stored inputs now, named by their keys in the storage.

        Nothing is recorded for inputs without an owner, which only callers who see everything can name.
        """
        if not owner or not keys:
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

    def prune(self, *, keep: Collection[str], older_than_seconds: float) -> None:
        """Forgets the owners of inputs that were stored longer ago than this, except those of the keys in `keep`."""
        with self._database.writing() as connection:
            is_old = table.c.stored_at < self._clock() - older_than_seconds
            old = select(table.c.key).where(is_old).distinct()
            gone = [{"gone": key} for key in connection.execute(old).scalars() if key not in keep]
            if gone:  # another owner may have stored the same file since
                connection.execute(delete(table).where(table.c.key == bindparam("gone"), is_old), gone)
