"""A request before it is resolved: what the client set, and its inputs."""

from dataclasses import dataclass

from wan22_bridge.options import GenerationOptions
from wan22_bridge.requests.model_choice import AUTO
from wan22_bridge.types import LoraUse


@dataclass(frozen=True, kw_only=True, slots=True)
class InputImage:
    """An image among a request's inputs."""

    key: str
    """The file's key in the storage."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InputVideo:
    """A video among a request's inputs."""

    key: str
    """The file's key in the storage."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    num_frames: int
    fps: float
    """Frames per second; 0 if the file does not state them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestedSegment:
    """A segment of a long video, as a client asks for it."""

    prompt: str
    num_frames: int | None = None
    """None takes the frames of the request."""
    seed: int | None = None
    """None derives a seed from the request's, or draws one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationRequest(GenerationOptions[None]):
    """A request for a video. An option that is None is left open: `resolve_params` decides it."""

    prompt: str
    model: str = AUTO
    """A model's id or type in any case, or `auto`."""
    resolution: str | None = None
    """WIDTHxHEIGHT in pixels, or a class of sizes such as `720p`. None follows the shape of the input, if there is one,
    else the model's own size."""
    aspect_ratio: str | None = None
    """Shape as WIDTH:HEIGHT, such as `16:9`. With it, the size is the model's own of that shape."""
    seconds: float | None = None
    """Length of the video, used if `num_frames` is None."""
    preset: str | None = None
    """Name of one of the model's presets, which decides options that the request leaves open."""
    loras: tuple[LoraUse, ...] = ()
    image: InputImage | InputVideo | None = None
    """The first frame. If it is a video, the new video continues it from its last frame."""
    end_image: InputImage | None = None
    """The last frame."""
    video: InputVideo | None = None
    """The input of video-to-video."""
    segments: tuple[RequestedSegment, ...] = ()
    """Parts of a long video."""
    joined: bool = False
    """Whether a continuation begins with the video that it continues."""
