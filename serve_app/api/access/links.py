"""Signed links: addresses of a video's files that need no key until they expire."""

import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from typing import Literal, get_args
from urllib.parse import urlencode

from deployments.jobs.stored_settings import LINK_SECRET, StoredSettings, make_link_secret

MAX_SECONDS = 7 * 24 * 3600
"""Longest lifetime of a link."""
DEFAULT_SECONDS = 3600
LinkedFile = Literal["video", "download", "thumbnail", "last_frame"]
"""Files of a video that links can name, as the routes below `/api/v1/outputs/{id}` do."""
_SIGNED = re.compile(rf"/api/v1/outputs/[^/]+/({'|'.join(get_args(LinkedFile))})")
_REFRESH_SECONDS = 2.0
"""Maximum time until a replica notices a new secret."""


class LinkSigner:
    """Signs paths, and verifies the signatures in requests."""

    def __init__(self, settings: StoredSettings) -> None:
        self._settings = settings
        self._secret = b""
        self._read_at = float("-inf")

    def sign(self, path: str, seconds: int) -> tuple[str, float]:
        """Returns the path with a signature in its query, and the time at which it expires.

        Args:
            path: path of a file, without a reverse proxy's prefix.
            seconds: lifetime of the link.
        """
        expires = int(time.time()) + seconds
        query = urlencode({"expires": expires, "signature": self._signature(path, str(expires))})
        return f"{path}?{query}", float(expires)

    def verifies(self, path: str, query: Mapping[str, str]) -> bool:
        """Returns whether a query holds the signature of the path, and the link has not expired."""
        expires, signature = query.get("expires", ""), query.get("signature", "")
        is_late = re.fullmatch(r"[0-9]{1,12}", expires) is None or int(expires) <= time.time()
        matches = hmac.compare_digest(signature.encode(), self._signature(path, expires).encode())
        return matches and not is_late

    def signature_of(self, text: str) -> str:
        """Returns the signature of a text. Texts of links begin with `/`, so others must not."""
        return hmac.new(self._read_secret(), text.encode(), hashlib.sha256).hexdigest()

    def _signature(self, path: str, expires: str) -> str:
        return self.signature_of(f"{path}\n{expires}")

    def _read_secret(self) -> bytes:
        """Returns the secret, which all replicas share. `wan22 keys rotate-links` replaces it."""
        now = time.monotonic()
        if now >= self._read_at + _REFRESH_SECONDS:
            stored = self._settings.get(LINK_SECRET) or self._settings.get_or_put(LINK_SECRET, make_link_secret())
            self._secret, self._read_at = bytes.fromhex(stored), now
        return self._secret


def is_signed(path: str, query: Mapping[str, str]) -> bool:
    """Returns whether a request has the form of a signed link."""
    return "signature" in query and _SIGNED.fullmatch(path) is not None
