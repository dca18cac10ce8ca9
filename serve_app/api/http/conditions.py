"""Conditional requests: a client that has the newest version of a resource gets a response without a body."""


def is_known(etag: str, if_none_match: str | None) -> bool:
    """Returns whether an `If-None-Match` header names an entity tag, by the weak comparison of RFC 9110.

    Args:
        etag: the entity tag of the newest version.
        if_none_match: the header's value: entity tags separated by commas, or `*`; None if there is none.
    """
    tags = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return "*" in tags or etag.removeprefix("W/") in tags
