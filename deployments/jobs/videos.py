"""Completed videos as their owners see them: searched and filtered lists, favorites, tags, and deletion with undo."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Text, cast, func, select, update

from deployments.jobs.database import Database
from deployments.jobs.events import EventLog
from deployments.jobs.job import MOCK_MODEL, Job, JobState
from deployments.jobs.reading import read_counts, read_leaving, read_output_bytes, read_page
from deployments.jobs.rows import find_row, fold_text, to_job
from deployments.jobs.schema import jobs

_COMPLETED = jobs.c.state == JobState.COMPLETED
_LEAVING = jobs.c.deletion_due_at.is_not(None)
_TAGS = cast(jobs.c.tags, Text)
_WIDTH, _HEIGHT = (jobs.c.params[name].as_integer() for name in ("width", "height"))


class Shape(StrEnum):
    """The shape of a video."""

    LANDSCAPE = "landscape"
    PORTRAIT = "portrait"
    SQUARE = "square"


_SHAPES = {Shape.LANDSCAPE: _WIDTH > _HEIGHT, Shape.PORTRAIT: _WIDTH < _HEIGHT, Shape.SQUARE: _WIDTH == _HEIGHT}


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoFilter:
    """Conditions that a listed video meets, all of them. None stands for no condition."""

    query: str | None = None
    """Words that the prompt contains, in any order, in small or capital letters."""
    model_type: str | None = None
    shape: Shape | None = None
    favorite: bool | None = None
    tag: str | None = None
    is_mock: bool | None = None
    completed_from: float | None = None
    """First time of completion, in seconds since the epoch."""
    completed_before: float | None = None
    """End of the times of completion, in seconds since the epoch, which is not included."""

    def conditions(self) -> list[ColumnElement[bool]]:
        """Returns the conditions in SQL."""
        words = fold_text(self.query or "").split()
        found = [jobs.c.searched_text.contains(word, autoescape=True) for word in words]
        if self.model_type is not None:
            found.append(jobs.c.params["model_type"].as_string() == self.model_type)
        if self.shape is not None:
            found.append(_SHAPES[self.shape])
        if self.favorite is not None:
            found.append(jobs.c.favorite.is_(self.favorite))
        if self.tag is not None:
            found.append(_TAGS.contains(json.dumps(self.tag), autoescape=True))
        if self.is_mock is not None:
            found.append((jobs.c.model == MOCK_MODEL).is_(self.is_mock))
        if self.completed_from is not None:
            found.append(jobs.c.completed_at >= self.completed_from)
        if self.completed_before is not None:
            found.append(jobs.c.completed_at < self.completed_before)
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoTotals:
    """Number and size of videos."""

    count: int
    size_bytes: int


class Videos:
    """Reads and changes completed videos. Each method is one short transaction.

    With an `owner`, the videos of other owners do not exist for a method. A video that is about to be deleted is in no
    list and no total.
    """

    def __init__(self, database: Database, events: EventLog, clock: Callable[[], float]) -> None:
        self._database, self._events, self._clock = database, events, clock

    def page(
        self,
        conditions: VideoFilter,
        *,
        after: str | None = None,
        limit: int = 100,
        newest_first: bool = True,
        owner: str | None = None,
    ) -> tuple[list[Job], VideoTotals]:
        """Returns a page of the videos that meet the conditions, and the totals over all pages.

        Args:
            conditions: what the videos have in common.
            after: id of the last video of the previous page, which may have been deleted since.
            limit: the largest number of videos to return.
            newest_first: whether to list the newest submission first, or the oldest.
            owner: lists and counts only the videos of this owner.

        Raises:
            JobNotFound: there is no job `after`.
        """
        met = conditions.conditions()
        with self._database.reading() as connection:
            query = select(jobs).where(*met)
            found = read_page(connection, query, [JobState.COMPLETED], after, limit, newest_first, owner=owner)
            if met:
                return found, _sum(connection, [*met, ~_LEAVING], owner)
            count = read_counts(connection, owner=owner)[JobState.COMPLETED]
            size_bytes = read_output_bytes(connection, owner=owner) - read_leaving(connection, owner=owner)[1]
            return found, VideoTotals(count=count, size_bytes=size_bytes)

    def tags(self, *, owner: str | None = None) -> Counter[str]:
        """Returns the number of videos with each tag."""
        query = select(jobs.c.tags).where(_COMPLETED, ~_LEAVING, _TAGS != "[]")
        if owner is not None:
            query = query.where(jobs.c.owner == owner)
        with self._database.reading() as connection:
            return Counter(tag for tags in connection.execute(query).scalars() for tag in tags)

    def mark(
        self,
        job_id: str,
        *,
        favorite: bool | None = None,
        tags: Sequence[str] | None = None,
        owner: str | None = None,
    ) -> Job:
        """Writes whether a video is a favorite, or its tags; None leaves them as they are. Returns the job.

        Raises:
            JobNotFound: there is no job with this id.
        """
        marks = {"favorite": favorite, "tags": tags}
        values = {name: value for name, value in marks.items() if value is not None}
        with self._database.writing() as connection:
            row = find_row(connection, job_id, lock=True, owner=owner)
            return to_job(_change(connection, row, values) if values else row)

    def delete_later(self, job_id: str, *, seconds: float, owner: str | None = None) -> None:
        """Takes a video out of all lists now, and lets `due_deletions` name it after a time.

        The event `deleted` reports that. Until the deletion, the video is found by its id.

        Raises:
            JobNotFound: there is no job with this id.
        """
        self._write_due(job_id, self._clock() + seconds, owner)

    def restore(self, job_id: str, *, owner: str | None = None) -> Job:
        """Puts a video back into the lists that was about to be deleted, and returns its job.

        The event `restored` reports that, unless the video was in the lists already.

        Raises:
            JobNotFound: there is no job with this id: it may be deleted already.
        """
        return self._write_due(job_id, None, owner)

    def due_deletions(self) -> list[str]:
        """Returns the ids of the videos whose time before their deletion has passed."""
        query = select(jobs.c.id).where(jobs.c.deletion_due_at <= self._clock()).order_by(jobs.c.deletion_due_at)
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def _write_due(self, job_id: str, due_at: float | None, owner: str | None) -> Job:
        with self._database.writing() as connection:
            before = find_row(connection, job_id, lock=True, owner=owner)
            job = to_job(_change(connection, before, {"deletion_due_at": due_at}))
            if (before.deletion_due_at is None) != (due_at is None):
                self._events.append(connection, job, "restored" if due_at is None else "deleted")
            return job


def _change(connection: Connection, row: Row[Any], values: Mapping[str, Any]) -> Row[Any]:
    return connection.execute(update(jobs).where(jobs.c.number == row.number).values(**values).returning(jobs)).one()


def _sum(connection: Connection, conditions: Sequence[ColumnElement[bool]], owner: str | None) -> VideoTotals:
    """Counts videos one by one."""
    size_bytes = func.coalesce(func.sum(jobs.c.output["file_size_bytes"].as_float()), 0)
    query = select(func.count(), size_bytes).where(_COMPLETED, *conditions)
    if owner is not None:
        query = query.where(jobs.c.owner == owner)
    count, total = connection.execute(query).one()
    return VideoTotals(count=count, size_bytes=int(total))
