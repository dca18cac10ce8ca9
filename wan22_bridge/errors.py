"""Errors that the service reports to programs and to people.

Wan22Error
├── InvalidRequest        The request is invalid; a different request can succeed
├── ConfigurationError    The service is configured wrongly
├── NotFound              The job, video, upload or model does not exist
├── Conflict              The resource's state does not allow the operation
├── PayloadTooLarge       An upload or a request body exceeds the limit
├── ModelMissing          A model's files are not on this machine
├── DownloadFailed        A model's files could not be downloaded
├── ModelCorrupted        A model's files are on this machine, but can't be loaded
├── OutOfMemory           The device has too little memory for the request
├── NotReady              The service is temporarily unavailable
├── GenerationFailed      The model ran, but its output is unusable
│   └── RankLost          A process of a multi-GPU group exited or stopped responding
├── SnapshotRejected      A job can't be resumed from its snapshot; the generation restarts
└── StorageFailed         A file could not be written or read back
    └── DiskFull          The disk has too little space left
"""

import errno
from collections.abc import Sequence
from typing import Any, ClassVar


class Wan22Error(Exception):
    """An error with a message, a code and suggestions for the client."""

    category: ClassVar[str] = "internal"
    """Broad kind of error: `error.type` in the interface."""
    default_code: ClassVar[str] = "internal_error"
    default_can_retry: ClassVar[bool] = False

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str | None = None,
        param: str | None = None,
        suggestions: Sequence[str] = (),
        can_retry: bool | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        """Stores what the client is to see.

        Args:
            message: What was wrong and what was expected; by default the first line of the class's docstring.
            code: Stable snake_case identifier for programs.
            param: Name of the invalid field or key.
            suggestions: Possible fixes, one sentence each.
            can_retry: Whether the same request may succeed later.
            retry_after_seconds: Time after which the client may repeat the request; None if it is unknown.
        """
        self.message = message or (self.__doc__ or "").split("\n")[0]
        self.code = code or self.default_code
        self.param = param
        self.suggestions = list(suggestions)
        self.can_retry = self.default_can_retry if can_retry is None else can_retry
        self.retry_after_seconds = retry_after_seconds
        super().__init__(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        """Supports pickling, because errors cross process boundaries."""
        given: dict[str, Any] = {"code": self.code, "param": self.param, "suggestions": self.suggestions}
        given["can_retry"] = self.can_retry
        given["retry_after_seconds"] = self.retry_after_seconds
        return _rebuild, (type(self), self.message, given)

    def to_dict(self) -> dict[str, Any]:
        """Returns the `error` object of an HTTP error response."""
        return {
            "type": self.category,
            "code": self.code,
            "message": self.message,
            "param": self.param,
            "suggestions": self.suggestions,
            "can_retry": self.can_retry,
        }


def _rebuild(kind: type[Wan22Error], message: str, given: dict[str, Any]) -> Wan22Error:
    return kind(message, **given)


class InvalidRequest(Wan22Error):
    """The request is invalid."""

    category = "invalid_request"
    default_code = "invalid_request"


class ConfigurationError(Wan22Error):
    """The service's configuration is wrong."""

    category = "invalid_request"
    default_code = "invalid_configuration"


class NotFound(Wan22Error):
    """The resource does not exist."""

    category = "not_found"
    default_code = "not_found"


class Conflict(Wan22Error):
    """The resource's state does not allow this operation."""

    category = "conflict"
    default_code = "conflict"


class PayloadTooLarge(Wan22Error):
    """The request is larger than this service accepts."""

    category = "invalid_request"
    default_code = "payload_too_large"


class ModelMissing(Wan22Error):
    """The model's files are not on this machine."""

    category = "model_loading"
    default_code = "model_missing"


class DownloadFailed(Wan22Error):
    """The model's files could not be downloaded."""

    category = "model_loading"
    default_code = "download_failed"


class ModelCorrupted(Wan22Error):
    """The model's files can't be loaded."""

    category = "model_loading"
    default_code = "model_corrupted"


class OutOfMemory(Wan22Error):
    """The device ran out of memory."""

    category = "capacity"
    default_code = "out_of_memory"
    codes: ClassVar[tuple[str, ...]] = (default_code, "cuda_oom", "vram_insufficient", "ram_insufficient")
    """All codes of this error, by which its stored form is recognized."""


class NotReady(Wan22Error):
    """The service is temporarily unavailable."""

    category = "capacity"
    default_code = "not_ready"
    default_can_retry = True


class GenerationFailed(Wan22Error):
    """The model ran, but its output is unusable."""

    category = "generation"
    default_code = "generation_failed"


class RankLost(GenerationFailed):
    """A process of the multi-GPU group exited or stopped responding."""

    default_code = "rank_lost"
    default_can_retry = True


class SnapshotRejected(Wan22Error):
    """The snapshot can't be used to resume the job."""

    category = "generation"
    default_code = "snapshot_refused"


class StorageFailed(Wan22Error):
    """A file could not be written or read back."""

    category = "storage"
    default_code = "storage_failed"
    default_can_retry = True


class DiskFull(StorageFailed):
    """The disk has too little space left."""

    default_code = "disk_full"


def storage_failed(
    message: str, cause: BaseException, *, code: str | None = None, suggestions: Sequence[str] = ()
) -> StorageFailed:
    """Returns the error for a file that could not be written: `DiskFull` if its disk has no space left.

    Args:
        message: What failed.
        cause: The error of the operating system or of a library.
        code: Code of the error, unless the disk is full.
        suggestions: Possible fixes, one sentence each.
    """
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(message, suggestions=suggestions)
    return StorageFailed(message, code=code, suggestions=suggestions)
