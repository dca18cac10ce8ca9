"""Conditional requests: a client that has the newest version of a resource gets a response without a body."""

from collections.abc import Mapping
from http import HTTPStatus

REVALIDATED = "private, no-cache"
"""Cache-Control of all files of a video. Browsers may keep a file, and ask before each use whether it still exists, so
that they show no deleted video. Caches that several people share keep nothing."""


def is_known(etag: str, if_none_match: str | None) -> bool:
    """Returns whether an `If-None-Match` header names an entity tag, by the weak comparison of RFC 9110.

    Args:
        etag: the entity tag of the newest version.
        if_none_match: the header's value: entity tags separated by commas, or `*`; None if there is none.
    """
    tags = [tag.removeprefix("W/") for tag in _split(if_none_match or "")]
    return "*" in tags or etag.removeprefix("W/") in tags


def is_expected(etag: str, if_match: str | None) -> bool:
    """Returns whether an `If-Match` header permits an entity tag, by the strong comparison of RFC 9110.

    Args:
        etag: the entity tag of the newest version.
        if_match: the header's value: entity tags separated by commas, or `*`; None if there is none.
    """
    if if_match is None:
        return True
    tags = _split(if_match)
    return "*" in tags or (etag in tags and not etag.startswith("W/"))


def status_for(headers: Mapping[str, str], *, etag: str, last_modified: str) -> HTTPStatus | None:
    """Returns the status with which a conditional request for a file ends, or None if it gets the file.

    An `If-Modified-Since` header must repeat the file's `Last-Modified`, because a file never changes.

    Args:
        headers: the request's headers.
        etag: the file's entity tag.
        last_modified: the file's `Last-Modified` header.
    """
    if not is_expected(etag, headers.get("if-match")):
        return HTTPStatus.PRECONDITION_FAILED
    if "if-none-match" in headers:
        return HTTPStatus.NOT_MODIFIED if is_known(etag, headers["if-none-match"]) else None
    return HTTPStatus.NOT_MODIFIED if headers.get("if-modified-since") == last_modified else None


def _split(header: str) -> list[str]:
    """Returns the entity tags of a header. This service's own tags contain no comma."""
    return [tag.strip() for tag in header.split(",")]
