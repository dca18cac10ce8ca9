"""The valid keys, as one ingress replica holds them in memory."""

import asyncio
import logging
import time

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from deployments.jobs.api_keys import ApiKey, ApiKeys, parse_key

logger = logging.getLogger("ray.serve")

REFRESH_SECONDS = 2.0
"""Maximum time until a replica notices that a key was created or revoked."""
_USE_SECONDS = 60.0
"""Minimum time between two writes of a key's last use by one replica."""
_NO_SECRET = "0" * 64


class KeyRing:
    """Finds the keys of requests, without a query for each of them."""

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys
        self._valid: dict[str, ApiKey] = {}
        self._read_at = float("-inf")
        self._used_at: dict[str, float] = {}
        self._reading = asyncio.Lock()

    async def find(self, text: str) -> ApiKey | None:
        """Returns the valid key with this text, or None. An unknown id takes as long as a wrong secret.

        Raises:
            SQLAlchemyError: the keys can't be read.
        """
        await self._refresh()
        key_id, secret = parse_key(text) or ("", _NO_SECRET)
        known = self._valid.get(key_id)
        key = known or _NOBODY
        if not key.matches(secret) or known is None or not key.is_valid(time.time()):
            return None
        await self._record_use(key)
        return key

    async def find_by_id(self, key_id: str) -> ApiKey | None:
        """Returns the valid key with this id, for a sender who has proved before to have it, or None.

        Raises:
            SQLAlchemyError: the keys can't be read.
        """
        await self._refresh()
        key = self._valid.get(key_id)
        if key is None or not key.is_valid(time.time()):
            return None
        await self._record_use(key)
        return key

    async def holds(self, key: ApiKey) -> bool:
        """Returns whether a key that was found before is still valid.

        Raises:
            SQLAlchemyError: the keys can't be read.
        """
        await self._refresh()
        return key.id in self._valid and key.is_valid(time.time())

    async def _refresh(self) -> None:
        if time.monotonic() < self._read_at + REFRESH_SECONDS:
            return
        async with self._reading:
            started = time.monotonic()
            if started >= self._read_at + REFRESH_SECONDS:
                self._valid = await run_in_threadpool(self._keys.valid)
                self._read_at = started

    async def _record_use(self, key: ApiKey) -> None:
        now = time.monotonic()
        if now < self._used_at.get(key.id, float("-inf")) + _USE_SECONDS:
            return
        self._used_at[key.id] = now
        try:
            await run_in_threadpool(self._keys.record_use, key.id)
        except SQLAlchemyError:
            logger.warning("The last use of the key %s is not written", key.id, extra={"action": "key_use_lost"})


_NOBODY = ApiKey(
    id="",
    owner="",
    scopes=frozenset(),
    secret_hash="0" * 64,
    created_at=0.0,
    lifetime_seconds=None,
    expires_at=None,
    revoked_at=None,
    last_used_at=None,
)
"""A key that no secret matches."""
