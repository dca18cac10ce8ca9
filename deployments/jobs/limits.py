"""Limits on clients, and the account to which the jobs and uploads of a request are charged."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wan22_bridge.errors import InvalidRequest, NotReady, Wan22Error
from wan22_bridge.sizing import size_for_aspect
from wan22_bridge.types import GenerationParams


class ClientLimits(BaseModel):
    """Limits on one client: on a key, on the owner of keys, or on an address. `null` removes a limit."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    requests_per_minute: int | None = Field(default=6000, ge=1)
    """Maximum rate of requests of a key, and of an address. A client may send a minute's requests at once. Messages to
    WebSockets count as requests. Health checks do not count, and requests that cancel or delete jobs count by
    themselves."""
    open_sockets: int | None = Field(default=100, ge=1)
    """Maximum number of open WebSockets of a key, and of an address."""
    open_streams: int | None = Field(default=100, ge=1)
    """Maximum number of open responses that wait for a job, of a key, and of an address: Server-Sent Events,
    `/v1/videos/sync`, and waiting tools of the MCP server."""
    open_downloads: int | None = Field(default=50, ge=1)
    """Maximum number of files of 1 MB or more that are being sent to a key, and to an address."""
    open_uploads: int | None = Field(default=50, ge=1)
    """Maximum number of requests of a key, and of an address, whose bodies are still arriving."""
    pending_jobs: int | None = Field(default=1000, ge=1)
    """Maximum number of pending jobs of an owner; of an address where keys are off."""
    uploads_per_day: int | None = Field(default=5000, ge=1)
    """Maximum number of files that an owner stores in a day: uploads, LoRAs, and inputs of jobs that are sent inside of
    requests, downloaded from a URL, or copied from a video. A day begins at 00:00 UTC."""
    upload_mb_per_day: float | None = Field(default=50_000, gt=0)
    """Maximum size of these files together in a day, in megabytes of 10^6 bytes."""
    gpu_seconds_per_day: float | None = Field(default=None, gt=0)
    """Time in a day for which generators work for an owner, after which new jobs are rejected. By default without a
    limit."""
    pixels_per_frame: int | None = Field(default=None, ge=1)
    """Maximum width times height of a video. By default the model's limit."""
    frames_per_video: int | None = Field(default=None, ge=1)
    """Maximum number of frames that a job generates, over all of its segments. By default the model's limit."""

    def replaced_by(self, own: Mapping[str, Any]) -> Self:
        """Returns these limits with some of them replaced, by their names."""
        return self.model_copy(update=dict(own))

    def check_video(self, params: GenerationParams) -> None:
        """Checks the size and the length of a video.

        Raises:
            InvalidRequest: the video is larger or longer than the limits allow.
        """
        pixels, frames = params.width * params.height, sum(part.num_frames for part in params.parts)
        if self.pixels_per_frame is not None and pixels > self.pixels_per_frame:
            width, height = size_for_aspect(params.width, params.height, self.pixels_per_frame, _SIZE_MULTIPLE)
            raise InvalidRequest(
                f"The video has {params.width}x{params.height} = {pixels} pixels, and the limit pixels_per_frame is "
                f"{self.pixels_per_frame}.",
                code="resolution_too_large",
                param="resolution",
                suggestions=[f"Use {width}x{height} or smaller."],
            )
        if self.frames_per_video is not None and frames > self.frames_per_video:
            raise InvalidRequest(
                f"The job generates {frames} frames, and the limit frames_per_video is {self.frames_per_video}.",
                code="too_many_frames",
                param="segments" if params.segments else "num_frames",
                suggestions=[f"Ask for at most {self.frames_per_video} frames."],
            )


_SIZE_MULTIPLE = 32
"""Multiple of the suggested width and height, which all models support."""
UNLIMITED = ClientLimits.model_validate(dict.fromkeys(ClientLimits.model_fields))
"""No limits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """The client to whom the jobs and uploads of a request are charged, and the limits on the request."""

    client: str = ""
    """Name of the owner; where keys are off, `address:` and the address."""
    limits: ClientLimits = UNLIMITED
    pending_jobs_overall: int | None = None
    """Maximum number of pending jobs of all clients."""


UNCHARGED = Account()
"""An account without limits. Jobs are then charged to their owner."""


class LimitExceeded(Wan22Error):
    """The client has reached a limit. `param` is the limit's name."""

    category = "rate_limit"
    default_code = "limit_exceeded"
    default_can_retry = True


class QueueFull(NotReady):
    """The queue has as many pending jobs as the service allows."""

    default_code = "queue_full"


def parse_limit(text: str) -> dict[str, Any]:
    """Parses a limit of a key in the form `NAME=VALUE`. The value `none` removes the limit.

    Raises:
        InvalidRequest: there is no such limit, or the value is not valid.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if name not in ClientLimits.model_fields or not equals:
        raise InvalidRequest(
            f"{text!r:.80} is no limit: expected NAME=VALUE.",
            param="limit",
            suggestions=[f"The names are {', '.join(ClientLimits.model_fields)}."],
        )
    try:
        limits = ClientLimits.model_validate({name: None if value.lower() == "none" else value})
    except ValidationError as exc:
        raise InvalidRequest(
            f"{name}: {exc.errors()[0]['msg']}, got {value!r:.40}.",
            param=name,
            suggestions=["Send a positive number, or none for no limit."],
        ) from exc
    return {name: getattr(limits, name)}
