"""Retries of requests to the hub."""

import errno
import logging
import random
from collections.abc import Callable
from typing import TypeVar

import httpx2
from huggingface_hub.errors import HfHubHTTPError

from wan22_bridge.errors import DownloadFailed
from wan22_bridge.fetching.progress import FetchProgress
from wan22_bridge.reasons import find_reason

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 8
"""Maximum attempts without progress."""
MAX_WAIT_SECONDS = 60.0
"""Maximum wait between two attempts."""

_T = TypeVar("_T")


def retry(
    request: Callable[[], _T], progress: FetchProgress, *, what: str, received: Callable[[], int] = lambda: 0
) -> _T:
    """Repeats a request with growing waits while the network or the hub fails temporarily.

    Args:
        request: Function that sends the request.
        progress: Progress of the fetch, which can stop the retries.
        what: Name of the file or model, for errors and log lines.
        received: Returns the bytes received so far. Any progress resets the count of attempts.

    Raises:
        DownloadFailed: The hub rejected the request, or `MAX_ATTEMPTS` in a row made no progress.
        FetchStopped: The fetch was stopped.
        OSError: The disk is full or can't be written.
    """
    failures, before = 0, received()
    while True:
        progress.raise_if_stopped()
        try:
            return request()
        except (HfHubHTTPError, httpx2.TransportError, OSError) as exc:
            failures, before = (1, received()) if received() > before else (failures + 1, before)
            if not _is_temporary(exc):
                if isinstance(exc, HfHubHTTPError):
                    reason = f"the hub answered {exc.response.status_code}"
                    raise DownloadFailed(f"{what} could not be downloaded: {reason}.", code="hub_refused") from exc
                raise
            if failures >= MAX_ATTEMPTS:
                raise DownloadFailed(
                    f"{what} could not be downloaded: {find_reason(exc)}.",
                    code="download_failed",
                    suggestions=["Start the download again: it resumes from the bytes already received."],
                    can_retry=True,
                ) from exc
            backoff_seconds = random.uniform(0.5, 1) * min(MAX_WAIT_SECONDS, 2.0**failures / 2)
            seconds = max(_retry_after_seconds(exc), backoff_seconds)
            logger.warning("The request for %s failed: %s; retrying in %.1f s", what, find_reason(exc), seconds)
            progress.wait(seconds)


def _is_temporary(error: Exception) -> bool:
    """Returns whether the same request may succeed later."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    return not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


def _retry_after_seconds(error: Exception) -> float:
    """Returns the wait in seconds that the hub asks for with 429 and 503."""
    value = error.response.headers.get("retry-after", "") if isinstance(error, HfHubHTTPError) else ""
    return min(float(value), MAX_WAIT_SECONDS) if value.isdigit() else 0.0
