"""The choice of the stored inputs that nobody needs any more."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from deployments.jobs.retention import NEW_INPUT_SECONDS, Retention, fair_share
from deployments.storage.protocol import StoredInput


@dataclass(frozen=True, kw_only=True, slots=True)
class InputUses:
    """Keys of the inputs to which jobs refer."""

    needed: frozenset[str]
    """Inputs of pending and running jobs, which must stay."""
    by_jobs: frozenset[str]
    """Inputs of all jobs."""


def choose_unneeded(
    inputs: Iterable[StoredInput],
    uses: InputUses,
    owners: Mapping[str, Collection[str]],
    retention: Retention,
    now: float,
) -> list[StoredInput]:
    """Returns the inputs to remove: those that are too old, and then the oldest ones up to the limits on bytes.

    Args:
        inputs: all stored inputs.
        uses: the inputs to which jobs refer.
        owners: names of the owners of each input by its key. An input that is missing has no owner.
        retention: the limits.
        now: the present time in seconds since the epoch.
    """
    found = list(inputs)
    total, by_owner = sum(item.size_bytes for item in found), Counter[str]()
    for item in found:
        by_owner.update(dict.fromkeys(owners.get(item.key) or ("",), item.size_bytes))
    share = fair_share(by_owner.values(), retention.input_bytes) if retention.input_bytes is not None else None
    removable = [item for item in found if item.key not in uses.needed and now - item.stored_at > NEW_INPUT_SECONDS]
    too_old = {item.key for item in removable if _is_too_old(item, uses, retention, now)}
    chosen = []
    for item in sorted(removable, key=lambda item: (item.key not in too_old, item.key in uses.by_jobs, item.stored_at)):
        sizes = [by_owner[owner] for owner in owners.get(item.key) or ("",)]
        is_too_much = _exceeds(total, retention.input_bytes) and all(_exceeds(size, share) for size in sizes)
        is_owners = all(_exceeds(size, retention.input_bytes_per_owner) for size in sizes)
        if item.key in too_old or is_too_much or is_owners:
            chosen.append(item)
            total -= item.size_bytes
            by_owner.subtract(dict.fromkeys(owners.get(item.key) or ("",), item.size_bytes))
    return chosen


def _is_too_old(item: StoredInput, uses: InputUses, retention: Retention, now: float) -> bool:
    max_age_seconds = retention.input_seconds if item.key in uses.by_jobs else retention.upload_seconds
    return max_age_seconds is not None and now - item.stored_at > max_age_seconds


def _exceeds(size_bytes: int, limit: int | None) -> bool:
    return limit is not None and size_bytes > limit
