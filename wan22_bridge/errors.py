"""What can go wrong, for programs and for people.

Wan22Error
├── InvalidRequest        what was asked can't be done; asking differently can
├── ConfigurationError    the service was set up wrongly
├── NotFound              no such job, video, upload or model
├── Conflict              the state it is in does not allow it
├── PayloadTooLarge       an upload or a body over the limit
├── ModelMissing          a model's files are not on this machine
├── DownloadFailed        they could not be fetched
├── ModelCorrupted        they are, and can't be loaded
├── OutOfMemory           the device was too small for the request
├── NotReady              the service can't work at the moment
├── GenerationFailed      the model ran and the result is unusable
├── SnapshotRefused       a broken-off generation can't be continued; it starts over
└── StorageFailed         a file could not be written or read back
"""

from collections.abc import Sequence
from typing import Any, ClassVar


class Wan22Error(Exception):
    """Something went wrong that this service understands."""

    category: ClassVar[str] = "internal"
    """The broad kind, `error.type` in the interface."""
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
    ) -> None:
        """Keeps what a client is told.

        Args:
            message: what was wrong and what was expected; the class's docstring by default.
            code: a stable snake_case word for programs.
            param: the field or key that is at fault.
            suggestions: what to do instead, a sentence each.
            can_retry: whether the very same request may work later.
        """
        self.message = message or (self.__doc__ or "").split("\n")[0]
        self.code = code or self.default_code
        self.param = param
        self.suggestions = list(suggestions)
        self.can_retry = self.default_can_retry if can_retry is None else can_retry
        super().__init__(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        """Survives pickling: exceptions cross process borders here."""
        return _rebuild, (type(self), self.message, self.code, self.param, self.suggestions, self.can_retry)

    def to_dict(self) -> dict[str, Any]:
        """The inner object of the interface's error body."""
        return {
            "type": self.category,
            "code": self.code,
            "message": self.message,
            "param": self.param,
            "suggestions": self.suggestions,
            "can_retry": self.can_retry,
        }


def _rebuild(
    kind: type[Wan22Error], message: str, code: str, param: str | None, suggestions: list[str], can_retry: bool
) -> Wan22Error:
    return kind(message, code=code, param=param, suggestions=suggestions, can_retry=can_retry)


class InvalidRequest(Wan22Error):
    """The request can't be carried out as it stands."""

    category = "invalid_request"
    default_code = "invalid_request"


class ConfigurationError(Wan22Error):
    """The service's configuration is wrong."""

    category = "invalid_request"
    default_code = "invalid_configuration"


class NotFound(Wan22Error):
    """There is no such thing here."""

    category = "not_found"
    default_code = "not_found"


class Conflict(Wan22Error):
    """The state it is in does not allow that."""

    category = "conflict"
    default_code = "conflict"


class PayloadTooLarge(Wan22Error):
    """The request is larger than this service takes."""

    category = "invalid_request"
    default_code = "payload_too_large"


class ModelMissing(Wan22Error):
    """The model's files are not on this machine."""

    category = "model_loading"
    default_code = "model_missing"


class DownloadFailed(Wan22Error):
    """The model could not be fetched."""

    category = "network"
    default_code = "download_failed"


class ModelCorrupted(Wan22Error):
    """The model's files can't be loaded."""

    category = "model_loading"
    default_code = "model_corrupted"


class OutOfMemory(Wan22Error):
    """The device ran out of memory."""

    category = "capacity"
    default_code = "out_of_memory"


class NotReady(Wan22Error):
    """The service can't work at the moment."""

    category = "capacity"
    default_code = "not_ready"
    default_can_retry = True


class GenerationFailed(Wan22Error):
    """The model ran, and what it made is unusable."""

    category = "generation"
    default_code = "generation_failed"


class RankLost(GenerationFailed):
    """A process that denoised the video together with others broke off."""

    default_code = "rank_lost"
    default_can_retry = True


class SnapshotRefused(Wan22Error):
    """The snapshot can't be used."""

    category = "generation"
    default_code = "snapshot_refused"


class StorageFailed(Wan22Error):
    """A file could not be written or read back."""

    category = "storage"
    default_code = "storage_failed"
    default_can_retry = True
