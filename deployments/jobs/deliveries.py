"""Deliveries of webhooks: the rows of the outbox on their way to the receivers.

A delivery is pending until its receiver accepts it or no attempt is left. An attempt begins with a claim, which moves
the time of the next attempt forward: if the process dies, another one claims the delivery then.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, func, select, update

from deployments.jobs.database import Database
from deployments.jobs.rows import is_storable
from deployments.jobs.schema import webhook_deliveries as table
from wan22_bridge.errors import NotFound

LEASE_SECONDS = 30.0
"""Time after which a delivery whose attempt has no result is attempted again. It is well above the time limit of an
attempt."""
_PRUNED_AT_ONCE = 1000
"""Number of deliveries that one transaction deletes, so that other writers wait for a moment only."""


class DeliveryState(StrEnum):
    """The state of a delivery."""

    PENDING = "pending"
    """The first or the next attempt is due or planned."""
    DELIVERED = "delivered"
    """The receiver has accepted the webhook."""
    FAILED = "failed"
    """No attempt is left, or the receiver wants no further attempt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One webhook for one receiver. Times are seconds since the epoch."""

    number: int
    """Serial number, which orders the listings."""
    id: str
    """The header `webhook-id`, the same in each attempt."""
    job_id: str
    owner: str
    """Owner of the job."""
    url: str
    receiver: str
    """Host and port of the URL."""
    trusted: bool
    """Whether the operator has set the receiver, so that it may have a private address."""
    type: str
    payload: str
    """The body, in JSON."""
    state: DeliveryState
    attempts: int
    next_attempt_at: float | None
    last_status: int | None
    """HTTP status of the last attempt; None if there was no response."""
    last_error: str | None
    """Reason why the last attempt failed."""
    created_at: float
    delivered_at: float | None


class DeliveryNotFound(NotFound):
    """There is no such webhook."""

    default_code = "webhook_not_found"


class Deliveries:
    """Reads and writes deliveries. Each method is one short transaction.

    With an `owner`, only the deliveries of this owner's jobs to the receivers of their own requests exist for a method.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def get(self, delivery_id: str, *, owner: str | None = None) -> Delivery:
        """Returns one delivery.

        Raises:
            DeliveryNotFound: there is no delivery with this id.
        """
        with self._database.reading() as connection:
            return _to_delivery(_find_row(connection, delivery_id, owner=owner))

    def page(
        self,
        *,
        state: DeliveryState | None = None,
        job_id: str | None = None,
        after: str | None = None,
        limit: int = 100,
        owner: str | None = None,
    ) -> list[Delivery]:
        """Returns a page of deliveries, newest first.

        Args:
            state: lists only deliveries in this state.
            job_id: lists only the deliveries of this job.
            after: id of the last delivery of the previous page.
            limit: the largest number of deliveries to return.
            owner: lists only the deliveries of this owner.

        Raises:
            DeliveryNotFound: there is no delivery `after`.
        """
        query = select(table).order_by(table.c.number.desc()).limit(limit)
        if owner is not None:
            query = query.where(table.c.owner == owner, table.c.trusted.is_(False))
        if state is not None:
            query = query.where(table.c.state == state)
        if job_id is not None:
            if not is_storable(job_id):
                return []
            query = query.where(table.c.job_id == job_id)
        with self._database.reading() as connection:
            if after is not None:
                found = _find_row(connection, after, param="after", owner=owner)
                query = query.where(table.c.number < found.number)
            return [_to_delivery(row) for row in connection.execute(query)]

    def claim(self, *, trusted: bool, limit: int, busy: Mapping[str, int], limit_per_receiver: int) -> list[Delivery]:
        """Claims due deliveries for one attempt each. No other process attempts them before the lease ends.

        Args:
            trusted: whether to claim deliveries to the operator's receivers, or to those of requests.
            limit: the largest number of deliveries to claim.
            busy: number of attempts in progress by receiver.
            limit_per_receiver: the largest number of attempts in progress for one receiver.
        """
        in_progress = Counter(busy)
        claimed: list[Delivery] = []
        with self._database.reading() as connection:  # usually nothing is due, and a writer would make others wait
            if limit <= 0 or connection.execute(self._due(trusted, in_progress, limit_per_receiver, 1)).first() is None:
                return []
        with self._database.writing() as connection:
            while len(claimed) < limit:
                due = self._due(trusted, in_progress, limit_per_receiver, limit - len(claimed))
                rows = connection.execute(due.with_for_update(skip_locked=True)).all()
                if not rows:
                    break
                for row in rows:
                    if in_progress[row.receiver] < limit_per_receiver:
                        in_progress[row.receiver] += 1
                        claimed.append(self._claim_row(connection, row))
        return claimed

    def _due(self, trusted: bool, in_progress: Mapping[str, int], limit_per_receiver: int, limit: int) -> Select[Any]:
        """Returns the query for due deliveries to receivers that are not busy."""
        full = [receiver for receiver, count in in_progress.items() if count >= limit_per_receiver]
        return (
            select(table)
            .where(table.c.state == DeliveryState.PENDING, table.c.next_attempt_at <= self._database.now())
            .where(table.c.trusted == trusted, table.c.receiver.not_in(full))
            .order_by(table.c.next_attempt_at)
            .limit(limit)
        )

    def _claim_row(self, connection: Connection, row: Row[Any]) -> Delivery:
        values = {"attempts": row.attempts + 1, "next_attempt_at": self._database.now() + LEASE_SECONDS}
        changed = update(table).where(table.c.number == row.number).values(**values).returning(table)
        return _to_delivery(connection.execute(changed).one())

    def record_success(self, claimed: Delivery, status: int) -> None:
        """Ends a claimed delivery that its receiver has accepted with an HTTP status."""
        values = {"state": DeliveryState.DELIVERED, "next_attempt_at": None, "delivered_at": self._clock()}
        self._record(claimed, values | {"last_status": status, "last_error": None})

    def record_failure(self, claimed: Delivery, *, status: int | None, error: str, delay_seconds: float | None) -> None:
        """Writes the failed attempt of a claimed delivery.

        Args:
            claimed: the delivery as `claim` returned it.
            status: HTTP status of the response; None if there was none.
            error: reason for people.
            delay_seconds: time until the next attempt; None ends the delivery.
        """
        values: dict[str, Any] = {"last_status": status, "last_error": error}
        if delay_seconds is None:
            values |= {"state": DeliveryState.FAILED, "next_attempt_at": None}
        else:
            values |= {"next_attempt_at": self._database.now() + delay_seconds}
        self._record(claimed, values)

    def _record(self, claimed: Delivery, values: Mapping[str, Any]) -> None:
        """Writes the result of an attempt, unless the lease has ended and another attempt has begun."""
        held = and_(
            table.c.number == claimed.number,
            table.c.state == DeliveryState.PENDING,
            table.c.next_attempt_at == claimed.next_attempt_at,
        )
        with self._database.writing() as connection:
            connection.execute(update(table).where(held).values(**values))

    def replay(self, delivery_id: str, *, owner: str | None = None) -> Delivery:
        """Makes a delivery due at once, with its id and its payload, and returns it.

        A delivery that has ended gets all its attempts again. One whose attempt is due or in progress stays as it is.

        Raises:
            DeliveryNotFound: there is no delivery with this id.
        """
        with self._database.writing() as connection:
            row = _find_row(connection, delivery_id, lock=True, owner=owner)
            now = connection.execute(select(self._database.now())).scalar_one()
            values: dict[str, Any] = {"next_attempt_at": now}
            if row.state != DeliveryState.PENDING:
                values |= {"state": DeliveryState.PENDING, "attempts": 0, "delivered_at": None}
                values |= {"last_status": None, "last_error": None}
            elif row.next_attempt_at <= now + LEASE_SECONDS:
                return _to_delivery(row)
            changed = update(table).where(table.c.number == row.number).values(**values).returning(table)
            return _to_delivery(connection.execute(changed).one())

    def count_older(self, *, than_seconds: float) -> int:
        """Returns the number of ended deliveries that were created longer ago than this."""
        with self._database.reading() as connection:
            old = select(func.count()).select_from(table).where(*self._are_old(than_seconds))
            return int(connection.execute(old).scalar_one())

    def prune(self, *, older_than_seconds: float) -> int:
        """Deletes the ended deliveries that were created longer ago than this, and returns their number."""
        old = (
            select(table.c.number)
            .where(*self._are_old(older_than_seconds))
            .order_by(table.c.created_at)
            .limit(_PRUNED_AT_ONCE)
        )
        deleted, total = _PRUNED_AT_ONCE, 0
        while deleted == _PRUNED_AT_ONCE:
            with self._database.writing() as connection:
                deleted = connection.execute(delete(table).where(table.c.number.in_(old))).rowcount
            total += deleted
        return total

    def _are_old(self, seconds: float) -> tuple[ColumnElement[bool], ...]:
        return table.c.created_at < self._clock() - seconds, table.c.state != DeliveryState.PENDING


def _find_row(
    connection: Connection,
    delivery_id: str,
    *,
    lock: bool = False,
    param: str | None = None,
    owner: str | None = None,
) -> Row[Any]:
    row = None
    if is_storable(delivery_id):
        query = select(table).where(table.c.id == delivery_id)
        row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None or (owner is not None and (row.owner != owner or row.trusted)):
        raise DeliveryNotFound(
            f"There is no webhook {delivery_id[:80]!r}.",
            param=param,
            suggestions=["List the webhooks to find its id: GET /api/v1/webhooks."],
        )
    return row


def _to_delivery(row: Row[Any]) -> Delivery:
    return Delivery(**dict(row._mapping) | {"state": DeliveryState(row.state)})
